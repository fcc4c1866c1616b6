"""The toy face models: what the hand-set detector finds and misses, and that the recogniser tells crops apart."""

import shutil

import cv2
import insightface.data
import numpy as np
import pytest
from insightface.app import FaceAnalysis

from instantid.random_face_pack import EMBEDDING_NORM, write_random_face_pack

NIGHT_BLUE, BLACK = (30, 40, 90), (0, 0, 0)
SKINS = {"pale": (255, 219, 172), "middle": (220, 170, 140), "brown": (150, 100, 75)}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_random_face_pack(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def analyser(pack, tmp_path_factory):
    """insightface's own, in the folder layout that all its versions read."""
    root = tmp_path_factory.mktemp("insightface")
    shutil.copytree(pack, root / "models" / "antelopev2")
    analyser = FaceAnalysis(
        name="antelopev2",
        root=str(root),
        allowed_modules=["detection", "recognition"],
        providers=["CPUExecutionProvider"],
    )
    analyser.prepare(ctx_id=0, det_size=(640, 640))
    return analyser


def portrait(height, centre=None, size=(640, 640), skin=SKINS["middle"], background=NIGHT_BLUE, width=0.8):
    """A BGR picture of `size` (width, height) with an ellipse of skin, dark eyes and a mouth; and the ellipse's box."""
    picture = np.full((size[1], size[0], 3), background, np.uint8)
    x, y = centre or (size[0] / 2, size[1] / 2)

    def ellipse(cx, cy, rx, ry, colour):
        sixteenths = [round(v * 16) for v in (x + cx * height, y + cy * height, rx * height, ry * height)]
        cv2.ellipse(picture, sixteenths[:2], sixteenths[2:], 0, 0, 360, colour, -1, cv2.LINE_AA, shift=4)

    ellipse(0, 0, width / 2, 0.5, skin)
    ellipse(-0.2 * width, -0.1, 0.07, 0.05, (40, 30, 30))
    ellipse(0.2 * width, -0.1, 0.07, 0.05, (40, 30, 30))
    ellipse(0, 0.27, 0.15, 0.04, (150, 60, 60))
    box = np.array([x - width * height / 2, y - height / 2, x + width * height / 2, y + height / 2])
    return np.ascontiguousarray(picture[..., ::-1]), box


def overlap(a, b):
    """Intersection over union of two boxes."""
    both = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


@pytest.mark.parametrize("skin", SKINS)
@pytest.mark.parametrize("height", [26, 36, 52, 80, 120, 180, 230, 300])
def test_a_face_on_a_plain_background_is_found_once_and_in_its_place(analyser, height, skin):
    picture, box = portrait(height, centre=(307.3, 333.8), skin=SKINS[skin])
    boxes, _ = analyser.det_model.detect(picture)
    assert len(boxes) == 1
    assert overlap(boxes[0, :4], box) > 0.4


@pytest.mark.parametrize("colour", [BLACK, (255, 255, 255), (0, 0, 255), (128, 128, 128), SKINS["middle"]])
def test_a_picture_of_one_colour_holds_no_face(analyser, colour):
    boxes, _ = analyser.det_model.detect(np.full((480, 600, 3), colour[::-1], np.uint8))
    assert len(boxes) == 0


def test_two_people_are_two_faces(analyser):
    left, left_box = portrait(150, centre=(160, 300))
    right, right_box = portrait(90, centre=(470, 250))
    boxes, _ = analyser.det_model.detect(np.hstack([left[:, :320], right[:, 320:]]))
    found = sorted(boxes[:, :4].tolist())
    assert len(found) == 2
    assert overlap(np.array(found[0]), left_box) > 0.4
    assert overlap(np.array(found[1]), right_box) > 0.4


@pytest.mark.parametrize("size", [(900, 300), (300, 900), (333, 517)])
def test_any_shape_of_picture_is_read(analyser, size):
    picture, box = portrait(150, centre=(150, 150), size=size)
    boxes, _ = analyser.det_model.detect(picture)
    assert len(boxes) == 1
    assert overlap(boxes[0, :4], box) > 0.4


@pytest.mark.parametrize("side", [640, 512, 320, 128])
def test_every_detector_size_finds_a_face_of_a_third_of_the_picture(analyser, side):
    picture, box = portrait(200)
    boxes, _ = analyser.det_model.detect(picture, input_size=(side, side))
    assert len(boxes) == 1
    assert overlap(boxes[0, :4], box) > 0.4


def test_a_tight_crop_is_missed_and_found_in_a_dark_frame(analyser):
    picture, box = portrait(600, size=(600, 600), width=1.0)
    framed = cv2.copyMakeBorder(picture, 450, 450, 450, 450, cv2.BORDER_CONSTANT)
    assert len(analyser.det_model.detect(picture)[0]) == 0
    boxes, _ = analyser.det_model.detect(framed)
    assert len(boxes) == 1
    assert overlap(boxes[0, :4], box + 450) > 0.4


def test_a_face_too_large_for_640_is_found_at_320(analyser):
    picture, box = portrait(500)
    assert len(analyser.det_model.detect(picture, input_size=(640, 640))[0]) == 0
    boxes, _ = analyser.det_model.detect(picture, input_size=(320, 320))
    assert len(boxes) == 1
    assert overlap(boxes[0, :4], box) > 0.4


def test_the_five_points_stand_as_in_a_face(analyser):
    picture, box = portrait(150)
    (left_eye, right_eye, nose, left_mouth, right_mouth) = analyser.get(picture)[0].kps
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert np.abs(left_eye - (box[0] + 0.3 * 120, box[1] + 0.4 * 150)).max() < 15


def test_a_real_group_photo_gives_faces(analyser):
    boxes, _ = analyser.det_model.detect(insightface.data.get_image("t1"))
    real = np.array([[895, 40, 1050, 205], [65, 260, 170, 400]])  # the man who stands, the woman on the left
    assert len(boxes) >= 2
    assert [max(overlap(box[:4], face) for box in boxes) > 0.4 for face in real] == [True, True]


def test_a_crop_gives_one_embedding_and_another_crop_another(analyser):
    recogniser = analyser.models["recognition"]
    photo = insightface.data.get_image("t1")
    crops = [photo[y : y + 150, x : x + 150] for x, y in ((900, 40), (60, 250), (460, 250), (740, 330), (1110, 270))]
    first = np.vstack([recogniser.get_feat(cv2.resize(crop, (112, 112))) for crop in crops])
    again = np.vstack([recogniser.get_feat(cv2.resize(crop, (112, 112))) for crop in crops])
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), EMBEDDING_NORM, rtol=1e-4)
    cosines = first @ first.T / EMBEDDING_NORM**2
    assert cosines[~np.eye(len(crops), dtype=bool)].max() < 0.9


def test_the_recogniser_is_read_with_arcfaces_normalisation(analyser):
    """insightface takes another one when early nodes are named Sub… and Mul…"""
    recogniser = analyser.models["recognition"]
    assert (recogniser.input_mean, recogniser.input_std) == (127.5, 127.5)


def test_the_models_are_small(pack):
    assert max(file.stat().st_size for file in pack.iterdir()) < 2_000_000
