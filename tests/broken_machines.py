"""Installations to check and to mend: packages of a few lines in a folder, or in an environment with the real pip."""

import os
import shutil
import subprocess
import venv
from importlib.metadata import distribution
from pathlib import Path

from fake_packages import lay_out

from instantid import cures
from instantid.compatibility import MARKS, check_environment
from instantid.requirements import ROOT, installed_versions, module_of

PIP = distribution("pip").locate_file("pip")  # not imported: setuptools breaks if it comes after pip
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
get_available_providers = lambda: {offered}
class InferenceSession:
    def __init__(self, model, providers): pass
    get_providers = lambda self: {works}
"""
LIBGL = "raise ImportError('libGL.so.1: cannot open shared object file')"
ON_CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]
ON_CPU = ON_CUDA[1:]


class Environment:
    """A folder of installed packages; by default a good Colab GPU runtime."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name, version in VERSIONS.items():
            self.put(name, version)
        self.torch()
        self.onnxruntime()

    def put(self, name, version, source="", needs=()):
        """The package in this version only, as one module."""
        self.take(name)
        lay_out(self.folder, name, version, needs=needs, modules={f"{module_of(name)}.py": source})

    def take(self, name):
        """Its metadata goes, its module stays."""
        for info in self.folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(info)

    def torch(self, version="2.11.0+cu128", cuda="12.8", available=True):
        self.put("torch", version, TORCH.format(cuda=cuda, available=available))

    def onnxruntime(self, name="onnxruntime-gpu", version="1.26.0", works=ON_CUDA, offered=ON_CUDA):
        self.put(name, version, ONNXRUNTIME.format(works=works, offered=offered))

    def report(self, **options):
        return check_environment(search_path=[str(self.folder)], **options)

    def finding(self, subject):
        (found,) = (finding for finding in self.report().findings if finding.subject == subject)
        return found

    def told(self, start, language="en"):
        """The line of the report that begins like this, and the cure below it."""
        return line_and_cure(self.report(language=language).text(), start)


def colab_runtime(folder: Path, monkeypatch) -> Environment:
    """A good Colab runtime, checked from the command line in the project's folder; no card but the fakes."""
    monkeypatch.setattr(cures, "shell_python", lambda: "python")
    monkeypatch.chdir(ROOT)
    (folder / "programs").mkdir()
    monkeypatch.setenv("PATH", str(folder / "programs"))
    return Environment(folder / "packages")


def line_and_cure(report: str, start: str) -> tuple[str, str | None]:
    """The line of a printed report that begins with `start` after its mark, and the cure on the line below it."""
    lines = [*report.splitlines(), ""]
    marked = tuple(f"{mark} {start}" for mark in MARKS.values())
    (at,) = (i for i, line in enumerate(lines) if line.startswith(marked))
    arrow, _, cure = lines[at + 1].partition("→ ")
    return lines[at], cure if arrow.isspace() else None


class Machine:
    """A fresh environment whose packages come from a folder of wheels and from nowhere else."""

    def __init__(self, folder: Path):
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.environment = folder / "environment"
        venv.create(self.environment, symlinks=os.name != "nt")
        (self.packages,) = self.environment.glob("**/site-packages")
        shutil.copytree(PIP, self.packages / "pip")  # much quicker than unpacking a fresh one
        self.python = self.environment / ("Scripts" if os.name == "nt" else "bin") / "python"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        self.variables = kept | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.python, *arguments], env=self.variables, capture_output=True, text=True)

    def install(self, *arguments: str) -> str:
        ended = self.run("-m", "instantid.installation", "--language", "en", *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def versions(self) -> dict[str, str]:
        return installed_versions([str(self.packages)])
