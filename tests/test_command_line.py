"""The command line, in process and, where a fresh Python matters, out of it."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from face_photos import person
from fake_generator import FakeGenerator
from fake_packages import lay_out
from PIL import Image

from instantid.__main__ import COMMANDS, main
from instantid.generation import generate_image
from instantid.memory_plan import PlanOptions
from instantid.messages import LANGUAGES, say
from instantid.random_bundle import DESCRIPTION
from instantid.request import GenerationRequest, Progress
from instantid.ui_results import SETTINGS_KEY
from ip_adapter.checkpoint import read_checkpoint

ROOT = Path(__file__).parent.parent
BROKEN_TORCH = 'raise ImportError("libtorch_cuda.so: undefined symbol")'


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
    """What reaches the loader, the generator, the page and its launch, none of which does anything."""
    calls = {}

    def load(*args, **kwargs):
        calls["load"] = (args, kwargs)
        return SimpleNamespace(about=lambda: {"es": "", "en": ""})

    def generate(models, request, on_progress):
        calls["request"] = request
        return FakeGenerator()(request, lambda progress: None, lambda: False)

    monkeypatch.setattr("instantid.loading.load_models", load)
    monkeypatch.setattr("instantid.generation.generate_image", generate)
    page = SimpleNamespace(  # of its own, as importing gradio takes seconds
        create_demo=lambda generator, **kwargs: calls.setdefault("demo", kwargs),
        launch=lambda demo, **kwargs: calls.setdefault("launch", kwargs),
    )
    monkeypatch.setitem(sys.modules, "instantid.ui", page)
    return calls


def refused(capsys, *arguments):
    """The line that a command which cannot be done says, after its exit code 2."""
    assert main([*arguments, "--language", "en"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("❌ ")
    assert said.count("\n") == 1
    return said


def run_python(*arguments, **environment):
    """`python -m instantid …` in a Python of its own."""
    return subprocess.run(
        [sys.executable, "-m", "instantid", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=100,
    )


# Help


def test_the_help_needs_no_torch(tmp_path):
    lay_out(tmp_path, "torch", "2.8.0", modules={"torch/__init__.py": BROKEN_TORCH})
    done = run_python("--help", "--language", "en", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_is_in_the_language_that_is_asked_for(capsys, command, language):
    with pytest.raises(SystemExit) as left:
        main([command, "--help", "--language", language])
    assert left.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    assert say(f"cli.{command}", language) in words


def test_the_language_of_the_machine_is_used_if_none_is_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("INSTANTID_LANGUAGE", "es")
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert say("cli.check", "es") in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["generate", "--face", "me.jpg"],
        ["generate", "--face", "me.jpg", "--prompt", "x", "--steps", "many"],
        ["generate", "--face", "me.jpg", "--prompt", "x", "--scheduler", "none of ours"],
        ["ui", "--device", "tpu"],
        ["convert"],
        ["migrate"],
    ],
    ids=" ".join,
)
def test_a_line_that_makes_no_sense_ends_with_2_and_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m instantid")


# check


def test_a_torch_that_cannot_be_imported_is_found_and_stops_no_check(tmp_path):
    lay_out(tmp_path, "torch", "2.8.0", modules={"torch/__init__.py": BROKEN_TORCH})
    done = run_python("check", "--language", "en", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == ""
    (line,) = [line for line in done.stdout.splitlines() if "undefined symbol" in line]
    assert line.startswith("❌ PyTorch")


@pytest.fixture
def checked(monkeypatch):
    """What the check is asked, and the report it gives."""
    asked = SimpleNamespace(ok=True)

    def check_environment(language):
        asked.language = language
        return SimpleNamespace(ok=asked.ok, data={"ok": asked.ok, "name": "ñ"}, text=lambda: "the report")

    monkeypatch.setattr("instantid.compatibility.check_environment", check_environment)
    return asked


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_of_a_check_says_whether_something_is_to_be_mended(checked, capsys, ok, code):
    checked.ok = ok
    assert main(["check"]) == code
    assert capsys.readouterr().out == "the report\n"


def test_a_check_is_told_its_language(checked):
    main(["check", "--language", "en"])
    assert checked.language == "en"


def test_a_check_as_json_can_be_read_back(checked, capsys):
    main(["check", "--json"])
    assert json.loads(capsys.readouterr().out) == {"ok": True, "name": "ñ"}


# download and convert


def test_a_download_is_told_what_and_where_and_says_where_it_is(monkeypatch, tmp_path, capsys):
    received = {}

    def obtain(**kwargs):
        received.update(kwargs)
        return SimpleNamespace(identitynet=tmp_path / "ControlNetModel")

    monkeypatch.setattr("instantid.weights.obtain_bundle", obtain)
    assert main(["download", "--base", "sdxl-base-1.0", "--folder", str(tmp_path), "--language", "en"]) == 0
    assert received == {"base": "sdxl-base-1.0", "folder": tmp_path, "language": "en"}
    assert capsys.readouterr().out == f"✅ Weights complete in {tmp_path}\n"


def test_a_download_of_nothing_known_is_one_line(capsys, tmp_path):
    assert "no-such-model" in refused(capsys, "download", "--base", "no-such-model", "--folder", str(tmp_path))


def test_a_conversion_writes_the_same_adapter_beside_and_says_so(random_bundle, tmp_path, capsys):
    source = Path(shutil.copy(random_bundle / "ip-adapter.bin", tmp_path))
    assert main(["convert", str(source)]) == 0
    target = tmp_path / "ip-adapter.safetensors"
    assert capsys.readouterr().out.startswith(f"✅ {target} (")
    before, after = read_checkpoint(source), read_checkpoint(target)
    assert after.ip_adapter.keys() == before.ip_adapter.keys()
    assert after.image_proj.keys() == before.image_proj.keys()


def test_a_file_that_is_no_adapter_is_one_line_that_names_it(capsys, photo):
    assert str(photo) in refused(capsys, "convert", str(photo))


def test_a_conversion_that_the_disk_refuses_is_one_line(capsys, monkeypatch, random_bundle):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ip_adapter.convert.write_checkpoint", full)
    said = refused(capsys, "convert", str(random_bundle / "ip-adapter.bin"))
    assert str(random_bundle) in said
    assert "No space left on device" in said


# generate


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


# ui


def test_the_options_of_the_page_reach_its_launch(received, tmp_path):
    line = ["--host", "0.0.0.0", "--port", "7999", "--share", "--no-browser"]
    assert main(["ui", *line, "--output", str(tmp_path), "--language", "en"]) == 0
    expected = {"share": True, "server_name": "0.0.0.0", "server_port": 7999, "inbrowser": False}
    assert received["launch"] == expected
    page = {"language": "en", "about": {"es": "", "en": ""}, "output_folder": tmp_path, "settings_file": None}
    assert received["demo"] == page


def test_one_folder_keeps_weights_pictures_and_settings(received, tmp_path, capsys):
    assert main(["ui", "--keep", str(tmp_path / "kept"), "--language", "en"]) == 0
    assert received["load"][1]["folder"] == tmp_path / "kept" / "weights"
    assert received["demo"]["output_folder"] == tmp_path / "kept" / "results"
    assert received["demo"]["settings_file"] == tmp_path / "kept" / "settings.json"
    assert capsys.readouterr().out == say("keeping.new", "en", folder=tmp_path / "kept") + "\n"


def test_a_generation_saves_its_pictures_where_things_are_kept(received, photo, tmp_path):
    assert main(["generate", "--face", str(photo), "--prompt", "a person", "--keep", str(tmp_path / "kept")]) == 0
    assert received["load"][1]["folder"] == tmp_path / "kept" / "weights"
    assert len(list((tmp_path / "kept" / "results").glob("*.png"))) == 1


def test_what_is_given_a_place_of_its_own_is_not_kept_with_the_rest(received, tmp_path):
    line = ["--keep", str(tmp_path / "kept"), "--folder", "weights", "--output", str(tmp_path / "pictures")]
    assert main(["ui", *line]) == 0
    assert received["load"][1]["folder"] == Path("weights")
    assert received["demo"]["output_folder"] == tmp_path / "pictures"


def test_a_folder_that_can_keep_nothing_is_refused_before_anything_is_loaded(nothing_loads, asking, photo, capsys):
    assert f"“{photo}” cannot be a folder" in refused(capsys, *asking, "--keep", str(photo))


def test_a_page_is_for_this_machine_alone_unless_asked_otherwise(received):
    main(["ui"])
    assert received["launch"] == {"share": False, "server_name": "127.0.0.1", "server_port": None, "inbrowser": True}


def test_a_port_that_is_taken_is_one_line(received, monkeypatch, capsys):
    def launch(demo, **_kwargs):
        raise OSError("Cannot find empty port in range: 7999-7999.")

    monkeypatch.setattr(sys.modules["instantid.ui"], "launch", launch)
    assert "port 7999" in refused(capsys, "ui", "--port", "7999")


# pack


def test_a_bare_python_packs_the_notebook_and_the_zip(tmp_path):
    bare = [sys.executable, "-S", "-m", "instantid", "pack", "--output", str(tmp_path / "dist")]
    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True)
    files = [tmp_path / "dist" / name for name in ("InstantID_Gradio.ipynb", "InstantID.zip")]
    assert (done.returncode, done.stdout.splitlines()) == (0, [str(file) for file in files])
    assert all(file.stat().st_size > 100_000 for file in files)


def test_a_folder_that_cannot_be_packed_to_is_named(tmp_path, capsys):
    (tmp_path / "dist").write_text("a file")
    assert main(["pack", "--output", str(tmp_path / "dist"), "--language", "en"]) == 2
    assert str(tmp_path / "dist") in capsys.readouterr().err
