"""The code cells of a notebook as a repair sees them: parsed, and edited by position.

What no edit covers stays as the person wrote it, comments and layout included. Positions are characters from the start
of a cell's source.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

SHELL_CELLS = ("bash", "sh", "shell", "script")
PYTHON_CELLS = ("capture", "time", "timeit", "prun")
SHOWN_CHARACTERS = 70

# A line that IPython takes for itself: `!pip …`, `%cd …`, `out = !ls`, `?name`, `name?`; a backslash carries it on.
MAGIC = re.compile(
    r"^(?P<indent>[ \t]*)(?:(?P<target>\w[\w., \t]*=[ \t]*)?(?P<mark>[!%])|\?|[\w.]+\?\??[ \t]*$)"
    r"(?:\\\r?\n|[^\r\n])*",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Edit:
    """A piece of a cell that becomes another."""

    start: int
    end: int
    text: str
    reason: str | None  # key of the sentence that says why; None where another edit's reason covers this one


@dataclass(frozen=True)
class Doubt:
    """Something in a cell that was seen and is left alone."""

    what: str
    reason: str  # key of the sentence


@dataclass(frozen=True)
class Magic:
    """A line, or the body of a shell cell, that is not Python."""

    start: int  # of all of it
    command: int  # of the command itself, behind `!` or `%`
    end: int
    statement: bool  # it stands where a statement could, and is all of it
    indent: str
    shell: bool = False  # the body of a shell cell: several lines


@dataclass
class Findings:
    """What one repair found: by index of the cell, what to edit and what to leave alone."""

    edits: dict[int, list[Edit]] = field(default_factory=dict)
    doubts: dict[int, list[Doubt]] = field(default_factory=dict)

    def edit(self, cell: int, start: int, end: int, text: str, reason: str | None) -> None:
        """Note an edit of the cell with this index, once."""
        edit = Edit(start, end, text, reason)
        if edit not in self.edits.setdefault(cell, []):
            self.edits[cell].append(edit)

    def doubt(self, cell: int, what: str, reason: str) -> None:
        """Note something that is left alone, once."""
        doubt = Doubt(shortened(what), reason)
        if doubt not in self.doubts.setdefault(cell, []):
            self.doubts[cell].append(doubt)


@dataclass(frozen=True)
class Cell:
    """One code cell."""

    number: int  # among all cells of the notebook, from 1
    source: str

    @property
    def title(self) -> str:
        """The first line that says something, for a person who looks for the cell."""
        lines = (re.sub(r"^[#%\s]*(@title|@markdown)?\s*", "", line) for line in self.source.splitlines())
        return shortened(next((line for line in lines if line), ""))

    @property
    def language(self) -> str | None:
        """ "python", "shell", or None for a cell that a cell magic gives to something else."""
        found = re.match(r"\s*%%(\w+)", self.source)
        if not found or found[1] in PYTHON_CELLS:
            return "python"
        return "shell" if found[1] in SHELL_CELLS else None

    @cached_property
    def _parsed(self) -> tuple[ast.Module | None, tuple[Magic, ...]]:
        if self.language == "shell":
            body = self.source.find("\n", self.source.index("%%")) + 1 or len(self.source)
            return None, (Magic(body, body, len(self.source), False, "", shell=True),)
        if self.language is None:
            return None, ()
        tree, masked = _parse_around_magics(self.source)
        return tree, tuple(self._magics(tree, masked)) if tree else ()

    @property
    def tree(self) -> ast.Module | None:
        """The Python of the cell with its magic lines blanked out; None where it is no Python."""
        return self._parsed[0]

    @property
    def magics(self) -> tuple[Magic, ...]:
        """The lines that are not Python."""
        return self._parsed[1]

    @property
    def body(self) -> list[ast.stmt]:
        """The statements at the top level of the cell."""
        return self.tree.body if self.tree else []

    def walk(self) -> Iterator[ast.AST]:
        """Every node of the cell."""
        return ast.walk(self.tree) if self.tree else iter(())

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where `node` starts and ends."""
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.AST) -> str:
        """`node` as it is written."""
        return slice_of(self.source, self.span(node))

    def lines_of(self, node: ast.stmt) -> tuple[int, int] | None:
        """The whole lines of a statement, line break included; None if it shares one with another statement."""
        start, end = self.span(node)
        before = self.source[self.source.rfind("\n", 0, start) + 1 : start]
        after = re.match(r"[ \t]*(#[^\n]*)?(\r?\n|$)", self.source[end:])
        return None if before.strip() or not after else (start - len(before), end + after.end())

    def edited(self, edits: Iterable[Edit]) -> Cell:
        """The cell after `edits`, which may not overlap."""
        source = self.source
        for edit in sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True):
            source = source[: edit.start] + edit.text + source[edit.end :]
        if not self.source.endswith("\n"):
            source = source.rstrip("\r\n")
        return Cell(self.number, source)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0] + [found.end() for found in re.finditer(r"\r\n|\r|\n", self.source)]

    def _offset(self, line: int, column: int) -> int:
        """Python counts columns in bytes of UTF-8."""
        start = self._line_starts[line - 1]
        return start + len(self.source[start:].split("\n", 1)[0].encode()[:column].decode())

    def _magics(self, tree: ast.Module, masked: Iterable[re.Match]) -> Iterator[Magic]:
        within_strings = {
            line
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant | ast.JoinedStr)
            for line in range(node.lineno + 1, node.end_lineno + 1)
        }
        for found in masked:
            if found["mark"] and _lines(found)[0] not in within_strings:
                start = found.end("indent")
                whole = not found["target"]
                yield Magic(start, found.end("mark"), found.end(), whole, found["indent"])


def slice_of(text: str, span: tuple[int, int]) -> str:
    """The piece of `text` between two positions."""
    return text[span[0] : span[1]]


def shortened(text: str) -> str:
    """`text` on one line, cut where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def without_items(cell: Cell, items: Sequence[ast.AST], gone: set[int]) -> dict[int, tuple[int, int]]:
    """Index -> what to delete so that these items leave a list, an import or a call, each with its comma."""
    spans = [cell.span(item) for item in items]
    tail = max(set(range(len(items))) - gone, default=-1) + 1  # from here on all of them go
    after_last = spans[-1][1] + re.match(r"\s*,?", cell.source[spans[-1][1] :]).end()
    starts = [start for start, _ in spans] + [after_last]
    if 0 < tail < len(items) and "#" not in cell.source[spans[tail - 1][1] : spans[tail][0]]:
        ends = [end for _, end in spans]  # the comma before goes along; a comment there belongs to the item that stays
        return {i: (ends[i - 1], ends[i]) if i >= tail else (starts[i], starts[i + 1]) for i in gone}
    return {i: (starts[i], starts[i + 1]) for i in gone}


def last_name(node: ast.AST) -> str | None:
    """`c` of `a.b.c` and of `c`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def dotted_name(node: ast.AST) -> str | None:
    """`"a.b.c"` of that expression, None for anything else."""
    if isinstance(node, ast.Attribute):
        owner = dotted_name(node.value)
        return owner and f"{owner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def _parse_around_magics(source: str) -> tuple[ast.Module | None, list[re.Match]]:
    """The Python of a cell, and the lines in it that are IPython's: those that Python stumbles over."""
    masked: dict[int, re.Match] = {}
    while True:
        text = MAGIC.sub(lambda found: _stand_in(found) if found.start() in masked else found[0], source)
        tree, line = _parse(text)
        left = [found for found in MAGIC.finditer(source) if found.start() not in masked]
        if tree or not left:
            return tree, list(masked.values())
        culprit = next((found for found in left if line in _lines(found)), left[0])
        masked[culprit.start()] = culprit


def _lines(found: re.Match) -> range:
    """The numbers of the lines that a magic takes up."""
    first = 1 + found.string.count("\n", 0, found.start())
    return range(first, first + 1 + found[0].count("\n"))


def _stand_in(found: re.Match) -> str:
    """A line of Python in the place of one that is none, as many lines long."""
    statement = f"{found['target']}None" if found["target"] else "pass"
    return found["indent"] + statement + "\n" * found[0].count("\n")


def _parse(source: str) -> tuple[ast.Module | None, int | None]:
    """The tree, or else the line that is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and the like are the person's own
        try:
            return compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), None
        except SyntaxError as error:
            return None, error.lineno
        except (ValueError, RecursionError, MemoryError):
            return None, None
