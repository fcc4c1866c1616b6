"""Training data: pictures prepared whatever they are, pairs of one person, and what the model gets to see of them."""

import json
import shutil

import insightface.data
import numpy as np
import pytest
import torch
from face_photos import person
from PIL import Image
from tiny_training import SIZES

from instantid.bundle import open_bundle, open_untrained_bundle
from instantid.faces import FaceAnalyser
from instantid.loading import load_bundle
from ip_adapter.errors import UserError
from training import prepare_faces as preparing
from training import train_identity
from training.data import FaceDataset, cropped, example_numbers, file_source, held_out, joined, view_of
from training.draws import DropRates, draw
from training.face_index import FaceRecord, read_index, to_row
from training.journal import append_row, keep_rows, read_rows
from training.latents import LatentCache, latents_of, moments_of
from training.prepare_faces import Prepared, prepare_faces

CANVAS = (96, 64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ana twice, Bo twice, one picture of nobody known, one without a face and one that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("ana", "bo"):
        (folder / name).mkdir()
    person(90).save(folder / "ana" / "1.jpg")
    person(70, size=(200, 128)).save(folder / "ana" / "2.png")
    person(80, skin=(150, 100, 75)).save(folder / "bo" / "1.jpg")
    person(60, skin=(150, 100, 75), background=(90, 90, 30)).save(folder / "bo" / "2.jpg")
    person(100, background=(10, 80, 40)).save(folder / "someone.jpg")
    Image.new("RGB", (120, 90), "navy").save(folder / "nobody.png")
    (folder / "torn.jpg").write_bytes(b"no picture at all")
    (folder / "ana" / "1.txt").write_text("a person\nin the snow\n")
    rows = [{"file_name": "bo/1.jpg", "text": "watercolour"}, {"file_name": "someone.jpg", "text": "noir"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def face_pack(random_bundle):
    return open_untrained_bundle(random_bundle).face_pack


@pytest.fixture(scope="module")
def data(pictures, face_pack, tmp_path_factory):
    """The folder that was prepared from `pictures`."""
    folder = tmp_path_factory.mktemp("data")
    prepare_faces(pictures, face_pack, folder, write=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def records(data):
    return read_index(data)


def by_name(records):
    return {"/".join(record.file.split("/")[-2:]): record for record in records}


# Preparing


def test_captions_come_from_text_files_and_from_metadata(records):
    captions = {name.split("/", 1)[1]: record.caption for name, record in by_name(records).items() if "ana" in name}
    assert captions == {"1.jpg": "a person in the snow", "2.png": ""}
    assert by_name(records)["bo/1.jpg"].caption == "watercolour"


def test_a_sub_folder_is_a_person_and_a_picture_outside_is_one_of_its_own(records):
    people = [record.person for record in records]
    assert people.count("ana") == people.count("bo") == 2
    assert len(set(people)) == 3


def test_what_is_prepared_is_what_the_analyser_finds(records, data, face_pack):
    record = by_name(records)["ana/2.png"]
    face = FaceAnalyser(face_pack).analyse(Image.open(data / record.file).convert("RGB"))
    assert np.array_equal(record.embedding, face.embedding)
    np.testing.assert_allclose(record.key_points, face.key_points, atol=0.01)
    np.testing.assert_allclose(record.box, face.box, atol=0.01)
    assert record.size == (200, 128)


def test_pictures_that_cannot_be_used_are_listed_with_the_reason(data):
    skipped = {row["file"].rsplit("/", 1)[1]: row for row in read_rows(data / "skipped.jsonl")}
    assert {name: row["code"] for name, row in skipped.items()} == {
        "nobody.png": "faces.none",
        "torn.jpg": "photo.unreadable",
    }
    assert "120 × 90" in skipped["nobody.png"]["reason"]


def test_a_preparation_that_was_stopped_goes_on_where_it_was(pictures, face_pack, data, tmp_path_factory, monkeypatch):
    stopped, seen, analyse = tmp_path_factory.mktemp("stopped"), [], FaceAnalyser.analyse
    shutil.copytree(data, stopped, dirs_exist_ok=True)  # beside it: the same names lead to the same pictures
    lines = (data / "faces.jsonl").read_text().splitlines(keepends=True)
    (stopped / "faces.jsonl").write_text("".join(lines[:3]) + lines[3][:100])  # while it wrote the fourth
    monkeypatch.setattr(FaceAnalyser, "analyse", lambda self, photo: seen.append(photo) or analyse(self, photo))
    prepared = prepare_faces(pictures, face_pack, stopped, write=lambda line: None)
    assert len(seen) == len(lines) - 3
    assert (stopped / "faces.jsonl").read_text().splitlines(keepends=True) == lines
    assert prepared == Prepared(pictures=5, people=3, people_with_several=2, without_caption=2, skipped=2)


def test_metadata_may_name_the_person(pictures, face_pack, tmp_path):
    shutil.copy(pictures / "someone.jpg", tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "someone.jpg", "person": "carla"}\n')
    prepare_faces(tmp_path, face_pack, tmp_path / "data", write=lambda line: None)
    assert [record.person for record in read_index(tmp_path / "data")] == ["carla"]


def test_metadata_that_cannot_be_read_is_named_with_its_line(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg"}\n["b.jpg"]\n')
    with pytest.raises(UserError, match=r"Line 2 of .*metadata\.jsonl"):
        preparing.read_metadata(tmp_path)


def test_a_photograph_of_several_people_gives_its_largest_face(face_pack, tmp_path):
    photo = Image.fromarray(insightface.data.get_image("t1")[..., ::-1])
    photo.save(tmp_path / "t1.png")
    faces = FaceAnalyser(face_pack).find(photo)
    prepare_faces(tmp_path, face_pack, tmp_path / "data", write=lambda line: None)
    (record,) = read_index(tmp_path / "data")
    assert len(faces) > 1
    np.testing.assert_allclose(record.box, faces[0].box, atol=0.01)


def test_a_folder_without_pictures_is_named(face_pack, tmp_path):
    with pytest.raises(UserError, match=tmp_path.name):
        prepare_faces(tmp_path, face_pack, tmp_path / "data")


def test_an_index_without_faces_says_how_to_prepare_them(tmp_path):
    with pytest.raises(UserError, match=r"training\.prepare_faces"):
        read_index(tmp_path)


def test_a_torn_row_does_not_count_and_goes_before_others_follow(tmp_path):
    file = tmp_path / "rows.jsonl"
    append_row(file, {"step": 1})
    append_row(file, {"step": 2})
    with file.open("a") as lines:
        lines.write('{"step": ')
    keep_rows(file, lambda row: row["step"] > 1)
    append_row(file, {"step": 3})
    assert list(read_rows(file)) == [{"step": 2}, {"step": 3}]


# What is seen of a picture


def record_of(size=(200, 100), box=(20, 10, 60, 50), person="ana", file="a.jpg", value=1.0):
    points = np.array([[30.0, 20], [50, 20], [40, 30], [32, 40], [48, 40]])
    return FaceRecord(file, "", person, size, points, np.array(box, float), np.full(512, value, np.float32))


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (40, 41), (961, 640)])
def test_the_key_points_move_with_the_picture(size):
    """A white dot on black, at the nose: it is where the key point says, whatever the picture's shape."""
    nose = (size[0] * 0.3, size[1] * 0.6)
    picture = Image.new("RGB", size)
    dot = max(size[0] // 20, 1)
    picture.paste("white", (round(nose[0]) - dot, round(nose[1]) - dot, round(nose[0]) + dot, round(nose[1]) + dot))
    box = (nose[0] - 8, nose[1] - 8, nose[0] + 8, nose[1] + 8)
    view = view_of(record_of(size, box), CANVAS)
    seen = cropped(picture, view)[0].numpy() + 1
    assert seen.shape == CANVAS[::-1]
    rows, columns = np.indices(seen.shape) + 0.5
    centre = (columns * seen).sum() / seen.sum(), (rows * seen).sum() / seen.sum()
    np.testing.assert_allclose(view.placement.points([nose])[0], centre, atol=1.5)


def test_a_square_stays_a_square():
    picture = Image.new("RGB", (300, 100))
    picture.paste("white", (130, 30, 170, 70))
    seen = cropped(picture, view_of(record_of((300, 100), (130, 30, 170, 70)), CANVAS))[0] > 0
    assert abs(seen.any(dim=0).sum().item() - seen.any(dim=1).sum().item()) <= 1


def test_the_face_is_in_the_middle_where_the_picture_allows_it():
    middle = view_of(record_of((300, 100), (130, 30, 170, 70)), (64, 64)).placement.points([(150, 50)])[0]
    at_the_edge = view_of(record_of((300, 100), (0, 30, 40, 70)), (64, 64)).placement
    np.testing.assert_allclose(middle, (32, 32), atol=1)
    assert at_the_edge.left == 0


def test_the_model_is_told_the_sizes():
    view = view_of(record_of((300, 100), (260, 30, 300, 70)), (64, 128))
    assert view.size_ids == (100, 300, 0, 300 * 1.28 - 64, 128, 64)


# Examples


@pytest.fixture
def people():
    """Ana with three pictures, Bo with one."""
    names = (("ana", "a"), ("ana", "b"), ("ana", "c"), ("bo", "d"))
    return [record_of(person=who, file=name, value=n) for n, (who, name) in enumerate(names)]


def test_the_identity_is_that_of_another_picture_of_the_same_person(people, tmp_path):
    dataset = FaceDataset(tmp_path, people, CANVAS)
    pairs = [dataset.pair(number) for number in range(80)]
    assert all(target.person == source.person for target, source in pairs)
    assert {(target.file, source.file) for target, source in pairs} == {
        *((a, b) for a in "abc" for b in "abc" if a != b),
        ("d", "d"),
    }


def test_every_round_shows_each_picture_once_and_in_another_order(people, tmp_path):
    dataset = FaceDataset(tmp_path, people, CANVAS)
    rounds = ["".join(dataset.pair(4 * turn + place)[0].file for place in range(4)) for turn in range(6)]
    assert {"".join(sorted(seen)) for seen in rounds} == {"abcd"}
    assert len(set(rounds)) > 1


def test_an_example_is_what_its_number_says(records, data):
    dataset = FaceDataset(data, records, CANVAS)
    target, source = dataset.pair(7)
    batch = dataset[7]
    assert batch.captions == [target.caption]
    assert np.array_equal(batch.embeddings[0].numpy(), source.embedding)
    assert batch.pixels.shape == batch.key_points.shape == (1, 3, *CANVAS[::-1])
    x, y = view_of(target, CANVAS).placement.points(target.key_points)[4].astype(int)
    assert batch.key_points[0, :, y, x].tolist() == [1, 0, 1]  # magenta: the corner of the mouth, drawn last
    left, top, right, bottom = batch.boxes[0].tolist()
    assert left < x < right
    assert top < y < bottom


def test_worker_processes_give_the_same_batches(records, data):
    dataset = FaceDataset(data, records, CANVAS)
    numbers = list(example_numbers(3, batches=2, batch_size=2))
    for batch, expected in zip(file_source(dataset, workers=1)(numbers), numbers, strict=True):
        alone = joined([dataset[number] for number in expected])
        assert torch.equal(batch.pixels, alone.pixels)
        assert torch.equal(batch.embeddings, alone.embeddings)


def test_two_processes_share_what_one_would_see():
    one = list(example_numbers(100, batches=3, batch_size=4))
    two = [list(example_numbers(100, 3, 2, processes=2, rank=rank)) for rank in (0, 1)]
    assert [first + second for first, second in zip(*two)] == one


def test_kept_latents_are_those_of_the_picture(models, records, data, tmp_path):
    vae, cache = models.pipeline.vae, LatentCache(tmp_path, data, CANVAS)
    cache.fill(records, vae)
    fresh = joined([FaceDataset(data, records, CANVAS)[number] for number in (0, 1)])
    kept = joined([FaceDataset(data, records, CANVAS, latents=cache)[number] for number in (0, 1)])
    draws = draw([0, 1], (4, 8, 12), 1000, DropRates(), 0)
    expected = latents_of(vae, moments_of(vae, fresh.pixels), draws)
    assert kept.pixels is None
    torch.testing.assert_close(latents_of(vae, kept.moments, draws), expected, rtol=2e-3, atol=2e-3)


def test_latents_that_are_kept_are_not_made_again(models, records, data, tmp_path):
    cache = LatentCache(tmp_path, data, CANVAS)
    cache.fill(records, models.pipeline.vae)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    cache.fill(records, None)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")} == before
    assert len(before) == len(records)


def test_people_who_are_held_out_are_in_no_training_picture(people):
    training, held = held_out(people, 1, seed=3)
    assert len(training) + len(held) == len(people)
    assert {record.person for record in training}.isdisjoint(record.person for record in held)
    assert len({record.person for record in held}) == 1


def test_an_index_row_keeps_the_embedding_to_the_last_bit(tmp_path):
    record = record_of(value=np.float32(1) / 3)
    append_row(tmp_path / "faces.jsonl", to_row(record))
    assert np.array_equal(read_index(tmp_path)[0].embedding, record.embedding)


# The two commands


def test_from_pictures_to_a_bundle_by_the_two_commands(pictures, random_bundle, tmp_path, capsys):
    data, output = tmp_path / "data", tmp_path / "output"
    prepare = ["--pictures", pictures, "--bundle", random_bundle, "--output", data]
    assert preparing.main([str(word) for word in prepare]) == 0
    train = ["--bundle", random_bundle, "--data", data, "--output", output, "--size", "64x64", "--workers", "0"]
    train += ["--steps", 3, "--warmup", 1, "--validate-every", 2, "--validation-people", 1, "--validation-steps", 1]
    train += ["--checkpoint-every", 2, "--cache-latents", tmp_path / "latents"]
    train += [word for name, size in SIZES.items() for word in (f"--{name}", size)]
    assert train_identity.main([str(word) for word in train]) == 0
    bundle = open_bundle(output / "bundle", random_bundle / "base")
    assert str(output / "bundle") in capsys.readouterr().out
    assert load_bundle(bundle, write=lambda line: None).pipeline.image_proj_model.heads == SIZES["heads"]
    assert len(list(output.rglob("step-00000002/*.png"))) >= 1


def test_a_mistake_on_the_command_line_is_one_sentence(random_bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INSTANTID_LANGUAGE", "en")
    words = ["--bundle", random_bundle, "--data", tmp_path, "--output", tmp_path]
    assert train_identity.main([str(word) for word in words]) == 2
    assert capsys.readouterr().err.startswith("❌ “")
