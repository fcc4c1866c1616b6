"""Repair of old InstantID notebooks: `migrate(path)` writes a repaired copy beside the original and says what it did.

A notebook is taken for one of InstantID's if its code names InstantID, InstantX, IP-Adapter, draw_kps or antelopev2.
Any other notebook is left alone, and so is one that needs no repair: nothing is written then. The original is never
changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from instantid.messages import DEFAULT_LANGUAGE, machine_error, say, user_error
from instantid.migration_cells import Cell, Findings, shortened
from instantid.migration_checks import repair_checks
from instantid.migration_imports import repair_imports
from instantid.migration_install import repair_installs
from instantid.migration_json import BYTE_ORDER_MARK, code_cells, with_sources
from instantid.migration_repairs import repair_functions, repair_heads

REPAIRS: tuple[Callable[[Sequence[Cell]], Findings], ...] = (
    repair_installs,  # before the checks: some of them install
    repair_checks,
    repair_functions,
    repair_heads,
    repair_imports,
)
OURS = re.compile(r"instant[-_ ]?id|instantx|ip[-_ ]?adapter|draw_kps|antelopev2", re.IGNORECASE)
NOTE = re.compile(r"(pass|true)?\s*#.*")  # the comment that stands where something was taken out
MOST_MEGABYTES = 100  # code alone never comes near: such a file holds pictures among its outputs


@dataclass(frozen=True)
class Change:
    """One repair."""

    cell: int  # among all cells of the notebook, from 1
    title: str  # the first line of that cell
    before: str  # shortened to one line
    after: str  # the same; "" where it was taken out
    reason: str  # key of the sentence

    def text(self, language: str) -> str:
        """What was, what is, and why, on one line."""
        after = self.after or say("migration.removed", language)
        return f"{self.before} → {after}  ({say(self.reason, language)})"


@dataclass(frozen=True)
class LeftAlone:
    """Something that was seen and not touched."""

    cell: int
    title: str
    what: str  # shortened to one line
    reason: str  # key of the sentence

    def text(self, language: str) -> str:
        """What it is, and what to do about it, on one line."""
        return f"{self.what}  ({say(self.reason, language)})"


@dataclass(frozen=True)
class MigrationReport:
    """What was repaired in a notebook."""

    source: Path
    ours: bool  # False: the notebook has nothing to do with InstantID and was not looked at any further
    changes: tuple[Change, ...] = ()
    left_alone: tuple[LeftAlone, ...] = ()
    target: Path | None = None  # the repaired notebook; None where there is nothing to write
    written: bool = False  # False for a dry run too

    def text(self, language: str = DEFAULT_LANGUAGE) -> str:
        """The report for a person."""
        if not self.ours:
            return say("migration.not_ours", language, file=self.source.name)
        lines = []
        if self.changes:
            lines += [say("migration.changes", language, count=len(self.changes)), *_by_cell(self.changes, language)]
        else:
            lines.append(say("migration.nothing", language, file=self.source.name))
        if self.left_alone:
            lines += [say("migration.left_alone", language, count=len(self.left_alone))]
            lines += _by_cell(self.left_alone, language)
        if self.target:
            done = "migration.written" if self.written else "migration.dry_run"
            lines.append(say(done, language, file=self.target))
        return "\n".join(lines)


def migrate(path: str | Path, output: str | Path | None = None, dry_run: bool = False) -> MigrationReport:
    """Repair an old InstantID notebook.

    Args:
        path: the notebook, nbformat 4; it is only read.
        output: where the repaired one goes; by default `NAME.migrated.ipynb` beside it.
        dry_run: only report.

    Returns: what was repaired, what was left alone, and where the repaired notebook is.

    Raises: UserError if `path` is no such notebook or the target is there already; MachineError if the disk refuses.
    """
    path = Path(path)
    text = _read(path)
    cells = code_cells(text)
    if not any(OURS.search(cell.source) for cell in cells):
        return MigrationReport(path, ours=False)
    repaired, changes, left_alone = repair(cells)
    sources = {new.number: new.source for old, new in zip(cells, repaired) if new.source != old.source}
    if not sources:
        return MigrationReport(path, True, (), left_alone)
    target = path.with_suffix(f".migrated{path.suffix}") if output is None else Path(output)
    if target.exists() and target.samefile(path):
        raise user_error("migration.target_is_source", file=target)
    if not dry_run:
        _write(target, with_sources(text, sources))
    return MigrationReport(path, True, changes, left_alone, target, written=not dry_run)


def repair(cells: Sequence[Cell]) -> tuple[list[Cell], tuple[Change, ...], tuple[LeftAlone, ...]]:
    """The code cells of a notebook after every repair, what was changed, and what was left alone."""
    titles = {cell.number: cell.title for cell in cells}
    changes, left_alone = [], []
    for cell in cells:
        if cell.language == "python" and cell.tree is None:
            left_alone.append(LeftAlone(cell.number, cell.title, cell.title, "migration.unparsed"))
    cells = list(cells)
    for find in REPAIRS:
        findings = find(cells)
        for index, doubts in findings.doubts.items():
            number = cells[index].number
            left_alone += [LeftAlone(number, titles[number], doubt.what, doubt.reason) for doubt in doubts]
        for index, edits in findings.edits.items():
            cell = cells[index]
            for edit in sorted(edits, key=lambda edit: edit.start):
                if edit.reason:
                    before, after = _shown(cell.source[edit.start : edit.end]), _shown(NOTE.sub("", edit.text))
                    changes.append(Change(cell.number, titles[cell.number], before, after, edit.reason))
            cells[index] = cell.edited(edits)
    return cells, _in_order(changes), _in_order(left_alone)


def _in_order(found: Iterable) -> tuple:
    return tuple(sorted(found, key=lambda item: item.cell))


def _by_cell(items: Iterable[Change | LeftAlone], language: str) -> Iterator[str]:
    for (number, title), group in groupby(items, key=lambda item: (item.cell, item.title)):
        yield say("migration.cell", language, number=number, title=title)
        yield from (f"      {item.text(language)}" for item in group)


def _shown(piece: str) -> str:
    """A piece of code on one line, without the commas and breaks around it."""
    joined = re.sub(r"\\\r?\n", " ", piece).strip(" \t\r\n,")
    return shortened(re.sub(r"\n(?=\S)", "; ", joined))


def _read(path: Path) -> str:
    """The text of a notebook that can be repaired."""
    if path.is_dir():
        raise user_error("migration.folder", file=path)
    try:
        megabytes = path.stat().st_size / 10**6
        content = path.read_bytes() if megabytes <= MOST_MEGABYTES else None
    except FileNotFoundError as error:
        raise user_error("migration.no_file", file=path) from error
    except OSError as error:
        raise machine_error("migration.unreadable", file=path, reason=error.strerror or error) from error
    if content is None:
        raise user_error("migration.too_large", file=path, megabytes=megabytes, most=MOST_MEGABYTES)
    try:
        text = content.decode("utf-8")
        notebook = json.loads(text.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON
        raise user_error("migration.no_json", file=path) from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("nbformat"), int):
        raise user_error("migration.no_notebook", file=path)
    if notebook["nbformat"] < 4:
        raise user_error("migration.old_format", file=path, version=notebook["nbformat"])
    if not _has_cells(notebook):
        raise user_error("migration.no_notebook", file=path)
    return text


def _has_cells(notebook: dict) -> bool:
    cells = notebook.get("cells")
    return isinstance(cells, list) and all(isinstance(c, dict) and "cell_type" in c and _is_source(c) for c in cells)


def _is_source(cell: dict) -> bool:
    source = cell.get("source")
    return isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source))


def _write(target: Path, text: str) -> None:
    """A new file; what exists is never written over."""
    try:
        with target.open("xb") as file:
            file.write(text.encode("utf-8"))
    except FileExistsError as error:
        raise user_error("migration.target_exists", file=target) from error
    except OSError as error:
        raise machine_error("migration.not_written", file=target, reason=error.strerror or error) from error
