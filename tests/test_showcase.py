"""The picture that shows a bundle: portraits on the left, what the app makes of them beside."""

import json
import shutil

import numpy as np
import pytest
from face_photos import person
from PIL import Image

from instantid.bundle import open_bundle
from ip_adapter.errors import UserError
from training.small_bundle import showcase as module
from training.small_bundle.showcase import BESIDE, GAP, TILE, main, showcase


@pytest.fixture
def bundle(bundle_copy, monkeypatch):
    """A random bundle with two portraits; pictures in few steps."""
    (bundle_copy / "examples").mkdir()
    for name, height in (("ana", 90), ("ben", 70)):
        person(height).save(bundle_copy / "examples" / f"{name}.png")
    description = json.loads((bundle_copy / "bundle.json").read_text())
    (bundle_copy / "bundle.json").write_text(json.dumps(description | {"prompts": ["a face", "snow"]}))
    usual = module.GenerationRequest
    monkeypatch.setattr(module, "GenerationRequest", lambda **given: usual(**given, steps=1, width=64, height=64))
    return bundle_copy


def tile(sheet, row, column):
    """Column 0 is the portrait's."""
    left, top = (column and TILE + BESIDE + (column - 1) * (TILE + GAP)), row * (TILE + GAP)
    return np.asarray(sheet.crop((left, top, left + TILE, top + TILE)))


def test_every_person_has_a_row_with_the_portrait_and_a_picture_for_each_prompt(bundle):
    sheet = showcase(open_bundle(bundle))
    assert sheet.size == (3 * TILE + BESIDE + GAP, 2 * TILE + GAP)
    for row, portrait in enumerate(open_bundle(bundle).examples()):
        expected = Image.open(portrait).convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
        assert np.array_equal(tile(sheet, row, 0), np.asarray(expected))
    pictures = [tile(sheet, row, column) for row in (0, 1) for column in (1, 2)]
    assert all(picture.std() > 1 for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize("missing", ["examples", "bundle.json"])
def test_a_bundle_with_nothing_to_show_is_told_what_it_lacks(missing, bundle):
    place = bundle / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(UserError, match="prompts"):
        showcase(open_bundle(bundle))


def test_the_command_writes_it_and_says_what_is_wrong(bundle, tmp_path, capsys):
    assert main(["--bundle", str(bundle), "--output", str(tmp_path / "sheet.png")]) == 0
    assert Image.open(tmp_path / "sheet.png").width == 3 * TILE + BESIDE + GAP
    assert main(["--bundle", str(tmp_path), "--output", str(tmp_path / "none.png")]) == 2
    assert str(tmp_path) in capsys.readouterr().err
