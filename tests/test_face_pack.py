"""The small bundle's face models: crops as insightface's, files as the networks."""

import json
import warnings

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from face_networks import CPU, INPUTS, NETWORKS, drawn_people, pixels, used_networks
from torch import nn

from instantid.faces import FaceAnalyser
from ip_adapter.errors import UserError
from training.face_pack.__main__ import main
from training.face_pack.alignment import aligned, inverse, moved, similarity
from training.face_pack.checks import found, named, top_one
from training.face_pack.detector import OUTPUTS
from training.face_pack.embedder import Embedder
from training.face_pack.export import FILES, as_onnx, export_face_pack
from training.face_pack.export import main as export_main
from training.face_pack.measure import point_errors
from training.face_pack.measure import top_one as measured_top_one
from training.face_pack.stages import PACK, weights_file
from training.face_pack.traits import CLASSES
from training.face_pack.weights import save_weights


@pytest.fixture(scope="module")
def drawn():
    return drawn_people()


@pytest.fixture(scope="module")
def used():
    return used_networks()


# Aligned crops


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


# Files


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
    limits = {"detector": 4.0e6, "recogniser": 3.5e6, "scorer": 3.5e6, "traits": 0.5e6}
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


# Figures


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
