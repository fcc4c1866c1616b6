"""The photo of the notebook's last cell: the one that is named, one that is uploaded, or an example."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from notebook_session import PHOTO

from instantid.messages import say
from instantid.notebook import pick_photo


def test_a_photo_that_is_named_is_taken():
    assert pick_photo(" me.jpg ", "es") == "me.jpg"


def test_without_a_photo_the_example_is_taken_and_said(capsys):
    assert pick_photo("", "en") == PHOTO
    assert capsys.readouterr().out == say("notebook.example_photo", "en") + "\n"


def test_a_bundle_that_brings_portraits_gives_the_first_as_the_example(capsys):
    portraits = [Path("examples/a.png"), Path("examples/b.png")]
    assert pick_photo("", "en", portraits) == portraits[0]
    assert capsys.readouterr().out == say("notebook.example_portrait", "en", file=portraits[0]) + "\n"


@pytest.mark.parametrize(("uploaded", "photo"), [({"me.png": b"..."}, "me.png"), ({}, PHOTO)])
def test_colab_asks_for_an_upload_and_does_without_one(monkeypatch, uploaded, photo):
    colab = ModuleType("google.colab")
    colab.files = SimpleNamespace(upload=lambda: uploaded)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert pick_photo("", "es") == photo
