"""Questions that only an import can answer, asked of one short-lived child Python.

A library that crashes or hangs while it is imported takes the child with it, never the notebook. This module itself
imports nothing but the standard library: the child has to start where everything else is missing.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

PROBE_SECONDS = 120.0  # a cold PyTorch on a slow disk takes half a minute
NVIDIA_SMI_SECONDS = 20.0
ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
ANSWER = "instantid answer: "

# y = Identity(x) as an ONNX file: onnxruntime only says which providers really work once a session runs on them.
IDENTITY_MODEL = base64.b64decode(
    "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0="
)


def ask_libraries(
    modules: Sequence[str], search_path: Sequence[str] | None = None, seconds: float = PROBE_SECONDS
) -> dict[str, dict]:
    """What each of `modules` says of itself once imported, in order.

    Returns: module -> facts; `{"error": sentence}` if its import raised. A child that died or ran out of `seconds`
        leaves `{"died": exit code}` or `{"hung": seconds}` under the module it was busy with, and nothing after it.
    """
    options, path = [], [str(ROOT), *(search_path or ())]
    if search_path is None:
        path += [entry for entry in sys.path if entry]  # what this process sees, a notebook's own paths included
    else:
        options.append("-S")
    process = subprocess.Popen(
        [sys.executable, *options, "-c", "from instantid.probe import answer; answer()", *modules],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        output, end = process.communicate(timeout=seconds)[0], {"died": process.returncode}
    except subprocess.TimeoutExpired:
        process.kill()
        output, end = process.communicate()[0], {"hung": seconds}
    answers: dict[str, dict] = {}
    for line in output.splitlines():
        if line.startswith(ANSWER):  # libraries greet people on standard output too
            answers |= json.loads(line.removeprefix(ANSWER))
    unanswered = [module for module in modules if module not in answers]
    return answers | ({unanswered[0]: end} if unanswered else {})


def answer() -> None:
    """The child's side: one JSON line per module named on the command line, written as soon as it is known."""
    for module in sys.argv[1:]:
        try:
            importlib.import_module(module)
            facts = QUESTIONS[module]() if module in QUESTIONS else {}
        except BaseException as error:
            facts = {"error": f"{type(error).__name__}: {error}"}
        print(ANSWER + json.dumps({module: facts}), flush=True)


def _ask_torch() -> dict:
    import torch

    facts = {"cuda": torch.version.cuda, "gpu": None, "vram_gib": None}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        facts |= {"gpu": card.name, "vram_gib": card.total_memory / GIB}
    elif torch.backends.mps.is_available():
        facts["gpu"] = "Apple MPS"
    return facts


def _ask_onnxruntime() -> dict:
    load_cuda_libraries()  # as for the faces, so that the answer is what the faces get
    import onnxruntime

    offered = onnxruntime.get_available_providers()  # what was compiled in, whether or not this machine can run it
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in offered]
    providers = onnxruntime.InferenceSession(IDENTITY_MODEL, providers=wanted).get_providers()
    return {"offered": offered, "providers": providers}


def _ask_hardware() -> dict:
    from instantid.hardware import detect_hardware

    hardware = detect_hardware()
    return {
        "ram_gib": hardware.ram_total_gib,
        "vram_gib": hardware.vram_total_gib,
        "disk_gib": hardware.disk_free_gib,
    }


QUESTIONS: dict[str, Callable[[], dict]] = {
    "torch": _ask_torch,
    "onnxruntime": _ask_onnxruntime,
    "instantid.hardware": _ask_hardware,
}


def load_cuda_libraries() -> None:
    """What comes before the first session of onnxruntime on CUDA.

    onnxruntime finds CUDA's libraries only where they are loaded already, as importing PyTorch does, or
    `preload_dlls` (onnxruntime 1.21 and newer). Otherwise it runs on the CPU without a word.
    """
    with contextlib.suppress(ImportError, OSError):  # a PyTorch that is missing or broken is told elsewhere
        importlib.import_module("torch")
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def can_be_found(module: str, search_path: Sequence[str] | None = None) -> bool:
    """Are the files of a top-level module there? A folder left over by a half uninstallation does not count."""
    PathFinder.invalidate_caches()
    spec = PathFinder.find_spec(module, None if search_path is None else list(search_path))
    if spec is None and search_path is None:  # an editable installation is found by a finder of its own
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None and os.path.exists(spec.origin)


def torch_cuda(search_path: Sequence[str] | None = None) -> str | None:
    """The CUDA version that the installed PyTorch was built for, "12.8"; None for a CPU build or no PyTorch.

    PyTorch's version file imports nothing of PyTorch: running it takes a millisecond, importing PyTorch takes seconds.
    """
    spec = PathFinder.find_spec("torch", None if search_path is None else list(search_path))
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("version.py")
    return runpy.run_path(str(file)).get("cuda") if file.is_file() else None


def nvidia_gpu() -> str | None:
    """Name of the first NVIDIA card that the driver shows, whatever PyTorch thinks of it."""
    lines = _nvidia_smi("--query-gpu=name", "--format=csv,noheader").splitlines()
    return lines[0].strip() if lines else None


def machine_cuda(search_path: Sequence[str] | None = None) -> str | None:
    """The CUDA version to install for: PyTorch's own, else the newest that the driver runs; None without a driver.

    PyTorch from PyPI is a CUDA build on every Linux machine, so without a driver its version says nothing.
    """
    if not shutil.which("nvidia-smi") and not Path("/dev/nvidiactl").exists():
        return None
    if can_be_found("torch", search_path):
        return torch_cuda(search_path)
    words = _nvidia_smi().split("CUDA Version:")
    return words[1].split()[0] if len(words) > 1 else None


def _nvidia_smi(*arguments: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        ended = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS)
    except subprocess.TimeoutExpired:
        return ""
    return ended.stdout if ended.returncode == 0 else ""
