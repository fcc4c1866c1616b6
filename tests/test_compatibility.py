"""The check of an installation, over packages of a few lines laid out in a folder; the child Python is real."""

import json
import os
import subprocess
import sys
import types
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
from broken_machines import PIP, Environment

from instantid import compatibility, probe
from instantid.compatibility import check_environment
from instantid.cures import INSTALLER
from instantid.probe import ask_libraries, can_be_found, torch_cuda


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setattr(compatibility, "nvidia_gpu", lambda: None)
    return Environment(tmp_path)


def test_the_spanish_report_opens_with_what_there_is(environment):
    lines = environment.report().text("es").splitlines()
    assert lines[0] == "🔍 Verificando instalación..."
    assert lines[1].startswith("📋 Versiones básicas: Python ")
    assert "PyTorch 2.11.0+cu128 · diffusers 0.39.0 · transformers 5.15.0" in lines[1]
    assert lines[2] == "🎮 GPU detectada: Tesla T4 (15.0 GiB)"
    assert lines[3] == "🎯 Verificación de compatibilidad:"
    assert "✅ PyTorch 2.11.0+cu128 - Compatible" in lines


def test_the_english_report_says_the_same(environment):
    lines = environment.report(language="en").text().splitlines()
    assert lines[0] == "🔍 Checking the installation..."
    assert lines[2] == "🎮 GPU detected: Tesla T4 (15.0 GiB)"


def test_a_good_colab_runtime_has_nothing_to_mend(environment):
    assert {finding.level for finding in environment.report().findings} == {"ok"}


def test_the_report_is_ready_for_json(environment):
    data = json.loads(json.dumps(environment.report().data))
    assert data["ok"]
    assert {"subject", "level", "version", "sentence", "command"} == set(data["findings"][0])


def test_nothing_is_imported_in_this_process(environment):
    environment.put("peft", "0.20.0", "raise SystemExit('imported')")
    before = set(sys.modules)
    environment.report()
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in {"torch", "onnxruntime", "peft"}}


def test_an_empty_environment_is_told_package_by_package(tmp_path, monkeypatch):
    monkeypatch.setattr(compatibility, "nvidia_gpu", lambda: None)
    report = check_environment(search_path=[str(tmp_path)])
    assert not report.ok
    missing = [finding for finding in report.findings if finding.level == "error"]
    assert len(missing) == 11
    assert {finding.cure for finding in missing} == {INSTALLER}
    assert "🎮 GPU detectada: ninguna (falta PyTorch o no funciona)" in report.text("es")


def test_an_outdated_package_shows_its_cure_on_the_next_line(environment):
    environment.put("diffusers", "0.29.2")
    lines = environment.report().text("en").splitlines()
    at = lines.index("❌ diffusers 0.29.2 - Does not fit; diffusers>=0.30.0 is needed")
    assert lines[at + 1] == f"   → {INSTALLER.text('en')}"


def test_a_version_newer_than_tested_is_compatible_and_says_so(environment):
    environment.put("transformers", "6.0.0")
    finding = environment.finding("transformers")
    assert finding.level == "ok"
    assert "newer than the newest tested (5.23.0)" in finding.sentence["en"]


def test_a_patch_release_of_a_tested_version_is_not_newer(environment):
    environment.torch("2.13.1")
    assert environment.finding("torch").sentence["es"] == "PyTorch 2.13.1 - Compatible"


def test_a_library_that_hangs_is_given_up_and_named(environment):
    environment.put("onnxruntime-gpu", "1.26.0", "import time; time.sleep(60)")
    answers = ask_libraries(["torch", "onnxruntime", "cv2"], [str(environment.folder)], seconds=1.5)
    assert answers["torch"]["gpu"] == "Tesla T4"
    assert answers["onnxruntime"] == {"hung": 1.5}
    assert "cv2" not in answers


def test_a_library_that_talks_while_it_is_imported_does_not_disturb(environment):
    environment.put("insightface", "2.1", "print('{welcome}')")
    assert environment.finding("insightface").level == "ok"


def test_a_machine_without_a_gpu_is_warned_that_it_is_slow(environment):
    environment.torch(available=False)
    assert environment.finding("cuda").level == "warning"
    assert environment.report().ok


def test_memory_and_disk_are_judged_when_they_are_known(environment):
    hardware = types.SimpleNamespace(ram_gib=4.0, vram_gib=None, disk_gib=50.0)
    levels = {finding.subject: finding.level for finding in environment.report(hardware=hardware).findings}
    assert (levels["ram"], levels["disk"]) == ("warning", "ok")
    assert "vram" not in levels


def test_the_cuda_of_torch_is_read_without_importing_it(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "torch" / "version.py").write_text("cuda: str = '12.8'")
    assert torch_cuda([str(tmp_path)]) == "12.8"


def test_a_folder_left_over_is_no_module(tmp_path):
    (tmp_path / "leftover").mkdir()
    assert not can_be_found("leftover", [str(tmp_path)])


def test_a_module_that_an_editable_installation_finds_its_own_way_is_there(tmp_path, monkeypatch):
    source = tmp_path / "editable_of_ours.py"
    source.write_text("")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return spec_from_file_location(name, source) if name == source.stem else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert can_be_found(source.stem)


def test_without_a_driver_there_is_no_cuda_whatever_torch_was_built_for(monkeypatch):
    monkeypatch.setattr(probe.shutil, "which", lambda name: None)
    monkeypatch.setattr(probe, "Path", lambda name: Path("/nowhere"))
    monkeypatch.setattr(probe, "torch_cuda", lambda search_path: "13.0")
    assert probe.machine_cuda() is None


def test_the_driver_names_card_and_cuda(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ $# = 0 ] && echo "| CUDA Version: 12.8  |" || echo "Tesla T4"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert probe.nvidia_gpu() == "Tesla T4"
    assert probe.machine_cuda([str(tmp_path / "no-torch-here")]) == "12.8"


def test_the_newest_tested_versions_are_inside_the_promised_ranges():
    requirements = compatibility.project_requirements()
    assert [item.name for item in requirements if not compatibility.fits(item, compatibility.TESTED)] == []


def test_the_check_and_the_installer_start_where_only_pip_is_installed(tmp_path):
    (tmp_path / "pip").symlink_to(PIP)
    ended = subprocess.run(
        [sys.executable, "-S", "-c", "import instantid.compatibility, instantid.installation"],
        env={"PYTHONPATH": os.pathsep.join([str(probe.ROOT), str(tmp_path)])},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


def test_onnxruntime_says_which_provider_really_runs():
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    assert "CPUExecutionProvider" in ask_libraries(["onnxruntime"])["onnxruntime"]["providers"]
