"""The small bundle's face models: crops as insightface's, files as the networks, training that can be interrupted."""

import dataclasses
import json
import warnings

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from instantid.faces import FaceAnalyser
from ip_adapter.errors import MachineError, UserError
from training.face_pack.__main__ import build_parser, main, train_face_pack
from training.face_pack.alignment import aligned, inverse, moved, similarity
from training.face_pack.checks import found, named, top_one
from training.face_pack.collages import Layout, collages
from training.face_pack.course import Course, train
from training.face_pack.detector import OUTPUTS, Detector, anchors, decoded
from training.face_pack.detector_loss import Faces, detector_loss, duty, overlaps
from training.face_pack.dice import Dice
from training.face_pack.embedder import Embedder
from training.face_pack.export import FILES, as_onnx, export_face_pack
from training.face_pack.export import main as export_main
from training.face_pack.measure import point_errors
from training.face_pack.measure import top_one as measured_top_one
from training.face_pack.pool import Pool, PoolSize
from training.face_pack.recognisers import Recogniser, Scorer
from training.face_pack.spoiling import compressed, spoiled
from training.face_pack.stages import JUDGES, PACK, STAGES, Stage, run_stage, weights_file
from training.face_pack.train_detector import DetectorOptions, DetectorTask
from training.face_pack.train_recogniser import RECOGNISER, SCORER, RecogniserTask, few_people
from training.face_pack.train_traits import TraitOptions, TraitTask
from training.face_pack.traits import CLASSES, TraitClassifier
from training.face_pack.weights import save_weights
from training.face_world import people, render, scenes, seeds
from training.journal import read_rows

CPU = torch.device("cpu")
FEW = PoolSize(64, 8, 0)
NETWORKS = {"detector": Detector, "recogniser": Recogniser, "scorer": Scorer, "traits": TraitClassifier}
INPUTS = {
    "detector": (1, 3, 96, 64),
    "recogniser": (2, 3, 112, 112),
    "scorer": (2, 3, 112, 112),
    "traits": (2, 3, 128, 128),
}
TASKS = {
    "detector": lambda: DetectorTask(DetectorOptions(pools=(FEW,), layouts=(Layout(64, 1, 4),)), CPU),
    "recogniser": lambda: RecogniserTask(few_people(RECOGNISER), CPU),
    "scorer": lambda: RecogniserTask(few_people(SCORER), CPU),
    "traits": lambda: TraitTask(TraitOptions(FEW, batch=4), CPU),
}
SHORT = {
    "detector": Course(16, 3e-3, warm_up=1, log_every=4, weight_decay=0.0),
    "recogniser": Course(6, 3e-4, warm_up=1, log_every=2, weight_decay=0.0),
    "scorer": Course(6, 3e-4, warm_up=1, log_every=2, weight_decay=0.0),
    "traits": Course(6, 3e-3, warm_up=1, log_every=2, weight_decay=0.0),
}


@pytest.fixture(scope="module")
def drawn():
    """Six people in pictures of 128 pixels."""
    return render(people(range(6), seeds.FACE_PACK_CHECK), scenes(range(6), seeds.FACE_PACK_CHECK), 128)


@pytest.fixture(scope="module")
def used():
    """The four networks with batch norms that have seen something."""
    torch.manual_seed(0)
    networks = {name: network() for name, network in NETWORKS.items()}
    for name, network in networks.items():
        for _ in range(3):
            network(torch.randn(4, *INPUTS[name][1:]) * 0.7 + 0.2)
        network.eval()
    return networks


def pixels(picture):
    return (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


# --- Aligned crops


def test_crops_are_those_of_insightface(drawn):
    from insightface.utils.face_align import norm_crop

    rounded = (drawn.picture * 255).round()
    ours = aligned(rounded, drawn.key_points)
    for i, crop in enumerate(ours):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # insightface's, about scikit-image
            theirs = norm_crop(pixels(drawn.picture[i]), drawn.key_points[i].numpy())
        difference = np.abs(crop.permute(1, 2, 0).numpy() - theirs)
        # They round to whole numbers; OpenCV before 5 also rounds where it looks, to a 32nd of a pixel.
        assert difference.max() < (1.0 if int(cv2.__version__.split(".")[0]) >= 5 else 8.0)
        assert difference.mean() < 0.8


def test_the_similarity_is_found_again_from_moved_points():
    wanted = torch.tensor([[1.0, 2.0], [5.0, -1.0], [4.0, 7.0]])
    matrix = torch.tensor([[[1.2, -0.5, 3.0], [0.5, 1.2, -7.0]]])
    torch.testing.assert_close(similarity(moved(wanted[None], inverse(matrix)), wanted), matrix)


def test_embeddings_are_those_of_insightface_with_the_exported_file(drawn, used, tmp_path):
    for name in FILES:
        save_weights(used[name], weights_file(tmp_path, name))
    export_face_pack(tmp_path)
    analyser = FaceAnalyser(tmp_path / "bundle" / "antelopev2")
    recogniser = analyser._app.models["recognition"]
    ours = Embedder.load(weights_file(tmp_path, "recogniser")).embed(drawn.picture, drawn.key_points)
    face = type("Detected", (), {})()
    for i in range(len(ours)):
        face.kps = drawn.key_points[i].numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = recogniser.get(pixels(drawn.picture[i])[..., ::-1], face)
        assert np.corrcoef(ours[i].numpy(), theirs)[0, 1] > 0.999


def test_a_large_batch_is_embedded_as_its_parts_are(drawn, used, monkeypatch):
    whole = Embedder(used["recogniser"]).embed(drawn.picture, drawn.key_points)
    monkeypatch.setattr("training.face_pack.embedder.AT_ONCE", 4)
    torch.testing.assert_close(Embedder(used["recogniser"]).embed(drawn.picture, drawn.key_points), whole)


@pytest.mark.parametrize("content", [None, b"no weights", "scorer"])
def test_weights_of_something_else_are_refused(content, used, tmp_path):
    file = tmp_path / "recogniser.safetensors"
    if content == "scorer":
        save_weights(used["scorer"], file)
    elif content:
        file.write_bytes(content)
    with pytest.raises(UserError, match="does not hold the weights of Recogniser"):
        Embedder.load(file)


# --- Files


@pytest.mark.parametrize("name", NETWORKS)
def test_the_exported_file_says_what_the_network_says(name, used):
    network, shape = used[name], INPUTS[name]
    model = as_onnx(network)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.randn(shape)
    said = session.run(None, {"input": x.numpy()})
    with torch.no_grad():
        wanted = network(x)
    if name == "detector":
        widths = [width for width in OUTPUTS.values() for _ in range(3)]
        wanted = [y.permute(0, 2, 3, 1).reshape(-1, width) for y, width in zip(wanted, widths)]
        wanted = [y.sigmoid() if i < 3 else y for i, y in enumerate(wanted)]
    elif name == "traits":
        wanted = [y.softmax(1) for y in wanted]
    else:
        wanted = [wanted]
    for ours, theirs in zip(wanted, said, strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 0.02 * np.abs(theirs).max()  # weights are kept in half precision


def test_the_files_are_small(used):
    sizes = {name: len(as_onnx(network).SerializeToString()) for name, network in used.items()}
    limits = {"detector": 2.0e6, "recogniser": 3.5e6, "scorer": 3.5e6, "traits": 0.5e6}
    assert {name: size for name, size in sizes.items() if size > limits[name]} == {}


def test_the_names_of_the_classes_are_in_the_file(used):
    session = onnxruntime.InferenceSession(
        as_onnx(used["traits"]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    kept = session.get_modelmeta().custom_metadata_map
    assert [output.name for output in session.get_outputs()] == list(CLASSES)
    assert {name: json.loads(kept[name]) for name in CLASSES} == {name: list(names) for name, names in CLASSES.items()}


def test_an_unknown_layer_is_not_exported_in_silence():
    with pytest.raises(NotImplementedError, match="Tanh"):
        as_onnx(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh()))


# --- The detector


def test_insightface_reads_places_as_the_decoder_does(used, tmp_path):
    import onnx
    from insightface.model_zoo import get_model

    onnx.save(as_onnx(used["detector"]), str(tmp_path / "scrfd.onnx"))
    detector = get_model(str(tmp_path / "scrfd.onnx"), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    scores, boxes, points = (np.concatenate(parts) for parts in detector.forward(picture, 0.0))
    x = (torch.tensor(picture[..., ::-1].copy()).permute(2, 0, 1)[None] - 127.5) / 128
    with torch.no_grad():
        answers = decoded(used["detector"](x), anchors(64, 96))
    np.testing.assert_allclose(scores[:, 0], answers.scores.sigmoid()[0], atol=1e-3)
    np.testing.assert_allclose(boxes, answers.boxes[0], atol=0.2)
    np.testing.assert_allclose(points, answers.key_points[0], atol=0.2)


def test_right_answers_cost_next_to_nothing_and_wrong_ones_more():
    at = anchors(128, 128)
    boxes = torch.tensor([[[20.0, 30.0, 60.0, 80.0], [70.0, 70.0, 90.0, 92.0]]])
    points = torch.rand(1, 2, 5, 2) * 20 + boxes[..., None, :2]
    faces = Faces(boxes, points, torch.tensor([[True, True]]))
    told = duty(at, faces)
    maps = perfect_maps(at, faces, told)
    right = detector_loss(decoded(maps, at), at, faces)
    shifted = tuple(m + 0.3 if i > 5 else m for i, m in enumerate(maps))
    assert right < 1e-3
    assert detector_loss(decoded(shifted, at), at, faces) > right + 0.1


def perfect_maps(at, faces, told):
    """Nine maps that say exactly where the faces are."""
    size, maps, start = 128, {name: [] for name in OUTPUTS}, 0
    for stride in (8, 16, 32):
        side, count = size // stride, 2 * (size // stride) ** 2
        part = slice(start, start + count)
        start += count
        face, centre = told.face[0, part], at.centres[part]
        box = faces.boxes[0, face]
        values = {
            "score": torch.where(told.positive[0, part], 20.0, -20.0)[:, None],
            "bbox": torch.cat([centre - box[:, :2], box[:, 2:] - centre], 1) / stride,
            "kps": ((faces.key_points[0, face] - centre[:, None]) / stride).flatten(1),
        }
        for name, value in values.items():
            maps[name].append(value.view(1, side, side, -1).permute(0, 3, 1, 2))
    return tuple(m for parts in maps.values() for m in parts)


@pytest.mark.parametrize("height", [12, 23, 45, 91, 182, 350, 600])
def test_faces_of_every_size_have_an_anchor(height):
    at = anchors(640, 640)
    corner = torch.tensor([13.0, 17.0])
    box = torch.cat([corner, corner + torch.tensor([0.8, 1.0]) * height])[None, None]
    told = duty(at, Faces(box, torch.zeros(1, 1, 5, 2), torch.tensor([[True]])))
    assert 1 <= told.positive.sum() <= 60


def test_an_empty_place_asks_for_no_answer():
    at = anchors(64, 64)
    told = duty(at, Faces(torch.tensor([[[8.0, 8.0, 40.0, 40.0]]]), torch.zeros(1, 1, 5, 2), torch.tensor([[False]])))
    assert not (told.positive | told.doubtful).any()


def test_overlaps_of_known_boxes():
    first = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    second = torch.tensor([[1.0, 0.0, 3.0, 2.0], [3.0, 0.0, 4.0, 1.0]])
    plain, generalised = overlaps(first, second)
    torch.testing.assert_close(plain, torch.tensor([1 / 3, 0.0]))
    torch.testing.assert_close(generalised, torch.tensor([1 / 3, -0.5]))


# --- What is seen in training


def test_key_points_of_collages_are_where_they_are_in_the_pictures():
    pool = marked_pool()
    layout = Layout(256, 2, 3)
    pictures, faces = collages(pool, layout, Dice(CPU, "marks"))
    inside = faces.there[..., None] & ((faces.key_points > 4) & (faces.key_points < 252)).all(-1)
    assert inside.sum() > 20
    eyes = torch.linalg.vector_norm(faces.key_points[:, :, 1] - faces.key_points[:, :, 0], dim=-1)
    for i, j, k in inside.nonzero().tolist():
        if eyes[i, j] < 30:
            continue  # the mark is too small to be seen
        x, y = faces.key_points[i, j, k].floor().int().tolist()
        near = pictures[i, :, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        assert near.amax((1, 2)).mean() - pictures[i].mean() > 0.15


def marked_pool():
    """Dark pictures with a light square at each key point."""
    pool = Pool(PoolSize(128, 8, 0), 5, CPU)
    pool.go_to(0)
    pool._pictures.fill_(10)
    for picture, points in zip(pool._pictures, pool._key_points.round().int()):
        for x, y in points.clamp(4, 123).tolist():
            picture[:, y - 4 : y + 4, x - 4 : x + 4] = 250
    return pool


def test_a_pool_holds_the_same_pictures_whether_it_came_there_step_by_step_or_at_once():
    size = PoolSize(64, 8, 3, 5)
    walked, jumped = Pool(size, 7, CPU), Pool(size, 7, CPU)
    for step in (0, 1, 2, 5):
        walked.go_to(step)
    jumped.go_to(5)
    for name in ("_pictures", "_key_points", "_boxes", "_labels"):
        assert torch.equal(getattr(walked, name), getattr(jumped, name))


def test_a_pool_goes_on_to_new_pictures_and_keeps_some():
    pool = Pool(PoolSize(64, 16, 4), 7, CPU)
    pool.go_to(0)
    before = set(pool._labels[:, 0].tolist())
    pool.go_to(2)
    assert set(pool._labels[:, 0].tolist()) == set(range(8, 24))
    assert before == set(range(16))


def test_most_pictures_are_spoiled_and_stay_pictures(drawn):
    pictures = drawn.picture.repeat(8, 1, 1, 1)
    spoilt = spoiled(pictures, Dice(CPU, 1), 1.0)
    assert spoilt.min() >= 0
    assert spoilt.max() <= 1
    changes = (spoilt - pictures).abs().mean((1, 2, 3))
    assert 0.1 < (changes == 0).float().mean() < 0.5
    assert changes[changes > 0].min() > 0.002


def test_compression_changes_the_last_third_a_little(drawn):
    pictures = compressed(drawn.picture, Dice(CPU, 1))
    assert torch.equal(pictures[:4], drawn.picture[:4])
    assert 0 < (pictures[4:] - drawn.picture[4:]).abs().mean() < 0.1


# --- Training


@pytest.mark.parametrize("name", TASKS)
def test_a_few_steps_lower_the_loss(name, tmp_path):
    train(TASKS[name](), SHORT[name], tmp_path / name, CPU, write=lambda line: None)
    losses = [row["loss"] for row in read_rows(tmp_path / name / "log.jsonl")]
    assert losses[-1] < 0.9 * losses[0]


def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(tmp_path):
    course = Course(steps=4, learning_rate=1e-3, log_every=1, checkpoint_every=0)
    whole, first, rest = (TASKS["traits"]() for _ in range(3))
    train(whole, course, tmp_path / "whole", CPU, write=lambda line: None)
    original = first.loss

    def killed(step, progress):
        if step == 2:
            raise KeyboardInterrupt
        return original(step, progress)

    first.loss = killed
    with pytest.raises(KeyboardInterrupt):
        train(first, course, tmp_path / "parts", CPU, write=lambda line: None)
    assert train(rest, course, tmp_path / "parts", CPU, write=lambda line: None) == 4
    for ours, theirs in zip(whole.network.state_dict().values(), rest.network.state_dict().values()):
        assert torch.equal(ours, theirs)
    logs = [[row["loss"] for row in read_rows(tmp_path / name / "log.jsonl")] for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_the_course_ends_when_its_minutes_are_over():
    course = Course(steps=1000, learning_rate=1.0, minutes=2.0, warm_up=1)
    assert course.progress(10, 60.0) == 0.5
    assert course.progress(900, 60.0) == 0.9
    assert course.progress(10, 180.0) == 1.0
    assert course.rate(10, 1.0) == pytest.approx(0.0)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    task = TASKS["traits"]()
    task.loss = lambda step, progress: sum(weight.sum() for weight in task.network.parameters()) * torch.nan
    with pytest.raises(MachineError, match="not a finite number"):
        train(task, Course(steps=2, learning_rate=1e-3, log_every=1), tmp_path, CPU, write=lambda line: None)


def test_a_finished_stage_is_left_alone(tmp_path):
    def never(device):
        raise AssertionError("trained again")

    file = weights_file(tmp_path, "traits")
    save_weights(TraitClassifier(), file)
    stage = dataclasses.replace(STAGES["traits"], task=never)
    assert run_stage("traits", tmp_path, 1.0, CPU, stages={"traits": stage}) == file


def test_a_stage_leaves_weights_that_can_be_exported(tmp_path):
    lines = []
    stage = Stage(TraitClassifier, lambda device: TASKS["traits"](), Course(2, 1e-3), lambda n, d: "checked")
    file = run_stage("traits", tmp_path, 0.0, CPU, write=lines.append, stages={"traits": stage})
    assert file.is_file()
    assert lines == ["traits: 2 steps, held-out checked"]


def test_an_unknown_stage_is_named(tmp_path):
    with pytest.raises(UserError, match="detector, recogniser, scorer, traits"):
        run_stage("eyes", tmp_path, 1.0, CPU)


def test_on_a_gpu_they_are_trained_side_by_side_and_one_that_fails_is_named(tmp_path, monkeypatch):
    started = []

    class Process:
        def __init__(self, command):
            started.append(command)
            self.wait = lambda: int("scorer" in command)

    monkeypatch.setattr("training.face_pack.__main__.subprocess.Popen", Process)
    with pytest.raises(MachineError, match=r"end: scorer;"):
        train_face_pack(tmp_path, 3.0, torch.device("cuda"), {name: STAGES[name] for name in JUDGES})
    parsed = [build_parser().parse_args(command[3:]) for command in started]
    assert [(one.stage, one.minutes, one.output) for one in parsed] == [(name, 3.0, tmp_path) for name in JUDGES]


@pytest.fixture
def finished(used, tmp_path):
    """The folder of a run whose stages are all done."""
    for name in FILES:
        save_weights(used[name], weights_file(tmp_path, name))
    return tmp_path


def test_the_command_writes_the_files_of_the_bundle_when_all_stages_are_done(finished, capsys):
    assert main(["--output", str(finished), "--device", "cpu"]) == 0
    assert all((finished / "bundle" / file).is_file() for file in FILES.values())
    assert "glintr100.onnx: 3." in capsys.readouterr().out


def test_only_the_networks_that_are_named_are_exported(used, tmp_path):
    for name in PACK:
        save_weights(used[name], weights_file(tmp_path, name))
    assert export_face_pack(tmp_path, names=PACK) == [tmp_path / "bundle" / FILES[name] for name in PACK]
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == ["antelopev2"]


def test_without_onnx_the_command_says_how_to_export_elsewhere(finished, capsys, monkeypatch):
    monkeypatch.setattr("training.face_pack.__main__.importlib.util.find_spec", lambda name: None)
    assert main(["--output", str(finished), "--device", "cpu"]) == 0
    assert "python -m training.face_pack.export --output" in capsys.readouterr().out


def test_exporting_without_weights_says_how_to_train_them(tmp_path, capsys):
    assert export_main(["--output", str(tmp_path)]) == 2
    assert "python -m training.face_pack" in capsys.readouterr().err


def test_checkpoints_of_another_network_are_refused(tmp_path):
    quiet = {"folder": tmp_path, "device": CPU, "write": lambda line: None}
    train(TASKS["traits"](), Course(1, 1e-3), **quiet)
    with pytest.raises(UserError, match="of another network"):
        train(TASKS["detector"](), Course(2, 1e-3), **quiet)


def test_a_person_without_a_face_is_nobody():
    known = torch.eye(3)
    assert measured_top_one(torch.cat([known, known])) == 1.0
    assert measured_top_one(torch.cat([known, torch.zeros(3, 3)])) == 0.0
    assert measured_top_one(torch.cat([known, known.roll(1, 0)])) == 0.0


def test_the_error_of_key_points_is_in_distances_of_the_eyes():
    true = torch.tensor([[[10.0, 10.0], [30.0, 10.0], [20.0, 20.0], [14.0, 30.0], [26.0, 30.0]]])
    torch.testing.assert_close(point_errors(true + torch.tensor([3.0, 4.0]), true), torch.tensor([5 / 20]))


def test_the_quick_figures_of_untrained_networks_are_those_of_chance(used):
    assert top_one(used["recogniser"], CPU, 6) < 0.9
    assert found(used["detector"], CPU, 2)[0] < 0.5
    assert set(named(used["traits"], CPU, 4)) == set(CLASSES)
