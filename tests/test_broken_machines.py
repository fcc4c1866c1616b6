"""The check on broken machines, which are folders with packages of a few lines: what is said, and the cure."""

import shlex

import pytest
from broken_machines import LIBGL, ON_CPU, colab_runtime
from fake_packages import lay_out

from instantid import compatibility
from instantid.requirements import Requirement

INSTALLER = "python -m instantid.installation"
NEW_ENVIRONMENT = "Make a new environment: delete the folder .venv and start ./run"


@pytest.fixture
def environment(tmp_path, monkeypatch):
    return colab_runtime(tmp_path, monkeypatch)


@pytest.fixture
def card(tmp_path, environment):
    """The driver's program, which names a card whatever PyTorch sees."""
    program = tmp_path / "programs" / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "Tesla T4"\n')
    program.chmod(0o755)


# PyTorch


def test_a_missing_torch_is_installed(environment):
    environment.take("torch")
    assert environment.told("PyTorch") == ("❌ PyTorch - Not installed; torch>=2.6 is needed", INSTALLER)


@pytest.mark.parametrize(
    ("language", "warning", "cure"),
    [
        ("es", "No lo reinstales con pip", "Crea un entorno nuevo: borra la carpeta .venv y ejecuta ./run"),
        ("en", "Do not reinstall it with pip", NEW_ENVIRONMENT),
    ],
)
def test_an_old_torch_is_cured_by_a_new_environment_and_not_by_pip(environment, language, warning, cure):
    environment.torch("2.5.1+cu121")
    line, told = environment.told("PyTorch 2.5.1+cu121", language)
    assert warning in line
    assert told == cure


def test_a_torch_that_crashes_is_told_with_its_exit_code(environment):
    environment.put("torch", "2.11.0", "import os; os.abort()")
    assert environment.told("PyTorch 2.11.0 - Does not work (exit code -6)")[1] == NEW_ENVIRONMENT


def test_a_torch_whose_files_are_gone_does_not_work(environment):
    (environment.folder / "torch.py").unlink()
    assert environment.told("PyTorch 2.11.0+cu128 - Does not work (ModuleNotFoundError)")[1] == NEW_ENVIRONMENT


def test_a_torch_for_the_cpu_beside_a_card_is_an_error(environment, card):
    environment.torch("2.11.0+cpu", cuda=None, available=False)
    line, cure = environment.told("CUDA")
    assert line == "❌ CUDA - There is a Tesla T4, but this PyTorch is built for the CPU only."
    assert cure == NEW_ENVIRONMENT
    assert "🎮 GPU detectada: ninguna (hay una Tesla T4" in environment.report().text("es")


def test_a_card_that_a_torch_for_cuda_cannot_use_asks_for_a_driver(environment, card):
    environment.torch(available=False)
    line, cure = environment.told("CUDA")
    assert line == "❌ CUDA - There is a Tesla T4, but PyTorch with CUDA 12.8 cannot use it"
    assert cure == "Update the NVIDIA driver and restart the machine"


def test_a_torchvision_for_another_cuda_is_taken_away(environment):
    environment.put("torchvision", "0.26.0", "raise RuntimeError('torchvision has CUDA Version=13.0')")
    line, cure = environment.told("torchvision 0.26.0")
    assert "torchvision has CUDA Version=13.0" in line
    assert cure == "python -m pip uninstall --yes torchvision"


def test_a_torchvision_that_works_is_not_worth_a_line(environment):
    environment.put("torchvision", "0.26.0")
    assert "torchvision" not in environment.report().text()


def test_a_torchvision_is_not_blamed_for_a_torch_that_does_not_work(environment):
    environment.put("torch", "2.11.0", "raise ImportError('libc10.so')")
    environment.put("torchvision", "0.26.0", "import torch")
    assert "torchvision" not in environment.report().text()


# onnxruntime


def test_two_flavours_of_onnxruntime_have_one_cure(environment):
    environment.onnxruntime("onnxruntime", "1.32.0", works=ON_CPU, offered=ON_CPU)
    line, cure = environment.told("onnxruntime - ")
    assert "onnxruntime, onnxruntime-gpu are installed together" in line
    assert cure == environment.told("onnxruntime-gpu 1.26.0")[1] == INSTALLER


def test_plain_onnxruntime_beside_cuda_is_exchanged(environment):
    environment.take("onnxruntime-gpu")
    environment.onnxruntime("onnxruntime", "1.32.0", works=ON_CPU, offered=ON_CPU)
    line, cure = environment.told("onnxruntime 1.32.0")
    assert line.startswith("⚠️")
    assert cure == INSTALLER


def test_an_onnxruntime_for_another_cuda_is_told_with_the_right_range(environment):
    environment.onnxruntime(version="1.27.0")
    line, cure = environment.told("onnxruntime-gpu 1.27.0")
    assert "Built for another CUDA than PyTorch's 12.8" in line
    assert line.endswith("This CUDA goes with onnxruntime-gpu<1.27,>=1.19")
    assert cure == INSTALLER


def test_an_onnxruntime_that_finds_no_cuda_libraries_gets_them(environment):
    environment.onnxruntime(works=ON_CPU)
    line, cure = environment.told("onnxruntime-gpu 1.26.0")
    assert "analyses faces on the CPU" in line
    assert cure == 'python -m pip install "onnxruntime-gpu[cuda,cudnn]<1.27,>=1.19"'


def test_an_onnxruntime_that_another_flavour_overwrote_is_installed_again(environment):
    environment.onnxruntime(works=ON_CPU, offered=ON_CPU)
    cure = environment.told("onnxruntime-gpu 1.26.0")[1]
    assert cure == 'python -m pip install --ignore-installed --no-deps "onnxruntime-gpu==1.26.0"'


# insightface, and what it needs


def test_insightface_0_7_beside_numpy_1_is_fine(environment):
    environment.put("insightface", "0.7.3")
    environment.put("numpy", "1.26.4")
    assert environment.told("insightface") == ("✅ insightface 0.7.3 - Compatible", None)


@pytest.mark.parametrize("source", ["", "raise ImportError('numpy.core.multiarray failed to import')"])
def test_insightface_0_7_beside_numpy_2_is_exchanged(environment, source):
    environment.put("insightface", "0.7.3", source)
    environment.put("numpy", "2.1.3")
    line = "❌ insightface 0.7.3 - Does not work with numpy 2.1.3; insightface>=1.0.1 is needed"
    assert environment.told("insightface") == (line, INSTALLER)


def test_an_insightface_that_lacks_one_of_its_needs_is_left_to_the_installer(environment):
    environment.put("insightface", "2.1", "import onnx", needs=["onnx>=1.13", "onnxruntime", "opencv-python"])
    line, cure = environment.told("insightface 2.1")
    assert "No module named 'onnx'" in line
    assert cure == INSTALLER


def test_a_damaged_protobuf_is_found_behind_insightface_and_installed_again(environment):
    lay_out(environment.folder, "protobuf", "6.31.1", modules={"google/protobuf/json_format.py": "import lost_half"})
    lay_out(environment.folder, "onnx", "1.23", modules={"onnx.py": "import google.protobuf.json_format"})
    environment.put("insightface", "2.1", "import onnx")
    line, cure = environment.told("insightface 2.1")
    assert line.endswith("the cause is protobuf")
    assert cure == 'python -m pip install --ignore-installed --no-deps "protobuf==6.31.1"'


def test_a_protobuf_too_old_for_onnx_is_found_behind_insightface_and_replaced(environment):
    lay_out(environment.folder, "protobuf", "5.29.6", modules={"google/protobuf/json_format.py": ""})
    refusal = "raise ImportError('cannot import name runtime_version')"
    lay_out(environment.folder, "onnx", "1.23", needs=["protobuf>=6.31.1"], modules={"onnx.py": refusal})
    environment.put("insightface", "2.1", "import onnx")
    line, cure = environment.told("insightface 2.1", "es")
    assert line.endswith("la causa es onnx")
    assert cure == 'python -m pip install "protobuf>=6.31.1"'


def test_an_insightface_whose_own_files_are_damaged_is_installed_again(environment):
    environment.put("insightface", "2.1", "import insightface.half_of_it")
    cure = environment.told("insightface 2.1")[1]
    assert cure == 'python -m pip install --ignore-installed --no-deps "insightface==2.1"'


@pytest.mark.parametrize(
    ("flavour", "headless"),
    [("opencv-python", "opencv-python-headless"), ("opencv-contrib-python", "opencv-contrib-python-headless")],
)
def test_opencv_without_graphics_libraries_is_cured_by_the_headless_flavour_of_its_version(
    environment, flavour, headless
):
    environment.take("opencv-python-headless")
    environment.put(flavour, "4.12.0.88", LIBGL)
    line, cure = environment.told(f"{flavour} 4.12.0.88")
    assert "The system lacks graphics libraries for it" in line
    requirement = Requirement(shlex.split(cure)[-1])
    assert requirement.name == headless
    assert "4.12.0.88" in requirement.specifier
    assert "5.0.0.93" not in requirement.specifier


def test_an_insightface_that_only_lacks_a_working_opencv_points_there(environment):
    environment.put("opencv-python-headless", "5.0.0.93", LIBGL)
    environment.put("insightface", "2.1", "import cv2")
    line, cure = environment.told("insightface 2.1")
    assert line.endswith("the cause is opencv-python-headless")
    assert cure is None


# Outdated, or half uninstalled


def test_an_outdated_diffusers_is_left_to_the_installer_which_knows_its_neighbours(environment):
    environment.put("diffusers", "0.29.2")
    line = "❌ diffusers 0.29.2 - No sirve; hace falta diffusers>=0.30.0"
    assert environment.told("diffusers", "es") == (line, INSTALLER)


def test_metadata_without_files_is_half_installed(environment):
    (environment.folder / "gradio.py").unlink()
    line = "❌ gradio 6.24.0 - Half installed: its files are missing; install it again"
    assert environment.told("gradio") == (line, INSTALLER)


def test_a_folder_left_over_beside_the_metadata_is_half_installed(environment):
    (environment.folder / "gradio.py").unlink()
    (environment.folder / "gradio").mkdir()
    assert "Half installed" in environment.told("gradio 6.24.0")[0]


def test_files_without_metadata_are_not_installed(environment):
    environment.take("gradio")
    assert environment.told("gradio - Not installed")[1] == INSTALLER


def test_empty_metadata_is_not_installed(environment):
    (environment.folder / "gradio-6.24.0.dist-info" / "METADATA").write_text("")
    assert environment.told("gradio - Not installed")[1] == INSTALLER


def test_what_an_interrupted_pip_put_aside_is_not_installed(environment):
    (environment.folder / "torch-2.11.0+cu128.dist-info").rename(environment.folder / "~orch-2.11.0+cu128.dist-info")
    assert environment.told("PyTorch - Not installed")[1] == INSTALLER


def test_what_an_interrupted_pip_put_aside_does_not_hide_the_new_version(environment):
    lay_out(environment.folder, "torch", "2.5.0", modules={})
    (environment.folder / "torch-2.5.0.dist-info").rename(environment.folder / "~orch-2.5.0.dist-info")
    assert environment.told("PyTorch 2.11.0+cu128 - Compatible")[1] is None


def test_a_python_that_is_too_old_asks_for_a_new_environment(environment, monkeypatch):
    monkeypatch.setattr(compatibility, "OLDEST_PYTHON", (99, 1))
    line, cure = environment.told("Python 3")
    assert line.endswith("Too old; 99.1 or newer is needed")
    assert cure == NEW_ENVIRONMENT
