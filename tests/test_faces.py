"""From a photo to a face, through the real insightface on the random face pack."""

import logging
import shutil

import cv2
import insightface.data
import numpy as np
import onnx
import onnxruntime
import pytest
from insightface.app.common import Face as DetectedFace
from onnx import numpy_helper
from PIL import Image
from test_random_face_pack import overlap, portrait

from instantid.faces import FIRST_SIZES, Face, FaceAnalyser, mean_embedding
from instantid.images import open_photo
from instantid.random_face_pack import EMBEDDING_NORM, write_random_face_pack
from ip_adapter.errors import UserError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_random_face_pack(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def analyser(pack):
    return FaceAnalyser(pack)


@pytest.fixture
def broken_pack(pack, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(pack, tmp_path / "pack")


def as_photo(bgr):
    return Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))


def person(*args, **options):
    """A photo of one person, and the box of the face."""
    bgr, box = portrait(*args, **options)
    return as_photo(bgr), box


@pytest.fixture(scope="module")
def two_people():
    """A photo with a small face on the left and a large one on the right; and their boxes, largest first."""
    left, small = portrait(90, centre=(150, 250))
    right, large = portrait(150, centre=(470, 300))
    return as_photo(np.hstack([left[:, :320], right[:, 320:]])), [large, small]


def fault(call, *args):
    with pytest.raises(UserError) as caught:
        call(*args)
    return caught.value


# Which face


def test_the_largest_face_is_taken_unless_asked_otherwise(analyser, two_people):
    photo, boxes = two_people
    face = analyser.analyse(photo)
    assert (face.index, face.count) == (0, 2)
    assert overlap(face.box, boxes[0]) > 0.4


def test_another_face_is_taken_by_its_rank(analyser, two_people):
    photo, boxes = two_people
    face = analyser.analyse(photo, 1)
    assert (face.index, face.count) == (1, 2)
    assert overlap(face.box, boxes[1]) > 0.4


@pytest.mark.parametrize("index", [2, -1])
def test_a_rank_that_no_face_has_is_named_with_the_number_of_faces(analyser, two_people, index):
    error = fault(analyser.analyse, two_people[0], index)
    assert error.code == "faces.no_such_index"
    assert error.facts == {"index": index, "count": 2, "last": 1}


def test_all_faces_are_listed_largest_first(analyser, two_people):
    photo, _ = two_people
    faces = analyser.find(photo)
    assert [face.index for face in faces] == [0, 1]
    for face in faces:
        np.testing.assert_array_equal(face.embedding, analyser.analyse(photo, face.index).embedding)


def test_a_photo_without_a_face_is_named_with_its_size(analyser):
    error = fault(analyser.analyse, Image.new("RGB", (320, 240), (30, 40, 90)))
    assert error.code == "faces.none"
    assert "320 × 240" in str(error)


def test_a_photo_without_a_face_lists_none(analyser):
    assert analyser.find(Image.new("RGB", (320, 240), (30, 40, 90))) == []


@pytest.mark.parametrize("size", [(1, 1), (3, 4000), (4000, 3)])
def test_a_picture_too_thin_for_a_face_holds_none(analyser, size):
    """insightface shrinks a strip to no width at all, and OpenCV fails."""
    assert analyser.find(Image.new("RGB", size)) == []


def test_a_real_group_photo_has_several_faces_largest_first(analyser):
    photo = as_photo(insightface.data.get_image("t1"))
    faces = analyser.find(photo)
    areas = [np.prod(face.box[2:] - face.box[:2]) for face in faces]
    assert len(faces) >= 2
    assert areas == sorted(areas, reverse=True)
    assert {face.photo_size for face in faces} == {photo.size}


def test_the_faces_of_a_group_have_embeddings_of_their_own(analyser):
    faces = analyser.find(as_photo(insightface.data.get_image("t1")))
    directions = np.array([face.embedding for face in faces]) / EMBEDDING_NORM
    cosines = directions @ directions.T
    assert cosines[~np.eye(len(faces), dtype=bool)].max() < 0.95


# Where it is


def test_points_and_box_are_in_the_photos_pixels_whatever_its_size(analyser):
    photo, box = person(150, centre=(300, 330))
    larger = photo.resize((1920, 1920))
    face, larger_face = analyser.analyse(photo), analyser.analyse(larger)
    assert overlap(larger_face.box, 3 * box) > 0.4
    np.testing.assert_allclose(larger_face.key_points, 3 * face.key_points, atol=6)


def inside(points, box):
    return ((points > box[:2]) & (points < box[2:])).all()


def test_a_tight_crop_is_found_with_room_around_it_and_placed_in_the_photo(analyser):
    photo, box = person(600, size=(600, 600), width=1.0)
    face = analyser.analyse(photo)
    assert overlap(face.box, box) > 0.4
    assert inside(face.key_points, box)
    assert face.photo_size == (600, 600)


def test_a_narrow_tight_crop_is_placed_as_exactly(analyser):
    """The room differs from side to side: were the two exchanged, the face would be 100 pixels off."""
    bgr, _ = portrait(600, size=(600, 600), width=1.0)
    face = analyser.analyse(as_photo(bgr[:, 100:500]))
    np.testing.assert_allclose((face.box[:2] + face.box[2:]) / 2, (200, 300), atol=50)


def test_a_face_too_large_for_the_first_size_is_found_at_a_smaller_one(analyser):
    photo, box = person(500)
    assert len(analyser._app.det_model.detect(np.asarray(photo)[..., ::-1], input_size=(640, 640), max_num=0)[0]) == 0
    assert overlap(analyser.analyse(photo).box, box) > 0.4


def test_a_face_that_fills_the_photo_is_taken_before_a_passer_by(analyser):
    """The first detector size sees only the passer-by here; with it alone, the picture would be of a stranger."""
    photo, _ = person(60, centre=(560, 60), size=(640, 640))
    near, box = person(420, centre=(250, 370), size=(640, 640))
    both = Image.fromarray(np.maximum(np.asarray(photo), np.asarray(near)))
    first = analyser._app.det_model.detect(np.asarray(both)[..., ::-1], input_size=(640, 640), max_num=0)[0]
    assert len(first) == 1
    assert overlap(first[0, :4], box) < 0.1
    assert overlap(analyser.analyse(both).box, box) > 0.4


def test_a_face_seen_at_two_sizes_is_one_face(analyser):
    photo, _ = person(150)
    assert analyser.analyse(photo).count == 1


def test_the_further_sizes_are_asked_only_when_the_first_find_nobody(analyser, monkeypatch):
    sizes = []
    detect = analyser._app.det_model.detect

    def recorded(picture, input_size, max_num):
        sizes.append(input_size)
        return detect(picture, input_size=input_size, max_num=max_num)

    monkeypatch.setattr(analyser._app.det_model, "detect", recorded)
    analyser.analyse(person(151)[0])
    assert sizes == [(size, size) for size in FIRST_SIZES]


def test_a_photo_that_was_analysed_lately_is_not_analysed_again(analyser, monkeypatch):
    photo, _ = person(170)
    found = analyser.analyse(photo)
    looked = []
    detect = analyser._app.det_model.detect
    monkeypatch.setattr(analyser._app.det_model, "detect", lambda *args, **kw: looked.append(1) or detect(*args, **kw))
    assert analyser.analyse(photo.copy()) is found
    assert looked == []
    turned = analyser.analyse(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert len(looked) > 0
    assert not np.array_equal(turned.key_points, found.key_points)
    with pytest.raises(ValueError, match="read-only"):
        found.embedding *= 2


def test_a_small_face_in_a_wide_photo_is_found(analyser):
    photo, box = person(60, centre=(700, 200), size=(1280, 400))
    assert overlap(analyser.analyse(photo).box, box) > 0.4


def test_a_turned_file_is_analysed_upright(analyser, tmp_path):
    photo, _ = person(150, centre=(250, 200), size=(640, 480))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    face, upright = analyser.analyse(open_photo(tmp_path / "turned.png")), analyser.analyse(photo)
    assert face.photo_size == (640, 480)
    np.testing.assert_array_equal(face.key_points, upright.key_points)
    np.testing.assert_array_equal(face.embedding, upright.embedding)


# Its identity


def test_an_embedding_is_raw_and_not_of_length_one(analyser):
    embedding = analyser.analyse(person(150)[0]).embedding
    assert (embedding.shape, embedding.dtype) == ((512,), np.float32)
    assert np.linalg.norm(embedding) == pytest.approx(EMBEDDING_NORM, rel=1e-4)


@pytest.fixture(scope="module")
def colourful():
    """A photo whose red and blue differ everywhere around the face."""
    return person(150, background=(20, 90, 160))[0]


def test_the_recogniser_gets_what_opencv_would_read_from_the_file(analyser, colourful, tmp_path):
    colourful.save(tmp_path / "photo.png")
    face = analyser.analyse(colourful)
    reference = analyser._app.models["recognition"].get(
        cv2.imread(str(tmp_path / "photo.png")), DetectedFace(kps=face.key_points)
    )
    np.testing.assert_allclose(face.embedding, reference, rtol=1e-4, atol=1e-4)


def test_red_and_blue_exchanged_give_another_embedding(analyser, colourful):
    """Else the test above could not see the colours' order."""
    face = analyser.analyse(colourful)
    exchanged = analyser._app.models["recognition"].get(np.array(colourful), DetectedFace(kps=face.key_points))
    assert face.embedding @ exchanged / EMBEDDING_NORM**2 < 0.98


def test_the_detector_sees_the_photos_colours(analyser):
    """It finds warm faces; were the colours exchanged on the way, it would find the blue one."""
    bgr, _ = portrait(150)
    assert len(analyser.find(as_photo(bgr))) == 1
    assert analyser.find(Image.fromarray(bgr)) == []


def test_the_same_photo_gives_the_same_embedding(analyser, colourful):
    np.testing.assert_array_equal(analyser.analyse(colourful).embedding, analyser.analyse(colourful).embedding)


def test_one_identity_of_several_photos_is_the_mean_of_their_raw_embeddings(analyser):
    faces = [analyser.analyse(person(height)[0]) for height in (120, 150, 230)]
    mean = mean_embedding(faces)
    assert mean.shape == (512,)
    np.testing.assert_allclose(mean, sum(face.embedding for face in faces) / 3, rtol=1e-5, atol=1e-5)


def test_one_identity_of_one_photo_is_its_embedding(analyser, colourful):
    face = analyser.analyse(colourful)
    np.testing.assert_array_equal(mean_embedding([face]), face.embedding)


# Its picture


def test_the_picture_of_a_face_is_its_box_with_some_room(analyser, colourful):
    face = analyser.analyse(colourful)
    width, height = face.box[2:] - face.box[:2]
    picture = face.picture(colourful)
    np.testing.assert_allclose(picture.size, (1.6 * width, 1.6 * height), atol=2)


def test_the_picture_of_a_face_that_leaves_the_photo_is_the_part_that_is_there():
    box = np.array([-20.0, -10.0, 30.0, 50.0])
    face = Face(np.zeros(512, np.float32), np.zeros((5, 2)), box, 0.9, 0, 1, (100, 80))
    assert face.picture(Image.new("RGB", (100, 80))).size == (45, 68)


# The analyser and its models


def test_the_provider_that_runs_is_told(analyser):
    assert analyser.provider == CPU


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA")
def test_a_gpu_that_onnxruntime_cannot_use_is_said_and_the_cpu_runs(pack, caplog):
    pytest.importorskip("torch")
    with caplog.at_level(logging.WARNING):
        analyser = FaceAnalyser(pack, "cuda")
    assert analyser.provider == CPU
    assert [record.getMessage() for record in caplog.records] == [
        f"face analysis was asked to run on {CUDA} and runs on {CPU}"
    ]


@pytest.mark.parametrize("device", ["gpu", "", None])
def test_an_unknown_device_is_named(pack, device):
    error = fault(FaceAnalyser, pack, device)
    assert error.code == "request.unknown_choice"
    assert error.facts == {"field": "faces_on", "value": device, "allowed": "cpu, cuda"}


def test_insightfaces_own_words_are_not_printed(pack, capsys):
    FaceAnalyser(pack)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("model", ["scrfd_10g_bnkps.onnx", "glintr100.onnx"])
@pytest.mark.parametrize("content", [b"", b"\x08\x08 cut short", b"<html>404</html>"])
def test_a_broken_model_is_named_with_its_folder(broken_pack, model, content):
    (broken_pack / model).write_bytes(content)
    error = fault(FaceAnalyser, broken_pack)
    assert error.code == "faces.pack_unusable"
    assert str(broken_pack) in str(error)


def test_a_truncated_model_is_named_with_its_folder(broken_pack):
    whole = (broken_pack / "glintr100.onnx").read_bytes()
    (broken_pack / "glintr100.onnx").write_bytes(whole[: len(whole) // 2])
    assert fault(FaceAnalyser, broken_pack).code == "faces.pack_unusable"


def test_a_missing_detector_is_named(broken_pack):
    (broken_pack / "scrfd_10g_bnkps.onnx").unlink()
    assert fault(FaceAnalyser, broken_pack).code == "faces.pack_unusable"


def test_a_missing_recogniser_is_named(broken_pack):
    (broken_pack / "glintr100.onnx").unlink()
    assert fault(FaceAnalyser, broken_pack).code == "faces.no_recogniser"


def test_a_missing_folder_is_named_and_nothing_is_downloaded(tmp_path, monkeypatch):
    """insightface fetches a pack from the network when its folder is not there."""
    asked = []
    monkeypatch.setattr("insightface.app.face_analysis.ensure_available", lambda *args, **options: asked.append(args))
    error = fault(FaceAnalyser, tmp_path / "nowhere")
    assert error.code == "faces.pack_unusable"
    assert asked == []


def test_a_recogniser_of_another_kind_is_named_with_its_width(broken_pack):
    model = onnx.load(str(broken_pack / "glintr100.onnx"))
    for constant in model.graph.initializer:
        array = numpy_helper.to_array(constant)
        if array.ndim == 2 and len(array) == 512:
            constant.CopyFrom(numpy_helper.from_array(array[:256], constant.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 256
    onnx.save(model, str(broken_pack / "glintr100.onnx"))
    error = fault(FaceAnalyser(broken_pack).analyse, person(150)[0])
    assert error.code == "faces.embedding_width"
    assert (error.facts["width"], error.facts["needed"]) == (256, 512)
