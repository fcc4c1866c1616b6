"""RAM and VRAM in use: a line at each stage, one that is always current, peaks, and a warning before it is too late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from instantid.hardware import MemoryUse, memory_in_use, peak_vram_gib, reset_peak_vram
from instantid.live_line import Show
from instantid.messages import DEFAULT_LANGUAGE, say

LOW_RAM_GIB = 1.5
LOW_VRAM_GIB = 0.7
INTERVAL = 0.25  # seconds between two looks; each takes less than a millisecond


@dataclass(frozen=True)
class StagePeak:
    """The most that this process took during a stage."""

    ram_gib: float  # anonymous RAM; mapped files do not count, as the system drops them when it needs room
    vram_gib: float | None  # in tensors, exact to the byte; None without CUDA


def memory_line(use: MemoryUse, language: str = DEFAULT_LANGUAGE) -> str:
    """What is used of how much, "RAM 5.1 / 12.7 GiB · VRAM 9.9 / 14.6 GiB", behind the warning when memory is low."""
    return f"{say('memory.low', language)} {_used(use)}" if is_low(use) else _used(use)


def stage_line(stage: str, use: MemoryUse, language: str = DEFAULT_LANGUAGE) -> str:
    """What is used and free after `stage`, the key of a sentence under "stage."."""
    facts = {
        "stage": say(f"stage.{stage}", language),
        "ram_used": f"{use.ram_total_gib - use.ram_free_gib:.1f}",
        "ram_free": f"{use.ram_free_gib:.1f}",
    }
    if use.vram_total_gib is None:
        return say("memory.line_ram", language, **facts)
    facts["vram_used"] = f"{use.vram_total_gib - use.vram_free_gib:.1f}"
    facts["vram_free"] = f"{use.vram_free_gib:.1f}"
    return say("memory.line", language, **facts)


def is_low(use: MemoryUse) -> bool:
    """Whether the next large allocation may end the process."""
    low_vram = use.vram_free_gib is not None and use.vram_free_gib < LOW_VRAM_GIB
    return low_vram or use.ram_free_gib < LOW_RAM_GIB


def _used(use: MemoryUse) -> str:
    parts = [f"RAM {use.ram_total_gib - use.ram_free_gib:.1f} / {use.ram_total_gib:.1f} GiB"]
    if use.vram_total_gib is not None:
        parts.append(f"VRAM {use.vram_total_gib - use.vram_free_gib:.1f} / {use.vram_total_gib:.1f} GiB")
    return " · ".join(parts)


class MemoryMonitor:
    """Watches memory from a thread of its own, for as long as its `with` block runs.

    A stage is what ran since the stage before it ended, or since the monitor was made. Without `with` memory is looked
    at where stages end, and nowhere between.

    Args:
        write: takes a line: one for each stage, and the warning, once a stage, as soon as memory is low; from the
            thread that finds it. `print` in a notebook; None says nothing and keeps the peaks.
        language: of the lines.
        show: takes the current line at each look; see `live_line`. None shows none.
        interval: seconds between two looks.
    """

    def __init__(
        self,
        write: Callable[[str], None] | None = print,
        language: str = DEFAULT_LANGUAGE,
        show: Show | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self.language = language
        self.stages: dict[str, StagePeak] = {}  # those that ended, in their order
        self.was_low = False  # whether memory was low at any look
        self._write = write
        self._show = show or (lambda text: None)
        self._interval = interval
        self._peak_ram_gib = 0.0  # of the stage that runs
        self._warned = False  # in the stage that runs
        self._turn = threading.RLock()  # one look at a time, with all that is said of it
        self._over = threading.Event()
        reset_peak_vram()

    def __enter__(self) -> MemoryMonitor:
        self._over.clear()
        self._thread = threading.Thread(target=self._watch, name="memory monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._show("")

    @property
    def peak_vram_gib(self) -> float | None:
        """The most in tensors of all stages that ended; None without CUDA."""
        return max((peak.vram_gib for peak in self.stages.values() if peak.vram_gib is not None), default=None)

    def write(self, line: str) -> None:
        """Hand on a line of somebody else's, which must not end up on the line that is shown."""
        with self._turn:
            self._show("")
            if self._write is not None:
                self._write(line)

    def stage(self, name: str) -> None:
        """The stage `name` ends here: its peaks are kept, its line is written. The same name may come several times."""
        with self._turn:
            use = self._look()
            if self._write is not None:
                self.write(stage_line(name, use, self.language))
            self._warn_if_low(use)
            self._keep_peaks(name)
            self._warned = False

    def _watch(self) -> None:
        while not self._over.wait(self._interval):
            with self._turn:
                use = self._look()
                if is_low(use) and not self._warned:
                    self.write(f"📊 {_used(use)}")
                self._warn_if_low(use)
                self._show(memory_line(use, self.language))

    def _look(self) -> MemoryUse:
        use = memory_in_use()
        self._peak_ram_gib = max(self._peak_ram_gib, use.anonymous_gib)
        return use

    def _warn_if_low(self, use: MemoryUse) -> None:
        if self._warned or not is_low(use):
            return
        self._warned = self.was_low = True
        self.write(say("memory.low", self.language))
        self.write(say("memory.low_advice", self.language))

    def _keep_peaks(self, name: str) -> None:
        earlier = self.stages.get(name, StagePeak(0.0, None))
        vram = [gib for gib in (earlier.vram_gib, peak_vram_gib()) if gib is not None]
        self.stages[name] = StagePeak(max(earlier.ram_gib, self._peak_ram_gib), max(vram, default=None))
        self._peak_ram_gib = 0.0
        reset_peak_vram()
