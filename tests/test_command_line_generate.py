"""`generate` on the command line: the pictures, what its options reach, and one line for whatever cannot be done."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, watched
from face_photos import person
from fake_generator import FakeGenerator
from PIL import Image

from instantid.__main__ import main
from instantid.generation import generate_image
from instantid.memory_plan import PlanOptions
from instantid.messages import LANGUAGES, say
from instantid.random_bundle import DESCRIPTION
from instantid.request import GenerationRequest, Progress
from instantid.ui_results import SETTINGS_KEY


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "me.png"
    person().save(path)
    return path


@pytest.fixture
def asking(photo, tmp_path):
    """The least that `generate` needs."""
    return ["generate", "--face", str(photo), "--prompt", "a person", "--output", str(tmp_path / "pictures")]


@pytest.fixture
def nothing_loads(monkeypatch):
    """Loading, which takes minutes, is never reached."""

    def load(*_args, **_kwargs):
        raise AssertionError("models were loaded")

    monkeypatch.setattr("instantid.loading.load_models", load)


@pytest.fixture
def received(monkeypatch):
    return watched(monkeypatch)


def test_a_generation_saves_pictures_that_carry_what_makes_them_again(models, monkeypatch, asking, tmp_path, capsys):
    monkeypatch.setattr("instantid.loading.load_models", lambda *_args, **_kwargs: models)
    small = ["--steps", "2", "--width", "64", "--height", "80", "--seed", "7", "--count", "2"]
    assert main([*asking, *small, "--negative-prompt", "fog", "--language", "en"]) == 0
    out, err = capsys.readouterr()
    paths = [Path(line) for line in out.splitlines()]
    assert {path.parent for path in paths} == {tmp_path / "pictures"}
    assert err == ""
    second = Image.open(paths[1])
    settings = json.loads(second.text[SETTINGS_KEY])
    assert (settings["seed"], settings["count"], settings["steps"]) == (8, 1, 2)
    fields = {field.name for field in dataclasses.fields(GenerationRequest)}
    again = GenerationRequest(person(), **{name: value for name, value in settings.items() if name in fields})
    np.testing.assert_array_equal(generate_image(models, again).images[0], second)


def test_a_bundle_is_loaded_in_the_language_asked_for_and_makes_a_picture(random_bundle, asking, capsys):
    small = ["--steps", "1", "--width", "64", "--height", "80"]
    assert main([*asking, *small, "--bundle", str(random_bundle), "--language", "en"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert say("loading.description", "en", description=DESCRIPTION["en"]) in lines
    assert Image.open(lines[-1]).size == (64, 80)


def test_what_a_person_should_know_of_a_picture_is_told_beside_it(models, monkeypatch, asking, capsys):
    monkeypatch.setattr("instantid.loading.load_models", lambda *_args, **_kwargs: models)
    small = ["--steps", "1", "--width", "64", "--height", "80", "--language", "en"]
    assert main([*asking, *small, "--prompt", "person " * 90]) == 0
    note = say("note.text_cut", "en", field="prompt", count=92, most=77)
    assert capsys.readouterr().err == f"⚠️ {note}\n"


def test_every_option_of_a_request_reaches_it(received, asking, photo):
    given = {
        "negative_prompt": "fog",
        "style": "ink",
        "more_faces": (photo, photo),
        "face_index": 2,
        "pose": photo,
        "pose_face_index": 1,
        "width": 640,
        "height": 960,
        "few_steps": "lightning-4",
        "steps": 7,
        "guidance_scale": 4.2,
        "guidance_end": 0.6,
        "identity_strength": 0.55,
        "adapter_strength": 0.65,
        "seed": 0,
        "scheduler": "ddim",
        "count": 3,
        "region_mask": True,
    }
    fields = {field.name for field in dataclasses.fields(GenerationRequest)}
    assert set(given) == fields - {"face", "prompt"}
    line = []
    for name, value in given.items():
        values = [] if value is True else value if isinstance(value, tuple) else [value]
        line += [f"--{name.replace('_', '-')}", *map(str, values)]
    assert main([*asking, *line]) == 0
    assert received["request"] == GenerationRequest(face=photo, prompt="a person", **given)


def test_a_request_without_options_is_the_one_with_all_defaults(received, asking, photo):
    main(asking)
    drawn = received["request"].seed
    assert received["request"] == GenerationRequest(face=photo, prompt="a person", seed=drawn).checked()


def test_every_option_of_the_memory_plan_reaches_the_loader(received, asking):
    options = {
        "device": "cpu",
        "precision": "bfloat16",
        "offload": "none",
        "storage": "int8",
        "speed": "plain",
        "vae_precision": "float16",
        "vae_slicing": False,
        "vae_tiling": True,
        "attention_slicing": True,
        "memory_fraction": 0.5,
    }
    assert set(options) == {field.name for field in dataclasses.fields(PlanOptions)}
    line = ["--no-vae-slicing", "--vae-tiling", "--attention-slicing", "--memory-fraction", "0.5"]
    line += ["--device", "cpu", "--precision", "bfloat16", "--offload", "none", "--storage", "int8"]
    line += ["--vae-precision", "float16", "--speed", "plain"]
    main([*asking, *line])
    assert received["load"][1]["options"] == PlanOptions(**options)


def test_what_is_not_said_about_memory_is_left_to_the_plan(received, asking):
    main(asking)
    assert received["load"][1]["options"] == PlanOptions()


@pytest.mark.parametrize("command", ["generate", "ui"])
def test_where_the_models_come_from_reaches_the_loader(received, asking, command):
    line = ["--bundle", "weights", "--base", "b.safetensors", "--folder", "kept", "--faces-on", "cuda"]
    assert main([*(asking if command == "generate" else ["ui"]), *line, "--language", "en"]) == 0
    args, kwargs = received["load"]
    assert args == (Path("weights"), "b.safetensors")
    assert (kwargs["folder"], kwargs["faces_on"], kwargs["language"]) == (Path("kept"), "cuda", "en")


def test_a_generation_saves_its_pictures_where_things_are_kept(received, photo, tmp_path):
    assert main(["generate", "--face", str(photo), "--prompt", "a person", "--keep", str(tmp_path / "kept")]) == 0
    assert received["load"][1]["folder"] == tmp_path / "kept" / "weights"
    assert len(list((tmp_path / "kept" / "results").glob("*.png"))) == 1


# What cannot be done


@pytest.mark.parametrize("option", ["--face", "--pose", "--more-faces"])
def test_a_photo_that_cannot_be_read_is_refused_before_anything_is_loaded(
    nothing_loads, asking, tmp_path, capsys, option
):
    text = tmp_path / "letter.jpg"
    text.write_text("Dear all")
    assert "letter.jpg" in refused(capsys, *asking, option, str(text))


def test_a_number_out_of_bounds_is_refused_before_anything_is_loaded(nothing_loads, asking, capsys):
    assert "“steps” is 1000" in refused(capsys, *asking, "--steps", "1000")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(nothing_loads, asking, photo, capsys):
    said = refused(capsys, *asking, "--output", str(photo / "below a file"))
    assert "cannot be written to" in said
    assert str(photo) in said


def test_a_folder_that_can_keep_nothing_is_refused_before_anything_is_loaded(nothing_loads, asking, photo, capsys):
    assert f"“{photo}” cannot be a folder" in refused(capsys, *asking, "--keep", str(photo))


def test_a_disk_that_is_full_at_the_end_is_one_line(received, asking, monkeypatch, capsys):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("instantid.ui_results.save_pictures", full)
    assert "No space left on device" in refused(capsys, *asking)


def test_a_bundle_that_is_not_there_is_one_line_that_names_it(asking, capsys):
    assert "no/such/folder" in refused(capsys, *asking, "--bundle", "no/such/folder")


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_error_is_said_in_the_language_asked_for(asking, capsys, language):
    assert main([*asking, "--seed=-1", "--language", language]) == 2
    assert capsys.readouterr().err == f"❌ {say('request.bad_seed', language, value=-1, most=2**32 - 1)}\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_interruption_ends_with_130_and_a_word(asking, monkeypatch, capsys, language):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("instantid.loading.load_models", interrupted)
    assert main([*asking, "--language", language]) == 130
    assert capsys.readouterr().err == say("cli.interrupted", language) + "\n"


def test_a_library_that_is_missing_leads_to_the_check(asking, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "instantid.generation", None)
    assert "python -m instantid check" in refused(capsys, *asking)


def test_a_bug_keeps_its_traceback(received, asking, monkeypatch):
    monkeypatch.setattr("instantid.ui_results.save_pictures", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(asking)


# On a terminal


def test_on_a_terminal_one_line_is_written_over_until_the_end(received, asking, monkeypatch, capsys):
    reports = [Progress("faces", 0, 2, 0.1), Progress("denoising", 1, 2, 1.25), Progress("done", 2, 2, 2.5)]

    def generate(models, request, on_progress):
        for report in reports:
            on_progress(report)
        return FakeGenerator()(request, lambda progress: None, lambda: False)

    monkeypatch.setattr("instantid.generation.generate_image", generate)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    main([*asking, "--language", "en"])
    shown = capsys.readouterr().err.split("\r\033[K")
    assert shown == ["", "🙂 Faces 0/2  0.1 s", "🎨 Generating 1/2  1.2 s", "✅ Done 2/2  2.5 s\n"]
