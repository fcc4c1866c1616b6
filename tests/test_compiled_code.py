"""What was compiled is there for the next session, and no file in its place can do harm."""

import logging

import numpy as np
import pytest
import torch
from face_photos import person
from test_compilation import Backend
from test_cuda_graphs import imitated

from instantid import compiled_code
from instantid.compiled_code import code_file, keep_code, read_code
from instantid.generation import generate_image
from instantid.loading import load_models
from instantid.messages import LANGUAGES, say
from instantid.request import GenerationRequest
from ip_adapter.compilation import CompiledBlocks
from ip_adapter.cuda_graphs import CudaGraphs

REQUEST = GenerationRequest(person(), "a person", steps=2, width=64, height=80, seed=3)


@pytest.fixture
def artifacts(monkeypatch):
    """PyTorch's own, imitated: what was compiled, and what was read."""
    read = []
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (b"code", None))
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", lambda content: read.append(content) or "known")
    return read


def test_what_was_compiled_is_read_again(tmp_path, artifacts):
    file = code_file(tmp_path, "NVIDIA H100 80GB HBM3")
    assert not read_code(file)
    assert keep_code(file)
    assert read_code(file)
    assert artifacts == [b"code"]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_code_is_kept_apart_by_card_and_pytorch_within_the_folder(tmp_path, monkeypatch):
    files = {code_file(tmp_path, card) for card in ("Tesla T4", "NVIDIA A100", "../../elsewhere/card")}
    monkeypatch.setattr(compiled_code.torch, "__version__", "9.9")
    files.add(code_file(tmp_path, "Tesla T4"))
    assert len(files) == 4
    assert {file.resolve().parent for file in files} == {tmp_path / "compiled"}


def test_a_file_that_pytorch_cannot_use_is_told_and_passed_over(tmp_path, caplog):
    file = code_file(tmp_path, "card")
    file.parent.mkdir()
    file.write_bytes(b"something else")
    with caplog.at_level(logging.WARNING):
        assert not read_code(file)
    assert str(file) in caplog.text


def test_a_folder_that_cannot_be_written_to_costs_a_warning_and_no_picture(tmp_path, artifacts, caplog):
    (tmp_path / "compiled").write_text("a file where the folder should be")
    assert not keep_code(code_file(tmp_path, "card"))
    assert "cannot be kept" in caplog.text


def test_where_nothing_was_compiled_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: None)
    assert not keep_code(code_file(tmp_path, "card"))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def compiled(random_bundle, tmp_path):
    """The random bundle, its blocks compiled for show under imitated graphs; code is kept in `tmp_path`."""
    torch._dynamo.reset()
    models = load_models(random_bundle, write=lambda line: None)
    models.folder = tmp_path
    models.pipeline.cuda_graphs = CudaGraphs(imitated)
    models.pipeline.compiled_blocks = CompiledBlocks(Backend())
    return models


def test_a_picture_of_a_new_size_keeps_its_code_and_the_next_session_begins_with_it(compiled, artifacts):
    file = code_file(compiled.folder, compiled.hardware.name)
    generate_image(compiled, REQUEST)
    assert (file.read_bytes(), artifacts) == (b"code", [])
    file.write_bytes(b"of an earlier session")
    generate_image(compiled, REQUEST)
    assert file.read_bytes() == b"of an earlier session"  # nothing new was compiled
    compiled._has_read_code = False
    generate_image(compiled, REQUEST)
    assert artifacts == [b"of an earlier session"]


@pytest.mark.parametrize("switch", ["compiled_blocks", "cuda_graphs"])
def test_what_does_not_work_here_is_told_beside_a_picture_that_is_right(compiled, models, artifacts, switch):
    def refuse(*_):
        raise RuntimeError("not on this machine")

    broken = {"compiled_blocks": CompiledBlocks(refuse), "cuda_graphs": CudaGraphs(refuse)}[switch]
    compiled.pipeline.compiled_blocks = None
    setattr(compiled.pipeline, switch, broken)
    result, expected = generate_image(compiled, REQUEST), generate_image(models, REQUEST)
    (note,) = result.notes
    assert "not on this machine" in note.facts["reason"]
    assert len({say(note.key, language, **note.facts) for language in LANGUAGES}) == len(LANGUAGES)
    np.testing.assert_allclose(*(np.asarray(r.images[0], float) for r in (result, expected)), atol=1)
