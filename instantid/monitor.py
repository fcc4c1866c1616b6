"""RAM and VRAM in use, as a line at each stage and as a warning before it is too late."""

from __future__ import annotations

from collections.abc import Callable

from instantid.hardware import Hardware, detect_hardware
from instantid.messages import DEFAULT_LANGUAGE, say

LOW_RAM_GIB = 1.5
LOW_VRAM_GIB = 0.7


def memory_lines(stage: str, hardware: Hardware, language: str = DEFAULT_LANGUAGE) -> list[str]:
    """The line for `stage` (key of a sentence under "stage."), then the warning when memory is low."""
    facts = {
        "stage": say(f"stage.{stage}", language),
        "ram_used": f"{hardware.ram_total_gib - hardware.ram_free_gib:.1f}",
        "ram_free": f"{hardware.ram_free_gib:.1f}",
    }
    if hardware.vram_total_gib is None:
        lines = [say("memory.line_ram", language, **facts)]
    else:
        facts["vram_used"] = f"{hardware.vram_total_gib - hardware.vram_free_gib:.1f}"
        facts["vram_free"] = f"{hardware.vram_free_gib:.1f}"
        lines = [say("memory.line", language, **facts)]
    if is_low(hardware):
        lines += [say("memory.low", language), say("memory.low_advice", language)]
    return lines


def is_low(hardware: Hardware) -> bool:
    """Whether the next large allocation may end the process."""
    low_vram = hardware.vram_free_gib is not None and hardware.vram_free_gib < LOW_VRAM_GIB
    return low_vram or hardware.ram_free_gib < LOW_RAM_GIB


class MemoryMonitor:
    """Writes the memory lines of each stage it is told of.

    Args:
        write: takes a line; `print` in a notebook.
    """

    def __init__(self, write: Callable[[str], None] = print, language: str = DEFAULT_LANGUAGE) -> None:
        self.write = write
        self.language = language

    def stage(self, name: str) -> None:
        for line in memory_lines(name, detect_hardware(), self.language):
            self.write(line)
