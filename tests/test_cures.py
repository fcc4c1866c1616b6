"""What the check tells to do: put as it can be done where it is read, and it mends machines with the real pip."""

import os
import shlex
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from broken_machines import LIBGL, ON_CPU, ONNXRUNTIME, TORCH, VERSIONS, Machine, colab_runtime, line_and_cure
from fake_packages import lay_out, write_wheel

from instantid import compatibility, cures
from instantid.requirements import ROOT, module_of


@pytest.fixture
def environment(tmp_path, monkeypatch):
    return colab_runtime(tmp_path, monkeypatch)


@pytest.fixture
def in_a_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))


@pytest.fixture
def in_colab(in_a_notebook, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())


@pytest.mark.usefixtures("in_a_notebook")
def test_a_notebook_is_sent_back_to_its_first_cell(environment):
    environment.take("diffusers")
    assert environment.told("diffusers", "es")[1] == "Ejecuta otra vez la celda 1 (Instalación)"
    assert environment.told("diffusers", "en")[1] == "Run cell 1 (Installation) again"


@pytest.mark.usefixtures("in_a_notebook")
def test_a_notebook_calls_pip_as_a_cell_can(environment):
    environment.put("opencv-python-headless", "5.0.0.93", "raise ImportError('damaged')")
    cure = environment.told("opencv-python-headless")[1]
    assert cure == '%pip install --ignore-installed --no-deps "opencv-python-headless==5.0.0.93"'


@pytest.mark.usefixtures("in_colab")
@pytest.mark.parametrize(("language", "menu"), [("es", "Entorno de ejecución → "), ("en", "Runtime → ")])
@pytest.mark.parametrize("broken", ["torch", "card", "cpu", "hung"])
def test_colab_names_the_entry_of_its_menu(environment, monkeypatch, language, menu, broken):
    if broken == "torch":
        environment.torch("2.5.1")
    elif broken == "hung":
        monkeypatch.setattr(compatibility, "ask_libraries", lambda *asked: {"onnxruntime": {"hung": 120.0}})
    else:
        environment.torch(available=False)
        monkeypatch.setattr(compatibility, "nvidia_gpu", lambda: "Tesla T4" if broken == "card" else None)
    told = [finding.command(language) for finding in environment.report().findings if finding.cure]
    assert told
    assert all(cure.startswith(menu) for cure in told)


@pytest.mark.usefixtures("environment")
def test_the_installer_is_called_from_where_the_project_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, _, command = cures.INSTALLER.text("en").partition(" && ")
    assert (shlex.split(folder), command) == (["cd", str(ROOT)], "python -m instantid.installation")


@pytest.mark.parametrize(("on_path", "called"), [(True, "python"), (False, "'/with a space/python'")])
def test_a_command_names_the_python_that_was_checked(monkeypatch, on_path, called):
    monkeypatch.setattr(cures.sys, "executable", "/with a space/python")
    monkeypatch.setattr(cures.shutil, "which", lambda name: "/with a space/python" if on_path else "/usr/bin/python")
    assert cures.shell_python() == called


# At work


class Mended(Machine):
    """A machine without CUDA where all is well, with a wheel of each package at hand, to be broken by a test."""

    def __init__(self, folder):
        super().__init__(folder)
        self.variables["PATH"] = os.defpath
        torch = TORCH.format(cuda=None, available=False)
        onnxruntime = ONNXRUNTIME.format(offered=ON_CPU, works=ON_CPU)
        self.sources = {"torch": torch, "onnxruntime": onnxruntime, "onnxruntime-gpu": onnxruntime}
        for name in [*VERSIONS, "onnxruntime", "opencv-python"]:
            self.write(write_wheel, self.wheels, name)
        for name in set(VERSIONS) - {"onnxruntime-gpu", "opencv-python-headless"} | {"onnxruntime", "opencv-python"}:
            self.write(lay_out, self.packages, name)

    def write(self, how, where, name, source=None, needs=()):
        module = {f"{module_of(name)}/__init__.py": self.sources.get(name, "") if source is None else source}
        how(where, name, VERSIONS.get(name, "5.0.0.93" if "opencv" in name else "1.26.0"), needs=needs, modules=module)

    def told(self, start):
        ended = self.run("-m", "instantid", "check", "--language", "en")
        assert ended.stderr == ""
        return line_and_cure(ended.stdout, start)

    def follow(self, cure):
        """What a person does who copies the cure into a terminal."""
        subprocess.run(cure, shell=True, env=self.variables, check=True, capture_output=True)


@pytest.fixture
def machine(tmp_path):
    return Mended(tmp_path)


def lose_the_module(machine):
    shutil.rmtree(machine.packages / "gradio")


def lose_module_and_list_of_files(machine):
    lose_the_module(machine)
    (machine.packages / "gradio-6.24.0.dist-info" / "RECORD").unlink()


def lose_the_metadata(machine):
    shutil.rmtree(machine.packages / "gradio-6.24.0.dist-info")


def empty_the_metadata(machine):
    (machine.packages / "gradio-6.24.0.dist-info" / "METADATA").write_text("")


def put_aside(machine):
    for path in machine.packages.glob("gradio*"):
        path.rename(machine.packages / path.name.replace("g", "~", 1))


@pytest.mark.parametrize(
    "breaking", [lose_the_module, lose_module_and_list_of_files, lose_the_metadata, empty_the_metadata, put_aside]
)
def test_the_cure_of_a_half_uninstalled_package_brings_it_back(machine, breaking):
    breaking(machine)
    machine.follow(machine.told("gradio")[1])
    assert machine.told("gradio") == ("✅ gradio 6.24.0 - Compatible", None)


def test_the_cure_of_two_onnxruntimes_leaves_one_that_works(machine):
    machine.write(lay_out, machine.packages, "onnxruntime-gpu", "raise ImportError('half of each')")
    machine.follow(machine.told("onnxruntime - ")[1])
    assert {"onnxruntime", "onnxruntime-gpu"} & set(machine.versions()) == {"onnxruntime"}
    assert machine.told("onnxruntime")[0] == "✅ onnxruntime 1.26.0 - Compatible"


def test_the_cure_of_an_opencv_without_a_screen_lets_it_be_imported(machine):
    machine.write(lay_out, machine.packages, "opencv-python", LIBGL)
    machine.follow(machine.told("opencv-python 5.0.0.93")[1])
    assert machine.told("opencv-python")[0] == "✅ opencv-python 5.0.0.93 - Compatible"


def test_the_cure_of_a_damaged_onnx_lets_insightface_be_imported(machine):
    machine.write(write_wheel, machine.wheels, "onnx")
    machine.write(lay_out, machine.packages, "onnx", "import onnx.half_of_it")
    machine.write(lay_out, machine.packages, "insightface", "import onnx", needs=["onnx"])
    machine.follow(machine.told("insightface")[1])
    assert machine.told("insightface")[0] == "✅ insightface 2.1 - Compatible"


def test_the_cure_of_a_broken_torchvision_takes_it_away(machine):
    machine.write(lay_out, machine.packages, "torchvision", "raise RuntimeError('another CUDA')")
    machine.follow(machine.told("torchvision")[1])
    assert "torchvision" not in machine.versions()
