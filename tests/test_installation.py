"""Installation by difference: the plan from facts alone, and the real pip in a fresh environment with our packages."""

import os
import time
import types
from pathlib import Path

import pytest
from broken_machines import Machine
from fake_packages import lay_out, write_wheel

from instantid import installation
from instantid.installation import InstallationReport, imported_among, install, installation_plan
from instantid.messages import MachineError, say
from instantid.requirements import (
    ROOT,
    Requirement,
    canonicalize_name,
    installed_versions,
    needs_of,
    read_requirements,
)

REQUIREMENTS = [
    *map(Requirement, ("torch>=2.6", "diffusers>=0.30.0", "transformers>=4.41.0", "accelerate>=0.30.0")),
    *map(Requirement, ("huggingface-hub>=0.25.0", "insightface>=0.7.3", "onnxruntime-gpu>=1.19")),
    *map(Requirement, ("opencv-python>=4.8", "gradio>=5.14", "psutil>=5.9", "peft>=0.11")),
]
COMPLETE = {
    **{"torch": "2.13.0", "diffusers": "0.42.1", "transformers": "5.23.0", "accelerate": "1.15.0"},
    **{"huggingface-hub": "2.4.0", "insightface": "2.1", "onnxruntime": "1.32.0", "opencv-python": "5.0.0.93"},
    **{"gradio": "6.31.0", "psutil": "7.2.2", "peft": "0.21.2", "numpy": "2.4.6"},
}
CUDA_12_8 = "cuda = '12.8'"  # as in torch/version.py


@pytest.fixture
def colab():
    """Canonical name -> version, of a real Colab GPU runtime."""
    lines = (Path(__file__).parent / "data" / "colab-gpu-runtime.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def without(*names):
    return {name: version for name, version in COMPLETE.items() if name not in names}


def test_colab_gets_insightface_and_its_missing_needs_and_the_onnxruntime_of_its_cuda(colab):
    plan = installation_plan(REQUIREMENTS, colab, cuda="12.8")
    assert plan.bare == ("insightface>=1.0.1",)
    assert plan.packages == ("onnxruntime-gpu<1.27,>=1.19", "onnx>=1.13")


def test_everything_on_colab_is_held_at_its_version(colab):
    held = {name: version for name, version in colab.items() if name != "setuptools"}
    constraints = installation_plan(REQUIREMENTS, colab, cuda="12.8").constraints
    assert constraints == tuple(f"{name}=={version}" for name, version in sorted(held.items()))


def test_the_old_setuptools_of_a_fresh_environment_may_move():
    assert installation_plan(REQUIREMENTS, {"setuptools": "65.5.0", "pip": "23.2"}).constraints == ()


def test_a_local_version_label_stays_in_the_constraint(colab):
    assert "torch==2.11.0+cu128" in installation_plan(REQUIREMENTS, colab, cuda="12.8").constraints


def test_a_version_that_pip_cannot_express_is_left_out_of_the_constraints(colab):
    plan = installation_plan(REQUIREMENTS, colab | {"oddity": "built by hand"}, cuda="12.8")
    assert not any("oddity" in line for line in plan.constraints)


def test_where_everything_fits_there_is_nothing_to_do():
    assert installation_plan(REQUIREMENTS, COMPLETE).empty


def test_a_bare_machine_without_cuda_gets_everything_with_plain_onnxruntime():
    plan = installation_plan(REQUIREMENTS, {})
    assert plan.packages == tuple(str(item).replace("onnxruntime-gpu", "onnxruntime") for item in REQUIREMENTS)


def test_cuda_13_gets_the_onnxruntime_that_is_built_for_it():
    plan = installation_plan(REQUIREMENTS, without("onnxruntime"), cuda="13.0")
    assert plan.packages == ("onnxruntime-gpu>=1.19,>=1.27",)


def test_cuda_11_has_no_onnxruntime_of_its_own_and_gets_the_plain_one():
    assert installation_plan(REQUIREMENTS, without("onnxruntime"), cuda="11.8").packages == ("onnxruntime>=1.19",)


def test_an_onnxruntime_built_for_another_cuda_is_exchanged():
    plan = installation_plan(REQUIREMENTS, without("onnxruntime") | {"onnxruntime-gpu": "1.30.0"}, cuda="12.8")
    assert plan.packages == ("onnxruntime-gpu<1.27,>=1.19",)


def test_plain_onnxruntime_makes_way_where_there_is_cuda():
    plan = installation_plan(REQUIREMENTS, COMPLETE, cuda="12.8")
    assert (plan.remove, plan.packages) == (("onnxruntime",), ("onnxruntime-gpu<1.27,>=1.19",))


def test_two_flavours_of_onnxruntime_both_make_way_for_one():
    plan = installation_plan(REQUIREMENTS, COMPLETE | {"onnxruntime-gpu": "1.32.0"})
    assert (plan.remove, plan.packages) == (("onnxruntime", "onnxruntime-gpu"), ("onnxruntime>=1.19",))


def test_a_gpu_onnxruntime_serves_a_machine_without_cuda_too():
    assert installation_plan(REQUIREMENTS, without("onnxruntime") | {"onnxruntime-gpu": "1.32.0"}).empty


@pytest.mark.parametrize("flavour", ["opencv-python-headless", "opencv-contrib-python"])
def test_any_flavour_of_opencv_will_do(flavour):
    assert installation_plan(REQUIREMENTS, without("opencv-python") | {flavour: "4.14.0.94"}).empty


def test_insightface_comes_bare_where_it_would_bring_a_second_opencv():
    installed = without("opencv-python", "insightface") | {"opencv-python-headless": "5.0.0.93"}
    assert installation_plan(REQUIREMENTS, installed).bare == ("insightface>=1.0.1",)


def test_insightface_comes_with_its_needs_where_nothing_stands_in_for_them():
    plan = installation_plan(REQUIREMENTS, without("insightface"))
    assert (plan.bare, plan.packages) == ((), ("insightface>=1.0.1",))


@pytest.mark.parametrize(("found", "flavour"), [("libGL.so.1", "opencv-python"), (None, "opencv-python-headless")])
def test_linux_without_graphics_libraries_gets_the_headless_opencv(monkeypatch, found, flavour):
    monkeypatch.setattr(installation.sys, "platform", "linux")
    monkeypatch.setattr(installation, "find_library", lambda name: found)
    monkeypatch.setattr(installation, "installed_versions", dict)
    packages = installation.plan_for_this_machine().packages
    assert [line for line in packages if line.startswith("opencv")] == [f"{flavour}>=4.8"]


def test_needs_left_missing_by_an_interrupted_installation_are_found():
    needs = {"insightface": ["onnx>=1.13", "onnxruntime", "opencv-python", 'PyYAML; extra == "gui"']}
    assert installation_plan(REQUIREMENTS, COMPLETE, needs=needs).packages == ("onnx>=1.13",)


def test_numpy_2_asks_for_a_newer_insightface():
    assert installation_plan(REQUIREMENTS, COMPLETE | {"insightface": "0.7.3"}).packages == ("insightface>=1.0.1",)


def test_insightface_0_7_is_left_alone_beside_numpy_1():
    assert installation_plan(REQUIREMENTS, COMPLETE | {"insightface": "0.7.3", "numpy": "1.26.4"}).empty


def test_an_old_torch_is_reported_and_never_installed():
    plan = installation_plan(REQUIREMENTS, COMPLETE | {"torch": "2.5.1+cu121"})
    assert plan.old_torch == "2.5.1+cu121"
    assert plan.empty


@pytest.mark.parametrize("language", ["es", "en"])
def test_the_report_of_an_old_torch_says_so_in_both_languages(language):
    plan = installation_plan(REQUIREMENTS, COMPLETE | {"torch": "2.5.1"})
    text = InstallationReport(plan).text(language)
    assert text.startswith("❌ PyTorch 2.5.1")


def test_an_outdated_package_is_replaced_within_what_its_neighbours_accept():
    installed = COMPLETE | {"huggingface-hub": "0.20.0"}
    plan = installation_plan(REQUIREMENTS, installed, needs={"transformers": ["huggingface-hub<3.0,>=1.5", "numpy"]})
    assert plan.packages == ("huggingface-hub>=0.25.0",)
    assert "huggingface-hub<3.0,>=1.5" in plan.constraints


def test_the_companions_of_an_outdated_package_may_move_with_it_but_numpy_may_not():
    installed = COMPLETE | {"transformers": "4.30.0", "tokenizers": "0.13.3"}
    plan = installation_plan(REQUIREMENTS, installed, needs={"transformers": ["tokenizers<0.14", "numpy<3"]})
    assert not any(line.startswith("tokenizers") for line in plan.constraints)
    assert "numpy==2.4.6" in plan.constraints


def test_a_nightly_build_of_torch_counts():
    assert installation_plan(REQUIREMENTS, COMPLETE | {"torch": "2.14.0.dev20260101+cu128"}).empty


def test_the_promised_packages_are_in_the_requirements_file():
    names = {item.name for item in read_requirements((ROOT / "requirements.txt").read_text(encoding="utf-8"))}
    onnxruntime = names & {"onnxruntime", "onnxruntime-gpu"}
    assert len(onnxruntime) == 1
    assert names - onnxruntime == {item.name for item in REQUIREMENTS} - {"onnxruntime-gpu"}


def test_metadata_without_a_name_is_no_package(tmp_path):
    (tmp_path / "torch-2.6.0.dist-info").mkdir()
    assert installed_versions([str(tmp_path)]) == {}


def test_needs_are_read_from_the_metadata_of_what_is_installed(tmp_path):
    lay_out(tmp_path, "insightface", "2.1", needs=["onnx>=1.13"])
    assert needs_of(["insightface", "gradio"], [str(tmp_path)]) == {"insightface": ["onnx>=1.13"]}


def test_only_packages_with_an_imported_file_ask_for_a_restart():
    module = types.SimpleNamespace(__file__=pytest.__file__)
    assert imported_among(["pytest", "pip"], {"pytest": module}) == ("pytest",)


def test_pip_failing_is_told_with_its_last_lines(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    plan = installation.InstallationPlan(packages=("no-such-package-of-ours",))
    monkeypatch.setattr(installation, "plan_for_this_machine", lambda further: plan)
    with pytest.raises(MachineError, match="No matching distribution found for no-such-package-of-ours"):
        install("en", tell=lambda line: None)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A machine with an older numpy and nothing else of the project's; newer wheels of everything are at hand."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    needs = {
        "gradio": ["numpy"],
        "insightface": ["numpy", "onnx>=1.13", "onnxruntime", "opencv-python"],
        "torch": ["numpy"],
    }
    for name, version in (COMPLETE | {"onnx": "1.23", "opencv-python-headless": "5.0.0"}).items():
        write_wheel(machine.wheels, name, version, needs=needs.get(name, ()))
    write_wheel(machine.wheels, "numpy", "2.1.3")
    for name in ("tqdm", "requests", "scipy", "scikit-image"):
        write_wheel(machine.wheels, name, "1.0")
    machine.run("-m", "pip", "install", "numpy==2.1.3").check_returncode()
    return machine


def test_a_bare_python_gets_everything_from_nothing(machine):
    preview = machine.install("--dry-run")
    assert "torch>=2.6" in preview
    assert "torch" not in machine.versions()
    machine.install()
    versions = machine.versions()
    assert set(COMPLETE) - {"opencv-python", "numpy"} <= set(versions)
    assert versions["numpy"] == "2.1.3"


def test_a_second_installation_calls_no_pip_and_takes_no_time(machine):
    machine.install()
    started = time.perf_counter()
    said = machine.install()
    assert said.strip() == "✅ Everything needed is already installed; no restart needed."
    assert time.perf_counter() - started < 2


def test_a_lost_package_comes_back_alone(machine):
    machine.install()
    machine.run("-m", "pip", "uninstall", "--yes", "gradio").check_returncode()
    said = machine.install()
    assert "✅ Installed: gradio 6.31.0\nNo restart needed." in said


def test_a_changed_package_that_was_already_imported_asks_for_a_restart_and_then_all_goes_straight_through(machine):
    """As in a notebook whose runtime came with an older gradio: the cell runs in the process that has imported it."""
    machine.install()
    write_wheel(machine.wheels, "gradio", "4.0", needs=["numpy"])
    machine.run("-m", "pip", "install", "gradio==4.0").check_returncode()
    cell = ["-c", "import gradio, numpy; from instantid.installation import install; install('en')"]
    said = machine.run(*cell).stdout
    assert "✅ Installed: gradio 6.31.0" in said
    assert say("install.restart", "en", packages="gradio") in said
    assert machine.run(*cell).stdout.strip() == say("install.nothing", "en")


def test_colab_keeps_all_it_has_and_gets_no_second_onnxruntime(tmp_path, colab):
    machine = Machine(tmp_path)
    for name, version in colab.items():
        if name not in ("setuptools", "packaging"):
            lay_out(machine.packages, name, version)
    lay_out(machine.packages, "torch", "2.11.0+cu128", modules={"torch/__init__.py": "", "torch/version.py": CUDA_12_8})
    for name, version in {"onnxruntime": "1.32.0", "onnx": "1.23", "numpy": "2.4.6", "needed-in-future": "1.0"}.items():
        write_wheel(machine.wheels, name, version)
    for version in ("1.26.0", "1.27.0"):
        write_wheel(machine.wheels, "onnxruntime-gpu", version, needs=["numpy"])
    needs = ["numpy", "onnx>=1.13", "onnxruntime", "opencv-python", "needed-in-future"]
    write_wheel(machine.wheels, "insightface", "2.1", needs=needs)
    driver = tmp_path / "driver"
    driver.mkdir()
    (driver / "nvidia-smi").write_text("#!/bin/sh\n")
    (driver / "nvidia-smi").chmod(0o755)
    machine.variables["PATH"] = f"{driver}{os.pathsep}{machine.variables['PATH']}"
    before = machine.versions()
    machine.install()
    new = {"insightface": "2.1", "onnxruntime-gpu": "1.26.0", "onnx": "1.23", "needed-in-future": "1.0"}
    assert machine.versions() == before | new
