"""Each measurement in a process of its own, so that nothing of one is left for the next: `measured_alone` starts the
calling script again with `--child`, and takes the figures it writes."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

GIB = 2**30
SAMPLE_SECONDS = 0.01


def measured_alone(script: str, *arguments: object) -> dict:
    """The figures of `script --child FILE arguments…`: a dict, or {"error": its last line} if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, script, "--child", file, *arguments]
        ended = subprocess.run([str(part) for part in command], stderr=subprocess.PIPE, text=True)
        if file.exists():
            return json.loads(file.read_text())
        return {"error": (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]}


def anonymous_gib() -> float:
    """RAM of this process that is backed by no file: what gets a process killed (Linux)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 2**20 for line in status if line.startswith("RssAnon:"))


@contextlib.contextmanager
def anonymous_peak() -> Iterator[dict[str, float]]:
    """Fills in "gib", the peak of `anonymous_gib` above its value at entry, sampled a hundred times a second."""
    start, peak, ended = anonymous_gib(), {"gib": 0.0}, threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak["gib"] = max(peak["gib"], anonymous_gib() - start)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Fills in "seconds"."""
    taken, start = {}, time.perf_counter()
    yield taken
    taken["seconds"] = time.perf_counter() - start


def table(columns: tuple[str, ...]) -> None:
    """The head of a Markdown table."""
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)


def row(*cells: object) -> None:
    """One row; numbers with two digits."""
    words = (f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells)
    print(f"| {' | '.join(words)} |", flush=True)
