"""A line that is written anew in place, where there is a place for it. Knows nothing of what it says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

ERASE = "\r\033[K"  # back to the start of the line, and nothing left on it

Show = Callable[[str], None]
"""Takes the text that the line has from now on. "" means that others are about to write: the line makes room."""


def live_line() -> Show | None:
    """Below the cell in a notebook, on the last line of a terminal; None where lines only follow each other."""
    ipython = sys.modules.get("IPython")
    if ipython and hasattr(ipython.get_ipython(), "kernel"):
        return cell_line()
    return terminal_line(sys.stderr) if sys.stderr.isatty() else None


def cell_line() -> Show:
    """An output of the running cell. It has a place of its own: what others write goes below, the last text stays."""
    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(text: str) -> None:
        if text:
            handle.update({"text/plain": text}, raw=True)

    return show


def terminal_line(terminal: TextIO) -> Show:
    """The line that the cursor of `terminal` stands on."""

    def show(text: str) -> None:
        terminal.write(ERASE + text)
        terminal.flush()

    return show
