"""Each measurement in a process of its own, so that nothing of one is left for the next.

The processes are forks of one that has imported the libraries and done nothing else: on a slow disk importing takes
longer than what is measured.
"""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

GIB = 2**30
SAMPLE_SECONDS = 0.01
IMPORTED = ("torch", "diffusers", "transformers", "insightface.app", "instantid.loading", "instantid.generation")


def measured_alone(measure: Callable[..., dict], *arguments: object) -> dict:
    """What `measure(*arguments)` returns in a process of its own, or {"error": why it failed}.

    `measure` and `arguments` are pickled, so `measure` is a function of a module.
    """
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # a process that asked CUDA itself cannot be forked
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(IMPORTED))
    with ProcessPoolExecutor(1, processes) as pool:
        try:
            return pool.submit(_attempt, measure, *arguments).result()
        except BrokenProcessPool:
            return {"error": "the process was killed"}


def _attempt(measure: Callable[..., dict], *arguments: object) -> dict:
    try:
        return measure(*arguments)
    except Exception as error:  # whatever it is belongs into the table, and the next row goes on
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


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
