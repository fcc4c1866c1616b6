"""What this machine has. The only module that asks it; everything else is told.

Memory in GiB (2**30 bytes).
"""

from __future__ import annotations

import gc
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

GIB = 2**30
ALLOCATOR_SETTING = "max_split_size_mb:128"  # fewer unusable holes between blocks on small cards


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


def detect_hardware(folder: Path | None = None) -> Hardware:
    """Ask the machine.

    Args:
        folder: whose disk is measured, whether it exists yet or not; None = the home folder.
    """
    memory = psutil.virtual_memory()
    place = (folder or Path.home()).absolute()
    disk = shutil.disk_usage(next(p for p in (place, *place.parents, Path.cwd()) if p.exists())).free
    device, name, capability, free, total = "cpu", f"CPU, {os.cpu_count()} cores", None, None, None
    if torch.cuda.is_available():
        device, name = "cuda", torch.cuda.get_device_name()
        capability = torch.cuda.get_device_capability()
        free, total = (amount / GIB for amount in torch.cuda.mem_get_info())
    elif torch.backends.mps.is_available():
        device, name = "mps", "Apple GPU"  # shares the RAM
    return Hardware(device, name, capability, total, free, memory.total / GIB, memory.available / GIB, disk / GIB)


def prepare_allocator(setting: str = ALLOCATOR_SETTING) -> bool:
    """Set torch's CUDA allocator before CUDA starts; a setting of the person's own stays.

    Returns: whether it will be followed: CUDA had not started yet.
    """
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    name = "PYTORCH_ALLOC_CONF" if (major, minor) >= (2, 9) else "PYTORCH_CUDA_ALLOC_CONF"
    if not any(other in os.environ for other in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")):
        os.environ[name] = setting
    return not torch.cuda.is_initialized()


def limit_vram(fraction: float) -> None:
    """Let this process have at most this part of the GPU's memory; the rest stays for other processes."""
    torch.cuda.set_per_process_memory_fraction(fraction)


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


def synchronize() -> None:
    """Wait for the GPU, so that a clock read next is right."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
