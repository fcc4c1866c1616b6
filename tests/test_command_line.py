"""The command line, in process and, where a fresh Python matters, out of it: every command but the two of pictures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import refused
from face_photos import person
from fake_packages import lay_out

from instantid.__main__ import COMMANDS, main
from instantid.messages import LANGUAGES, say
from instantid.requirements import ROOT
from ip_adapter.checkpoint import read_checkpoint

BROKEN_TORCH = 'raise ImportError("libtorch_cuda.so: undefined symbol")'


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


def test_a_file_that_is_no_adapter_is_one_line_that_names_it(capsys, tmp_path):
    photo = tmp_path / "me.png"
    person().save(photo)
    assert str(photo) in refused(capsys, "convert", str(photo))


def test_a_conversion_that_the_disk_refuses_is_one_line(capsys, monkeypatch, random_bundle):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ip_adapter.convert.write_checkpoint", full)
    said = refused(capsys, "convert", str(random_bundle / "ip-adapter.bin"))
    assert str(random_bundle) in said
    assert "No space left on device" in said


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
