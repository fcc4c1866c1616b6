"""Downloads, by the real huggingface_hub client from a hub on this machine."""

import errno
import os
import re
import threading
from dataclasses import replace

import fake_hub
import huggingface_hub.utils
import pytest
from fake_hub import BASE, FACES, IDENTITY, REALISTIC, SDXL, FakeHub, base_files, published, tensors, write_bundle

from instantid import hub as hub_module
from instantid.bundle import open_bundle
from instantid.messages import LANGUAGES, explain
from instantid.weights import (
    BASE_MODELS,
    DEFAULT_BASE,
    announcement,
    download,
    obtain_bundle,
    plan_download,
    resolve_base,
)
from ip_adapter.errors import MachineError, UserError

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"

pytestmark = pytest.mark.usefixtures("quick_client")


@pytest.fixture
def hub():
    with FakeHub(published(), {BASE: "a-licence"}) as hub:
        yield hub


def quiet(line):
    pass


def fetch(hub, folder, base=DEFAULT_BASE, **options):
    plan = plan_download(base, folder, endpoint=hub.endpoint)
    return download(plan, **{"write": quiet, **options})


def failure(hub, folder, kind=MachineError, base=DEFAULT_BASE):
    with pytest.raises(kind) as caught:
        fetch(hub, folder, base)
    return caught.value


def names_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".download.lock"}


def test_only_the_needed_files_are_fetched_and_half_precision_preferred(hub, tmp_path):
    bundle = fetch(hub, tmp_path)
    needed = {f"base/{name}" for name in base_files((".fp16",))} | set(fake_hub.identity_files())
    assert names_in(tmp_path) == needed | {f"antelopev2/{name}" for name in fake_hub.face_files()}
    assert bundle.variant == "fp16"
    assert open_bundle(tmp_path) == bundle


def test_plain_weights_are_fetched_where_there_are_no_others(tmp_path):
    with FakeHub(published() | {BASE: base_files()}) as hub:
        assert fetch(hub, tmp_path).variant is None


def test_a_second_call_asks_the_network_nothing(hub, tmp_path):
    first = obtain_bundle(folder=tmp_path, endpoint=hub.endpoint, write=quiet)
    hub.requests.clear()
    assert obtain_bundle(folder=tmp_path, endpoint=hub.endpoint, write=quiet) == first
    assert hub.requests == []
    assert first.description == "InstantID · wangqixun/YamerMIX_v8"


def test_only_what_is_missing_is_fetched_again(hub, tmp_path):
    fetch(hub, tmp_path)
    (tmp_path / "ip-adapter.bin").unlink()
    (tmp_path / "antelopev2/glintr100.onnx").write_bytes(b"short")
    hub.requests.clear()
    obtain_bundle(folder=tmp_path, endpoint=hub.endpoint, write=quiet)
    assert sorted(hub.files_asked) == ["glintr100.onnx", "ip-adapter.bin"]


def test_a_connection_cut_once_goes_on_where_it_stopped(hub, tmp_path):
    hub.repos[BASE][UNET] = tensors(2000)
    hub.cuts[UNET] = [3500]
    fetch(hub, tmp_path)
    assert (tmp_path / "base" / UNET).read_bytes() == hub.repos[BASE][UNET]
    assert [bounds for name, bounds in hub.requests if name == UNET] == ["", "bytes=3000-"]


def test_a_cut_session_is_resumed_by_the_next_one(hub, tmp_path):
    hub.repos[BASE][UNET] = tensors(2000)
    hub.cuts[UNET] = [3500] + [0] * 20
    error = failure(hub, tmp_path)
    assert error.code == "weights.network"
    assert all(BASE in explain(error, language) and UNET in explain(error, language) for language in LANGUAGES)
    assert not (tmp_path / "base" / UNET).exists()
    hub.cuts.clear()
    hub.requests.clear()
    fetch(hub, tmp_path)
    assert (UNET, "bytes=3000-") in hub.requests
    assert (tmp_path / "base" / UNET).read_bytes() == hub.repos[BASE][UNET]
    assert not list(tmp_path.rglob("*.part"))


def test_a_part_of_an_older_version_is_not_sewn_on(hub, tmp_path):
    hub.repos[BASE][UNET] = tensors(2000)
    hub.cuts[UNET] = [3500] + [0] * 20
    failure(hub, tmp_path)
    hub.cuts.clear()
    hub.repos[BASE][UNET] = tensors(1900)
    fetch(hub, tmp_path)
    assert (tmp_path / "base" / UNET).read_bytes() == hub.repos[BASE][UNET]
    assert not list(tmp_path.rglob("*.part"))


def test_a_part_damaged_on_disk_is_found_out(hub, tmp_path):
    hub.repos[BASE][UNET] = tensors(2000)
    hub.cuts[UNET] = [3500] + [0] * 20
    failure(hub, tmp_path)
    hub.cuts.clear()
    (part,) = (tmp_path / "base/unet").glob("*.part")
    part.write_bytes(b"\0" * part.stat().st_size)
    assert failure(hub, tmp_path).code == "weights.corrupted"
    fetch(hub, tmp_path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_sizes_and_licences_are_shown_before_the_first_byte(hub, tmp_path, language):
    lines = []

    def write(line):
        assert not hub.files_asked or re.search(r"\d+ %", line)
        lines.append(line)

    plan = plan_download(DEFAULT_BASE, tmp_path, endpoint=hub.endpoint)
    download(plan, language=language, write=write)
    shown = announcement(replace(plan, files=()), language)[1:]
    assert lines[1:4] == shown
    assert f"{plan.total_bytes} bytes" in lines[0]
    research = {"es": "investigación no comercial", "en": "non-commercial research"}[language]
    assert ["a-licence" in shown[0], research in shown[1], research in shown[2]] == [True] * 3
    assert [repo in line for repo, line in zip((BASE, IDENTITY, FACES), shown, strict=True)] == [True] * 3
    assert "100 %" in lines[-1]


def test_a_base_without_a_stated_licence_points_to_its_page(tmp_path):
    with FakeHub(published()) as hub:
        plan = plan_download(DEFAULT_BASE, tmp_path, endpoint=hub.endpoint)
    assert f"https://huggingface.co/{BASE}" in announcement(plan, "en")[1]


def test_progress_counts_what_was_there_before(hub, tmp_path):
    fetch(hub, tmp_path)
    (tmp_path / "ip-adapter.bin").unlink()
    plan = plan_download(DEFAULT_BASE, tmp_path, endpoint=hub.endpoint)
    assert plan.remaining_bytes == len(hub.repos[IDENTITY]["ip-adapter.bin"])
    reports = []
    download(plan, on_progress=reports.append, write=quiet)
    assert all(report.done_bytes >= plan.total_bytes - plan.remaining_bytes for report in reports)
    assert (reports[-1].done_bytes, reports[-1].total_bytes) == (plan.total_bytes, plan.total_bytes)


def test_progress_comes_on_the_callers_thread_and_may_stop_the_download(hub, tmp_path):
    threads = []

    def give_up(progress):
        threads.append(threading.current_thread())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, on_progress=give_up)
    assert threads == [threading.current_thread()]


def test_stopping_ends_a_long_file_early_and_keeps_what_arrived(hub, tmp_path):
    def give_up(progress):
        weights = tmp_path / "base" / UNET
        if any(part.stat().st_size for part in weights.parent.glob(f"{weights.name}.*.part")):
            raise KeyboardInterrupt

    hub.repos[BASE][UNET] = tensors(20_000)
    hub.pauses[UNET] = 0.02
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, on_progress=give_up)
    assert not (tmp_path / "base" / UNET).exists()
    hub.pauses.clear()
    fetch(hub, tmp_path)
    assert any(name == UNET and bounds for name, bounds in hub.requests)


def test_a_disk_too_small_is_refused_before_the_first_byte(hub, tmp_path):
    plan = replace(plan_download(DEFAULT_BASE, tmp_path, endpoint=hub.endpoint), free_bytes=10)
    with pytest.raises(MachineError) as caught:
        download(plan, write=quiet)
    assert caught.value.code == "weights.does_not_fit"
    assert f"{plan.remaining_bytes} bytes" in str(caught.value)
    assert "10 bytes" in str(caught.value)
    assert hub.files_asked == []


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "weights.disk_full"), (errno.EACCES, "weights.cannot_write")]
)
def test_a_disk_that_refuses_while_writing_is_named(hub, tmp_path, monkeypatch, number, code):
    def refuse(self, chunk):
        raise OSError(number, "refused")

    monkeypatch.setattr(hub_module._CountedFile, "write", refuse)
    assert failure(hub, tmp_path).code == code


@pytest.mark.parametrize(
    ("name", "answer", "code"),
    [
        (UNET, (403, "GatedRepo"), "weights.gated"),
        (UNET, (401, "GatedRepo"), "weights.gated"),
        (UNET, (403, ""), "weights.gated"),
        (UNET, (404, "EntryNotFound"), "weights.file_not_found"),
        (UNET, (500, ""), "weights.server"),
        (BASE, (401, ""), "weights.repo_not_found"),
        (BASE, (404, "RepoNotFound"), "weights.repo_not_found"),
        (BASE, (503, ""), "weights.server"),
    ],
)
def test_what_the_server_refuses_is_named(hub, tmp_path, name, answer, code):
    hub.failures[name] = answer
    error = failure(hub, tmp_path)
    assert error.code == code
    assert BASE in str(error)


def test_no_network_is_named(tmp_path):
    with FakeHub({}) as hub:
        pass
    error = failure(hub, tmp_path)
    assert error.code == "weights.network"
    assert BASE in str(error)


def test_a_repository_that_lost_a_file_is_named(hub, tmp_path):
    del hub.repos[IDENTITY]["ip-adapter.bin"]
    error = failure(hub, tmp_path)
    assert error.code == "weights.file_not_found"
    assert "ip-adapter.bin" in str(error)
    assert hub.files_asked == []


def test_a_base_with_pickled_weights_only_is_refused(hub, tmp_path):
    hub.repos[BASE] = {name.replace(".safetensors", ".bin"): data for name, data in base_files().items()}
    assert failure(hub, tmp_path, UserError).code == "weights.repo_no_safetensors"


def test_a_base_that_is_not_sdxl_is_refused(hub, tmp_path):
    hub.repos[BASE] = {name: data for name, data in base_files().items() if not name.startswith("tokenizer_2")}
    error = failure(hub, tmp_path, UserError)
    assert error.code == "weights.repo_not_sdxl"
    assert "tokenizer_2" in str(error)


def test_two_base_models_live_side_by_side(hub, tmp_path):
    hub.repos[REALISTIC] = base_files()
    obtain_bundle(folder=tmp_path, endpoint=hub.endpoint, write=quiet)
    other = obtain_bundle(base="RealVisXL_V5.0", folder=tmp_path, endpoint=hub.endpoint, write=quiet)
    assert other.base == tmp_path / "bases/SG161222--RealVisXL_V5.0"
    assert open_bundle(tmp_path).base == tmp_path / "base"


@pytest.mark.parametrize("is_local", [True, False])
def test_a_single_file_base_gets_its_description(hub, tmp_path, is_local):
    hub.repos |= {SDXL: base_files(), "someone/models": {"xl/mine.safetensors": tensors()}}
    mine = fake_hub.write_files(tmp_path / "own", {"mine.safetensors": tensors()}) / "mine.safetensors"
    options = {"base": mine if is_local else "someone/models/xl/mine.safetensors", "folder": tmp_path / "home"}
    bundle = obtain_bundle(**options, endpoint=hub.endpoint, write=quiet)
    assert bundle.base == (mine if is_local else tmp_path / "home/bases/someone--models/mine.safetensors")
    assert {f"base_config/{name}" for name in base_files(())} <= names_in(tmp_path / "home")
    assert not any(name.endswith(".safetensors") for name in names_in(bundle.base_config))
    hub.requests.clear()
    obtain_bundle(**options, endpoint=hub.endpoint, write=quiet)
    assert hub.requests == []


def test_a_single_file_base_gets_its_description_also_when_all_else_is_there(hub, tmp_path):
    hub.repos[SDXL] = base_files()
    mine = fake_hub.write_files(tmp_path / "own", {"mine.safetensors": tensors()}) / "mine.safetensors"
    home = write_bundle(tmp_path / "home")
    bundle = obtain_bundle(base=mine, folder=home, endpoint=hub.endpoint, write=quiet)
    assert bundle.base_config == home / "base_config"


def test_a_bundle_given_by_its_folder_needs_no_hub(tmp_path):
    folder = write_bundle(tmp_path / "mine")
    assert obtain_bundle(folder, endpoint="http://127.0.0.1:9") == open_bundle(folder)


def test_a_broken_bundle_given_by_its_folder_is_not_downloaded_over(hub, tmp_path):
    (write_bundle(tmp_path) / "ip-adapter.bin").unlink()
    with pytest.raises(UserError, match=r"ip-adapter\.bin"):
        obtain_bundle(tmp_path, endpoint=hub.endpoint)
    assert hub.requests == []


def test_two_downloads_into_one_folder_are_kept_apart(hub, tmp_path):
    def second(progress):
        raise failure(hub, tmp_path)

    with pytest.raises(MachineError) as caught:
        fetch(hub, tmp_path, on_progress=second)
    assert caught.value.code == "weights.busy"


def test_the_home_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTANTID_HOME", str(write_bundle(tmp_path)))
    assert obtain_bundle(endpoint="http://127.0.0.1:9").base == tmp_path / "base"


@pytest.mark.parametrize("name", BASE_MODELS)
def test_each_named_base_is_known(name):
    assert resolve_base(name).repo_id == BASE_MODELS[name].repo_id


@pytest.mark.parametrize(
    ("text", "repo_id", "file"),
    [
        ("someone/model", "someone/model", None),
        ("someone/model/xl/one.safetensors", "someone/model", "xl/one.safetensors"),
        ("https://huggingface.co/someone/model", "someone/model", None),
        ("https://huggingface.co/someone/model/blob/main/one.safetensors", "someone/model", "one.safetensors"),
        (
            "https://huggingface.co/someone/model/resolve/main/one.safetensors?download=true",
            "someone/model",
            "one.safetensors",
        ),
    ],
)
def test_a_hub_address_is_understood(text, repo_id, file):
    assert (resolve_base(text).repo_id, resolve_base(text).file) == (repo_id, file)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "weights.unknown_base"),
        ("RealVis", "weights.unknown_base"),
        ("https://example.com/model", "weights.unknown_base"),
        ("a/b/../../../etc/x.safetensors", "weights.base_not_found"),
        ("./nowhere", "weights.base_not_found"),
        ("models/mine.safetensors", "weights.base_not_found"),
        (__file__, "weights.base_not_usable"),
    ],
)
def test_a_base_that_cannot_be_meant_is_refused(text, code):
    with pytest.raises(UserError) as caught:
        resolve_base(text)
    assert caught.value.code == code


def test_a_near_name_is_suggested():
    with pytest.raises(UserError, match=r"Did you mean RealVisXL_V5\.0\?"):
        resolve_base("realvis xl")


def test_the_token_is_sent_and_never_shown(hub, tmp_path):
    plan = plan_download(DEFAULT_BASE, tmp_path, endpoint=hub.endpoint, token="hf_secret")
    assert hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in repr(plan)


def test_statistics_are_off():
    """Set by `instantid` itself before any library is imported, and never by the tests."""
    assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
