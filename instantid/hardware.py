"""What this machine has. The only module that asks it; everything else is told.

Memory in GiB (2**30 bytes).
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil
import torch

GIB = 2**30
ROOT = Path("/")
# CUDA has a class of error for too little memory; Apple's GPU, the processor and cuBLAS only say so.
OUT_OF_MEMORY_WORDS = ("out of memory", "DefaultCPUAllocator", "ALLOC_FAILED")
# Segments that grow: no holes between blocks, and the weights take 9.73 GiB instead of 9.90 (H100). Linux only.
ALLOCATOR_SETTING = "expandable_segments:True" if sys.platform == "linux" else "max_split_size_mb:128"


@dataclass(frozen=True)
class Hardware:
    """The machine at one moment."""

    device: str  # "cuda", "mps" or "cpu"
    name: str  # of the GPU, or of the processor's kind
    capability: tuple[int, int] | None  # CUDA compute capability
    vram_total_gib: float | None  # None without a GPU of its own memory
    vram_free_gib: float | None
    ram_total_gib: float
    ram_free_gib: float  # what a new process could get without swapping
    disk_free_gib: float


@dataclass(frozen=True)
class MemoryUse:
    """Memory at one moment; RAM is the container's where that is less than the machine's, and never swap."""

    ram_total_gib: float
    ram_free_gib: float
    vram_total_gib: float | None  # None without CUDA
    vram_free_gib: float | None  # what this process could still get: free on the card, or kept by torch for reuse
    anonymous_gib: float  # RAM of this process that only ending it gives back
    mapped_gib: float  # pages of files in this process's RAM, which the system drops when it needs room


def detect_hardware(folder: Path | None = None, root: Path = ROOT) -> Hardware:
    """Ask the machine.

    Args:
        folder: whose disk is measured, whether it exists yet or not; None = the home folder.
        root: where `proc` and `sys` lie.
    """
    place = Path(folder or os.path.expanduser("~")).absolute()
    disk = shutil.disk_usage(next(p for p in (place, *place.parents, Path.cwd()) if os.path.exists(p))).free
    device, name, capability = "cpu", f"CPU, {os.cpu_count()} cores", None
    if torch.cuda.is_available():
        device, name, capability = "cuda", torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    elif torch.backends.mps.is_available():
        device, name = "mps", "Apple GPU"  # shares the RAM
    return Hardware(device, name, capability, *_vram(), *_ram(root), disk / GIB)


def memory_in_use(root: Path = ROOT) -> MemoryUse:
    """Ask how much memory there is, is free, and is this process's. Takes less than a millisecond."""
    ram_total, ram_free = _ram(root)
    return MemoryUse(ram_total, ram_free, *_vram(), *_process_ram(root))


def _vram() -> tuple[float, float] | tuple[None, None]:
    """Total and free."""
    if not torch.cuda.is_available():
        return None, None
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:  # asking takes some memory itself: others have filled the card
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / GIB, 0.0
    return total / GIB, (free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()) / GIB


def _ram(root: Path) -> tuple[float, float]:
    """Total and free: the least that the machine and each group of processes around this one allow."""
    machine = psutil.virtual_memory()
    rooms = [(machine.total, machine.available), *_groups(root)]
    total, free = (min(amounts) for amounts in zip(*rooms))
    return total / GIB, max(free, 0) / GIB


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and rest in bytes of each control group that this process is in, the innermost first (Linux, containers).

    A container may name its group as the machine outside knows it and show only its own part of the tree, so folders
    that are named need not be there.
    """
    for line in _lines(root / "proc/self/cgroup"):
        controllers, _, group = line.partition(":")[2].partition(":")
        if not controllers:  # version 2
            mount, limit, used, inactive = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, inactive = "sys/fs/cgroup/memory", "total_inactive_file"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        path = PurePosixPath(group.strip("/"))
        for folder in (root / mount / place for place in (path, *path.parents)):
            allowed, taken = _number(folder / limit), _number(folder / used) or 0
            if allowed is not None:
                # Pages of files that were not used lately count as used, and are dropped as soon as there is need.
                yield allowed, allowed - taken + _table(folder / "memory.stat").get(inactive, 0)


def _process_ram(root: Path) -> tuple[float, float]:
    """Anonymous and mapped; where the system does not tell them apart, all of it is called anonymous."""
    kib = _table(root / "proc/self/status")
    if "RssAnon" in kib:
        return kib["RssAnon"] * 1024 / GIB, kib.get("RssFile", 0) * 1024 / GIB
    return psutil.Process().memory_info().rss / GIB, 0.0


def _number(file: Path) -> int | None:
    """The number that a file holds; None if it holds something else, such as "max", or cannot be read."""
    text = "".join(_lines(file)).strip()
    return int(text) if text.isdecimal() else None


def _table(file: Path) -> dict[str, int]:
    """The lines "name number" or "name: number unit" of a file."""
    words = (line.split() for line in _lines(file))
    return {found[0].rstrip(":"): int(found[1]) for found in words if len(found) > 1 and found[1].isdecimal()}


def _lines(file: Path) -> list[str]:
    """Those of a file of the system; none if it is not there or not for us to read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def prepare_allocator(setting: str = ALLOCATOR_SETTING) -> bool:
    """Set torch's CUDA allocator before CUDA starts; a setting of the person's own stays.

    Returns: whether it will be followed: CUDA had not started yet.
    """
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    name = "PYTORCH_ALLOC_CONF" if (major, minor) >= (2, 9) else "PYTORCH_CUDA_ALLOC_CONF"
    if not any(other in os.environ for other in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")):
        os.environ[name] = setting
    return not torch.cuda.is_initialized()


def limit_vram(gib: float) -> None:
    """Let this process have at most so much of the GPU's memory; the rest stays for other processes."""
    total = torch.cuda.mem_get_info()[1] / GIB
    torch.cuda.set_per_process_memory_fraction(min(gib / total, 1.0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it tells of too little memory, on whatever device."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)


def free_memory() -> None:
    """Give back GPU memory that nothing uses any more. Call it after the last reference is gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak_vram() -> None:
    """Start measuring the peak anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_vram_gib() -> float | None:
    """Most GPU memory in use since `reset_peak_vram`; None without CUDA."""
    return torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else None


class Pace:
    """Lets Python run ahead of the GPU by a few steps and no further, so that progress is true and a stop comes soon.

    The GPU never waits for Python that way.
    """

    def __init__(self, ahead: int = 2) -> None:
        self._ahead = ahead
        self._steps: deque[torch.cuda.Event] = deque()

    def step(self) -> None:
        """A step was launched; returns when the one `ahead` steps before it is done."""
        if not torch.cuda.is_available():
            return
        done = torch.cuda.Event()
        done.record()
        self._steps.append(done)
        if len(self._steps) > self._ahead:
            self._steps.popleft().synchronize()


def synchronize() -> None:
    """Wait for the GPU, so that a clock read next is right."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
