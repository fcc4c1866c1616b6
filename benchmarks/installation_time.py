"""How long the notebook's first cell takes on Colab's packages, against the original's pinned list from nothing.

    python benchmarks/installation_time.py [--work FOLDER] [--limit SECONDS] [--output FILE.json]

Needs Python 3.11 (for the newest torch==2.0.0 of the original's list, and the oldest for Colab's numpy and scipy), a
network and 10 GB of disk that are free again at the end. What is timed runs pip without its cache on one index: the
default one, or that of PIP_INDEX_URL.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLAB_LIST = ROOT / "tests" / "data" / "colab-gpu-runtime.txt"
COLAB_CUDA = "12.8"
# Of Colab's packages those that InstantID needs, directly or through insightface and onnx. Their own needs come along.
NEEDED = (
    *("diffusers", "transformers", "accelerate", "huggingface_hub", "gradio", "psutil", "peft"),
    *("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    *("numpy", "scipy", "scikit-image", "requests", "tqdm", "protobuf", "ml_dtypes", "flatbuffers"),
)
# The builds for CUDA, a setuptools that is too old for the torch that stands in, a tifffile that needs Python 3.12.
REPLACED = ("torch==", "torchvision==", "torchaudio==", "torchcodec==", "setuptools==", "tifffile==")
# gradio_demo/requirements.txt of the original project.
PUBLISHED = (
    *("diffusers==0.25.0", "torch==2.0.0", "torchvision==0.15.1", "transformers==4.36.2", "accelerate", "safetensors"),
    *("einops", "onnxruntime-gpu", "spaces==0.19.4", "omegaconf", "peft", "huggingface-hub==0.20.2", "opencv-python"),
    *("insightface", "gradio"),
)
CELL = "from instantid.installation import install; install(language='en')"
UNITS = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
TAIL_LINES = 5


@dataclass(frozen=True)
class Timing:
    """One timed command."""

    what: str
    seconds: float
    downloaded_mb: float  # MB = 10^6 bytes, as pip counts
    failure: str | None = None  # the last lines it said, where it failed or ran out of time


class Environment:
    """A fresh virtual environment with the newest pip."""

    def __init__(self, folder: Path):
        self.folder = folder
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        self.pip("install", "--upgrade", "pip")

    def pip(self, *arguments: str) -> None:
        """Preparation, which nobody times."""
        subprocess.run([self.python, "-m", "pip", "-q", *arguments], check=True)

    def versions(self) -> list[str]:
        """`name==version` of everything in it."""
        listed = subprocess.run([self.python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
        return listed.stdout.split()

    def time(self, what: str, *arguments: str, limit: float, variables: Mapping[str, str] = {}) -> Timing:
        """Run this Python with pip's cache off and the default index alone."""
        log = self.folder / "pip.log"
        log.unlink(missing_ok=True)
        left_out = {"PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"}
        environment = {name: value for name, value in os.environ.items() if name not in left_out} | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_LOG": str(log),
            **variables,
        }
        start, failure = time.perf_counter(), None
        try:
            ended = subprocess.run(
                [self.python, *arguments],
                env=environment,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit,
            )
            if ended.returncode:
                failure = "\n".join(ended.stdout.splitlines()[-TAIL_LINES:])
        except subprocess.TimeoutExpired:
            failure = f"not done after {limit:.0f} s"
        return Timing(what, time.perf_counter() - start, downloaded_mb(log), failure)


def downloaded_mb(log: Path) -> float:
    """The sizes that pip names for what it downloads, summed up; nothing where pip was not called."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return sum(float(size) * UNITS[unit] for size, unit in re.findall(r"Downloading .*\(([\d.]+) (bytes|[kMG]B)", text))


def colab_like(folder: Path) -> tuple[Environment, dict[str, str]]:
    """An environment with Colab's packages, and the variables that make it look like a machine with CUDA."""
    environment = Environment(folder)
    lines = COLAB_LIST.read_text(encoding="utf-8").splitlines()
    held = folder / "constraints.txt"
    held.write_text("\n".join(line for line in lines if not line.startswith(REPLACED)), encoding="utf-8")
    cpu_torch = ("--constraint", str(ROOT / "constraints-cpu.txt"))
    environment.pip("install", "--constraint", str(held), *cpu_torch, "torch", *NEEDED)
    (version_file,) = folder.glob("lib/python*/site-packages/torch/version.py")
    with version_file.open("a", encoding="utf-8") as file:
        file.write(f"\ncuda = {COLAB_CUDA!r}\n")
    driver = folder / "driver" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\n")
    driver.chmod(0o755)
    return environment, {"PATH": f"{driver.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def measure(work: Path, limit: float) -> list[Timing]:
    """The cell twice, the original's list, and what pip chose for it without the search for versions that fit.

    An index that serves metadata beside the wheels makes that search cheap, another one makes pip fetch whole wheels;
    so the truth for a given index lies between the last two. Each environment is deleted once it was measured.
    """
    environment, variables = colab_like(work / "colab")
    cell = ("-c", CELL)
    first = environment.time("notebook's cell, first time", *cell, limit=limit, variables=variables)
    again = environment.time("notebook's cell, again", *cell, limit=limit, variables=variables)
    shutil.rmtree(environment.folder)
    environment = Environment(work / "published")
    install = ("-m", "pip", "install")
    original = environment.time("the original's list", *install, *PUBLISHED, limit=limit)
    chosen = environment.versions()
    shutil.rmtree(environment.folder)
    if original.failure:
        return [first, again, original]
    environment = Environment(work / "chosen")
    resolved = environment.time("the original's list, versions known", *install, "--no-deps", *chosen, limit=limit)
    shutil.rmtree(environment.folder)
    return [first, again, original, resolved]


def table(timings: list[Timing]) -> str:
    """The timings as Markdown, each against the notebook's cell."""
    cell = timings[0]
    lines = ["| what | seconds | downloaded | times the cell |", "|:--|--:|--:|--:|"]
    for timing in timings:
        ratio = "failed" if timing.failure else f"{timing.seconds / cell.seconds:.1f}"
        lines.append(f"| {timing.what} | {timing.seconds:.1f} | {timing.downloaded_mb:.0f} MB | {ratio} |")
    failures = [f"{timing.what}:\n{timing.failure}" for timing in timings if timing.failure]
    return "\n\n".join(["\n".join(lines), *failures])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, help="folder for the environments (default: a temporary one)")
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds that one command may take")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON here")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}")
    print(
        f"In place of Colab: its versions of {', '.join(NEEDED)} and of what these need. Its CUDA build of torch is "
        f"replaced by the CPU build of constraints-cpu.txt, which is told to name CUDA {COLAB_CUDA}, beside an empty "
        "nvidia-smi: so the cell chooses Colab's onnxruntime-gpu. setuptools and tifffile are those that pip chooses."
    )
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        timings = measure(Path(work), options.limit)
    print(table(timings))
    if options.output:
        options.output.write_text(json.dumps([asdict(timing) for timing in timings], indent=1), encoding="utf-8")
    sys.exit(1 if any(timing.failure for timing in timings) else 0)


if __name__ == "__main__":
    main()
