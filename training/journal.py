"""JSON lines that survive a kill: each line is whole or, at worst, the last one is torn and does not count."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_rows(file: Path) -> Iterator[Row]:
    """The rows of `file`, in their order; none if there is no such file."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def append_row(file: Path, row: Row) -> None:
    """Write one row at the end, in one piece."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def keep_rows(file: Path, wanted: Callable[[Row], bool]) -> None:
    """Leave only the wanted rows, and no torn one, before rows are appended again."""
    if not file.is_file():
        return
    partial = file.with_name(f"{file.name}.part")
    with partial.open("w", encoding="utf-8") as lines:
        for row in read_rows(file):
            if wanted(row):
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    partial.replace(file)
