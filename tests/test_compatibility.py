"""The check of an installation, over packages of a few lines laid out in a folder; the child Python is real."""

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pip
import pytest
from fake_packages import lay_out

from instantid import compatibility, probe
from instantid.compatibility import check_environment
from instantid.probe import ask_libraries, can_be_found, torch_cuda

VERSIONS = {
    **{"torch": "2.11.0+cu128", "diffusers": "0.39.0", "transformers": "5.15.0", "accelerate": "1.14.0"},
    **{"huggingface-hub": "1.27.0", "insightface": "2.1", "onnxruntime-gpu": "1.26.0"},
    **{"opencv-python-headless": "5.0.0.93", "gradio": "6.24.0", "psutil": "5.9.5", "peft": "0.20.0"},
}
TORCH = """
class version: cuda = {cuda!r}
class cuda:
    is_available = staticmethod(lambda: {available})
    get_device_properties = staticmethod(lambda i: type("Card", (), dict(name="Tesla T4", total_memory=15 * 2**30)))
class backends:
    class mps: is_available = staticmethod(lambda: False)
"""
ONNXRUNTIME = """
get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
class InferenceSession:
    def __init__(self, model, providers): pass
    get_providers = lambda self: {works}
"""
ON_CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


class Environment:
    """A folder of installed packages; by default a good Colab GPU runtime."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name, version in VERSIONS.items():
            self.put(name, version)
        self.torch()
        self.onnxruntime()

    def put(self, name, version, source=""):
        self.take(name)
        lay_out(self.folder, name, version, modules={f"{compatibility.module_of(name)}.py": source})

    def take(self, name):
        for info in self.folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(info)

    def torch(self, version="2.11.0+cu128", cuda="12.8", available=True):
        self.put("torch", version, TORCH.format(cuda=cuda, available=available))

    def onnxruntime(self, name="onnxruntime-gpu", version="1.26.0", works=ON_CUDA):
        self.put(name, version, ONNXRUNTIME.format(works=works))

    def report(self, **options):
        return check_environment(search_path=[str(self.folder)], **options)

    def finding(self, subject):
        (found,) = (finding for finding in self.report().findings if finding.subject == subject)
        return found


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
    missing = [finding.command for finding in report.findings if finding.level == "error"]
    assert len(missing) == 11
    assert 'pip install "diffusers>=0.30.0"' in missing
    assert "🎮 GPU detectada: ninguna (falta PyTorch o no funciona)" in report.text("es")


def test_an_outdated_package_shows_its_cure_on_the_next_line(environment):
    environment.put("diffusers", "0.29.2")
    lines = environment.report().text("en").splitlines()
    at = lines.index("❌ diffusers 0.29.2 - Does not fit; diffusers>=0.30.0 is needed")
    assert lines[at + 1].strip() == '→ pip install "diffusers>=0.30.0"'


def test_a_version_newer_than_tested_is_compatible_and_says_so(environment):
    environment.put("transformers", "6.0.0")
    finding = environment.finding("transformers")
    assert finding.level == "ok"
    assert "newer than the newest tested (5.23.0)" in finding.sentence["en"]


def test_a_patch_release_of_a_tested_version_is_not_newer(environment):
    environment.torch("2.13.1")
    assert environment.finding("torch").sentence["es"] == "PyTorch 2.13.1 - Compatible"


def test_an_old_torch_is_cured_by_a_new_runtime_and_not_by_pip(environment):
    environment.torch("2.5.1+cu121")
    finding = environment.finding("torch")
    assert finding.level == "error"
    assert "Runtime →" in finding.command


def test_a_crash_of_torch_is_a_finding(environment):
    environment.put("torch", "2.11.0", "import os; os.abort()")
    finding = environment.finding("torch")
    assert finding.level == "error"
    assert "exit code" in finding.sentence["es"]
    assert "pip" not in finding.command


def test_a_torch_whose_files_are_gone_is_a_finding(environment):
    (environment.folder / "torch.py").unlink()
    assert "ModuleNotFoundError" in environment.finding("torch").sentence["en"]


def test_a_half_uninstalled_package_is_installed_again(environment):
    (environment.folder / "gradio.py").unlink()
    (environment.folder / "gradio").mkdir()
    finding = environment.finding("gradio")
    assert finding.level == "error"
    assert finding.command == 'pip install --force-reinstall --no-deps "gradio==6.24.0"'


def test_a_library_that_hangs_is_given_up_and_named(environment):
    environment.put("onnxruntime-gpu", "1.26.0", "import time; time.sleep(60)")
    answers = ask_libraries(["torch", "onnxruntime", "cv2"], [str(environment.folder)], seconds=1.5)
    assert answers["torch"]["gpu"] == "Tesla T4"
    assert answers["onnxruntime"] == {"hung": 1.5}
    assert "cv2" not in answers


def test_a_library_that_talks_while_it_is_imported_does_not_disturb(environment):
    environment.put("insightface", "2.1", "print('{welcome}')")
    assert environment.finding("insightface").level == "ok"


def test_an_insightface_that_lacks_one_of_its_needs_is_left_to_the_installer(environment):
    environment.put("insightface", "2.1", "import onnx_of_nobody")
    finding = environment.finding("insightface")
    assert "onnx_of_nobody" in finding.sentence["en"]
    assert finding.command == "python -m instantid.installation"


def test_opencv_without_graphics_libraries_is_cured_by_the_headless_flavour(environment):
    environment.take("opencv-python-headless")
    environment.put("opencv-python", "5.0.0.93", "raise ImportError('libGL.so.1: cannot open shared object file')")
    finding = environment.finding("opencv-python")
    assert finding.level == "error"
    assert finding.command.endswith("opencv-python-headless")


def test_a_gpu_that_a_cpu_torch_cannot_see_is_an_error(environment, monkeypatch):
    monkeypatch.setattr(compatibility, "nvidia_gpu", lambda: "Tesla T4")
    environment.torch("2.11.0+cpu", cuda=None, available=False)
    assert "built for the CPU only" in environment.finding("cuda").sentence["en"]
    assert "🎮 GPU detectada: ninguna (hay una Tesla T4" in environment.report().text("es")


def test_a_gpu_that_a_cuda_torch_cannot_use_is_an_error(environment, monkeypatch):
    monkeypatch.setattr(compatibility, "nvidia_gpu", lambda: "Tesla T4")
    environment.torch(available=False)
    assert environment.finding("cuda").level == "error"


def test_a_machine_without_a_gpu_is_warned_that_it_is_slow(environment):
    environment.torch(available=False)
    assert environment.finding("cuda").level == "warning"
    assert environment.report().ok


def test_an_onnxruntime_for_another_cuda_is_a_warning_with_the_right_range(environment):
    environment.onnxruntime(version="1.27.0")
    finding = environment.finding("onnxruntime-gpu")
    assert finding.level == "warning"
    assert finding.command == 'pip install "onnxruntime-gpu<1.27,>=1.19"'


def test_an_onnxruntime_that_falls_back_to_the_cpu_is_a_warning(environment):
    environment.onnxruntime(works=["CPUExecutionProvider"])
    assert environment.finding("onnxruntime-gpu").level == "warning"


def test_plain_onnxruntime_beside_cuda_is_a_warning_and_not_a_missing_package(environment):
    environment.take("onnxruntime-gpu")
    environment.onnxruntime("onnxruntime", "1.32.0", works=["CPUExecutionProvider"])
    assert environment.finding("onnxruntime").level == "warning"
    assert environment.report().ok


def test_two_flavours_of_onnxruntime_are_named(environment):
    environment.onnxruntime("onnxruntime", "1.32.0")
    assert "onnxruntime, onnxruntime-gpu" in environment.finding("onnxruntime").sentence["es"]


def test_insightface_0_7_beside_numpy_2_asks_for_a_newer_one(environment):
    environment.put("insightface", "0.7.3")
    environment.put("numpy", "2.1.3")
    finding = environment.finding("insightface")
    assert finding.level == "error"
    assert "numpy 2.1.3" in finding.sentence["es"]
    assert "insightface>=1.0.1" in finding.sentence["es"]


def test_insightface_without_cuda_is_a_plain_pip_install(environment):
    environment.take("insightface")
    environment.take("onnxruntime-gpu")
    environment.onnxruntime("onnxruntime", "1.32.0", works=["CPUExecutionProvider"])
    environment.torch("2.13.0+cpu", cuda=None, available=False)
    assert environment.finding("insightface").command == 'pip install "insightface>=0.7.3"'


def test_memory_and_disk_are_judged_when_they_are_known(environment):
    hardware = types.SimpleNamespace(ram_gib=6.0, vram_gib=None, disk_gib=50.0)
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
    (tmp_path / "pip").symlink_to(Path(pip.__file__).parent)
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
