"""The small bundle's detector: what it is to say, and the pictures that it learns from."""

import numpy as np
import pytest
import torch
from face_networks import CPU, drawn_people, used_networks

from training.face_pack.collages import Layout, collages
from training.face_pack.detector import OUTPUTS, anchors, decoded
from training.face_pack.detector_loss import Faces, detector_loss, duty, overlaps
from training.face_pack.dice import Dice
from training.face_pack.export import as_onnx
from training.face_pack.pool import Pool, PoolSize
from training.face_pack.spoiling import compressed, spoiled


@pytest.fixture(scope="module")
def drawn():
    return drawn_people()


@pytest.fixture(scope="module")
def used():
    return used_networks()


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


# What is seen in training


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
