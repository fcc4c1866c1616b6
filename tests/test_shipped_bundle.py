"""The bundle that is shipped with the project: small enough to ship, and good at what it is for.

The figures of a whole evaluation stand in docs/evaluation.md. Here a small one has to stay well above chance.
"""

import json

import pytest
from PIL import Image

from instantid.__main__ import main
from instantid.bundle import SHIPPED_BUNDLE, open_bundle
from instantid.faces import FaceAnalyser

pytestmark = pytest.mark.skipif(not SHIPPED_BUNDLE.is_dir(), reason="this checkout brings no shipped bundle")

MOST_BYTES, MOST_BYTES_OF_A_FILE = 45_000_000, 15_000_000
PEOPLE = 16


def small_evaluation(bundle, output):
    """The rows of a report: a picture of each of 16 people it has never seen, and the same without any identity."""
    line = ["evaluate", "--bundle", str(bundle), "--people", f"drawn:{PEOPLE}", "--count", "1", "--size", "128"]
    without = ["--vary", "identity_strength=0", "adapter_strength=0", "steps=3"]
    assert main([*line, "--steps", "6", *without, "--output", str(output), "--language", "en"]) == 0
    return json.loads((output / "report.json").read_text(encoding="utf-8"))["rows"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return small_evaluation(SHIPPED_BUNDLE, tmp_path_factory.mktemp("evaluation"))


def test_it_is_whole_and_tells_what_it_is():
    bundle = open_bundle(SHIPPED_BUNDLE)
    assert bundle.described("es") != bundle.described("en")
    assert (SHIPPED_BUNDLE / "README.md").stat().st_size > 1000


def test_it_is_small_enough_to_ship():
    sizes = [file.stat().st_size for file in SHIPPED_BUNDLE.rglob("*") if file.is_file()]
    assert sum(sizes) <= MOST_BYTES
    assert max(sizes) <= MOST_BYTES_OF_A_FILE


def test_it_brings_portraits_to_try_it_with_and_finds_their_faces():
    bundle = open_bundle(SHIPPED_BUNDLE)
    analyser = FaceAnalyser(bundle.face_pack)
    assert len(bundle.examples()) >= 4
    assert {analyser.analyse(Image.open(file).convert("RGB")).count for file in bundle.examples()} == {1}


def test_people_are_told_from_their_pictures(rows):
    assert rows[0]["identified"]["mean"] >= 12 / PEOPLE


def test_without_identity_nobody_is_told(rows):
    assert rows[1]["identified"]["mean"] <= 4 / PEOPLE


def test_faces_are_found_where_they_were_asked_for(rows):
    assert rows[0]["without_face"] <= 1
    assert rows[0]["point_error"]["mean"] <= 0.16


def test_the_style_that_is_asked_for_is_seen(rows):
    assert rows[0]["obeyed"]["style"]["mean"] >= 0.6
