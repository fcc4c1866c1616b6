"""A session that ends and the next one: a folder of the test stands in for Google Drive."""

import errno
import json
import os

import fake_hub
import pytest
from fake_hub import BASE, FakeHub, published, tensors, write_bundle

from instantid import hub as hub_module
from instantid import keeping
from instantid.keeping import keep_in
from instantid.messages import LANGUAGES, explain, say
from instantid.request import BOUNDS, MAX_PROMPT_CHARACTERS, GenerationRequest
from instantid.settings import Settings, read_settings, write_settings
from instantid.weights import default_folder, obtain_bundle
from ip_adapter.errors import MachineError

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
GIVEN = {
    "prompt": "una niña «seria» en la nieve 🌨",
    "negative_prompt": "",
    "style": "ink",
    "face_index": 2,
    "pose_face_index": 1,
    "width": 640,
    "height": 960,
    "few_steps": "hyper-8",
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


def quiet(line):
    pass


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """Google Drive as Colab mounts it, and a machine that holds no weights yet."""
    monkeypatch.setattr(keeping, "DRIVE", tmp_path / "drive")
    monkeypatch.setenv("INSTANTID_HOME", str(tmp_path / "machine"))
    (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
    return tmp_path / "drive" / "MyDrive" / "InstantID"


@pytest.fixture
def hub(quick_client):
    with FakeHub(published()) as hub:
        yield hub


def fetch(hub, folder):
    return obtain_bundle(folder=folder, endpoint=hub.endpoint, write=quiet)


def said_of(folder, language="en"):
    """The line on what is kept in `folder`."""
    lines = []
    keep_in(folder, language, lines.append)
    (line,) = lines
    return line


# The folder


def test_without_a_folder_everything_is_where_it_always_was_and_nothing_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kept = keep_in(None)
    assert (kept.weights, str(kept.results), kept.settings) == (default_folder(), "outputs", None)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_new_folder_is_made_left_empty_and_named(drive):
    lines = []
    kept = keep_in(str(drive), "es", lines.append)
    assert lines == [say("keeping.new", "es", folder=drive)]
    assert (kept.weights, kept.results) == (drive / "weights", drive / "results")
    assert kept.settings == drive / "settings.json"
    assert list(drive.iterdir()) == []


def test_what_an_earlier_session_left_is_told(drive):
    kept = keep_in(drive, write=quiet)
    write_bundle(kept.weights)
    kept.results.mkdir()
    for name in ("a.png", "b.png", "notes.txt"):
        (kept.results / name).touch()
    write_settings(kept.settings, GenerationRequest("me.jpg", "a person"), "en")
    line = said_of(drive)
    assert "whole weights (" in line
    assert line.endswith("pictures: 2 · your settings")


@pytest.mark.parametrize("lacking", ["ip-adapter.bin", "base/unet/config.json", "antelopev2/glintr100.onnx"])
def test_weights_that_lack_a_file_are_told_as_a_part(drive, lacking):
    write_bundle(drive / "weights")
    (drive / "weights" / lacking).unlink()
    assert "part of the weights (" in said_of(drive)


def test_weights_with_two_whole_base_models_are_whole(drive):
    write_bundle(drive / "weights")
    (drive / "weights" / "bases").mkdir()
    (drive / "weights" / "base").rename(drive / "weights" / "bases" / "one")
    fake_hub.write_files(drive / "weights" / "bases" / "two", fake_hub.base_files())
    assert "whole weights (" in said_of(drive)


def test_a_drive_that_is_not_mounted_is_said_and_nothing_is_made_in_its_place(drive):
    drive.parent.rmdir()
    with pytest.raises(MachineError) as caught:
        keep_in(drive, write=quiet)
    assert caught.value.code == "keeping.drive_not_mounted"
    assert not drive.exists()


@pytest.mark.parametrize("below", ["", "InstantID"])
def test_a_file_in_the_way_is_said(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError) as caught:
        keep_in(tmp_path / "file" / below, write=quiet)
    assert caught.value.code == "keeping.not_a_folder"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EROFS, "keeping.cannot_use"),
        (errno.EACCES, "keeping.cannot_use"),
        (errno.ENOTCONN, "keeping.cannot_use"),  # a Drive that was disconnected
        (errno.ENOSPC, "keeping.full"),
        (errno.EDQUOT, "keeping.full"),
    ],
)
def test_a_folder_that_takes_no_file_is_said_with_the_reason(tmp_path, monkeypatch, number, code):
    def refuse(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(keeping.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(MachineError) as caught:
        keep_in(tmp_path, write=quiet)
    assert caught.value.code == code
    for language in LANGUAGES:
        assert os.strerror(number) in explain(caught.value, language)


def test_a_drive_that_cannot_be_read_is_said_with_the_reason(drive, monkeypatch):
    write_bundle(drive / "weights")

    def refuse(*_args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(keeping, "open_bundle", refuse)
    with pytest.raises(MachineError, match=os.strerror(errno.EIO)):
        keep_in(drive, write=quiet)


# Weights


def test_the_next_session_opens_the_kept_weights_without_a_network(hub, drive):
    first = fetch(hub, keep_in(drive, write=quiet).weights)
    hub.__exit__()
    assert fetch(hub, keep_in(drive, write=quiet).weights) == first
    assert first.base.is_relative_to(drive)


def test_a_session_that_was_cut_off_is_continued_by_the_next_one(hub, drive):
    hub.repos[BASE][UNET] = tensors(2000)
    hub.cuts[UNET] = [3500] + [0] * 20
    with pytest.raises(MachineError):
        fetch(hub, keep_in(drive, write=quiet).weights)
    assert "part of the weights (" in said_of(drive)
    arrived = {path.relative_to(drive / "weights") for path in (drive / "weights").rglob("*")}
    hub.cuts.clear()
    hub.requests.clear()
    fetch(hub, keep_in(drive, write=quiet).weights)
    assert (UNET, "bytes=3000-") in hub.requests
    asked = [name for name in hub.files_asked if name != UNET]
    assert not {name for name in asked if any(path.as_posix().endswith(name) for path in arrived)}
    assert "whole weights (" in said_of(drive)


def test_weights_that_this_machine_has_are_copied_and_not_fetched(hub, drive):
    fetch(hub, None)
    hub.requests.clear()
    reports = []
    bundle = obtain_bundle(
        folder=keep_in(drive, write=quiet).weights, endpoint=hub.endpoint, write=quiet, on_progress=reports.append
    )
    assert hub.files_asked == []
    assert reports[-1].done_bytes == reports[-1].total_bytes
    assert (bundle.base / UNET).read_bytes() == hub.repos[BASE][UNET]


def test_a_copy_goes_on_where_a_download_stopped(hub, drive):
    hub.repos[BASE][UNET] = tensors(2000)
    hub.cuts[UNET] = [3500] + [0] * 20
    with pytest.raises(MachineError):
        fetch(hub, keep_in(drive, write=quiet).weights)
    hub.cuts.clear()
    fetch(hub, None)
    hub.requests.clear()
    bundle = fetch(hub, keep_in(drive, write=quiet).weights)
    assert hub.files_asked == []
    assert (bundle.base / UNET).read_bytes() == hub.repos[BASE][UNET]


def test_a_file_of_this_machine_that_is_not_what_the_hub_has_is_fetched(hub, drive):
    fetch(hub, None)
    own = default_folder() / "base" / UNET
    own.write_bytes(b"x" * own.stat().st_size)
    hub.requests.clear()
    bundle = fetch(hub, keep_in(drive, write=quiet).weights)
    assert hub.files_asked == [UNET]
    assert (bundle.base / UNET).read_bytes() == hub.repos[BASE][UNET]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_drive_that_knows_no_locks_takes_a_download(hub, drive, monkeypatch, number):
    def refuse(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(hub_module.FileLock, "acquire", refuse)
    assert fetch(hub, drive / "weights").base.is_dir()


# Settings


@pytest.fixture
def file(tmp_path):
    return tmp_path / "settings.json"


def test_every_setting_comes_back_as_it_was_given(file):
    request = GenerationRequest("me.jpg", **GIVEN)
    assert set(request.settings()) == set(GIVEN)
    write_settings(file, request, "en")
    assert read_settings(file) == Settings(GIVEN, "en")


def test_a_seed_that_was_left_to_chance_is_left_to_chance_again(file):
    write_settings(file, GenerationRequest("me.jpg", "a person"), "es")
    assert read_settings(file).fields["seed"] is None


def test_no_photo_and_no_path_of_one_is_kept(file):
    request = GenerationRequest("secret-1.jpg", "a person", more_faces=("secret-2.jpg",), pose="secret-3.jpg")
    write_settings(file, request, "es")
    assert "secret" not in file.read_text(encoding="utf-8")
    assert {path.name for path in file.parent.iterdir()} == {file.name}


def test_a_write_that_fails_in_the_middle_leaves_what_was_there(file, monkeypatch):
    write_settings(file, GenerationRequest("me.jpg", "the first"), "es")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_settings(file, GenerationRequest("me.jpg", "the second"), "es")
    assert read_settings(file).fields["prompt"] == "the first"


def test_no_file_yet_is_no_problem(file):
    assert read_settings(file) == read_settings(None) == Settings()


BROKEN = {
    "empty": b"",
    "cut": b'{"steps": 30, "pro',
    "not text": bytes(range(256)),
    "a list": b"[1, 2]",
    "of another program": b'{"theme": "dark"}',
    "too deep": b"[" * 100_000,
    "a number too long": b'{"steps": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_holds_no_settings_is_named_and_nothing_of_it_used(file, content):
    file.write_bytes(content)
    settings = read_settings(file)
    assert (settings.fields, settings.language) == ({}, None)
    assert settings.problem.key == "keeping.settings_unreadable"
    assert str(file) in say(settings.problem.key, "en", **settings.problem.facts)


def test_a_file_of_a_gigabyte_is_not_read(file):
    with file.open("wb") as stream:
        stream.truncate(10**9)
    assert read_settings(file).problem.key == "keeping.settings_unreadable"


def test_a_folder_in_the_place_of_the_file_is_no_settings(file):
    file.mkdir()
    assert read_settings(file).problem.key == "keeping.settings_unreadable"


UNUSABLE = [
    ("prompt", " "),
    ("prompt", "x" * (MAX_PROMPT_CHARACTERS + 1)),
    ("prompt", "\ud800"),  # half a character: no page could show it
    ("negative_prompt", 7),
    ("style", "a style of another version"),
    ("style", ["ink"]),
    ("scheduler", "one of another version"),
    ("few_steps", None),
    ("region_mask", "yes"),
    ("seed", -1),
    ("seed", "7"),
    ("count", float("nan")),
    ("face_index", {"a": {"b": [1]}}),
    ("language", "fr"),
    ("language", ["es"]),
    *((name, bounds.most + bounds.step) for name, bounds in BOUNDS.items()),
]


@pytest.mark.parametrize(
    ("name", "value"), UNUSABLE, ids=lambda value: str(value)[:12].encode("ascii", "replace").decode()
)
def test_a_value_that_cannot_be_used_is_named_and_the_others_are(file, name, value):
    file.write_text(json.dumps(GIVEN | {"language": "en", name: value}))
    settings = read_settings(file)
    lost = {"width", "height"} if name in ("width", "height") else {name}  # one side alone is no size
    assert settings.fields == {field: given for field, given in GIVEN.items() if field not in lost}
    assert settings.language == (None if name == "language" else "en")
    assert settings.problem.key == "keeping.settings_unusable"
    assert set(settings.problem.facts["names"].split(", ")) == lost


def test_names_of_another_version_are_passed_over(file):
    file.write_text(json.dumps({"steps": 7, "lora": "a" * 1000}))
    assert read_settings(file) == Settings({"steps": 7})


def test_one_side_of_a_size_is_no_size(file):
    file.write_text(json.dumps({"width": 640}))
    assert read_settings(file).fields == {}
