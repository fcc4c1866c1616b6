"""Where the pip commands of a notebook stand, and the words they are made of.

They are found as `!pip …` and `%pip …`, in shell cells, in strings and lists that are given to `os.system`,
`subprocess` and their kind, in strings that begin like a pip command, and as lists of packages beside one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from instantid.migration_cells import Cell, last_name
from instantid.requirements import Requirement, canonicalize_name

RUNNERS = {"system", "popen", "run", "call", "check_call", "check_output", "Popen", "getoutput", "getstatusoutput"}
TOLD = re.compile(r"print|display|Markdown|HTML|info|warn|warning|\w*(Error|Exception|Exit)")  # text for a person
FILES = re.compile(r"-\w*[re]|--requirement|--editable")
VALUES = re.compile(  # options that are followed by their value
    r"-[ifct]|--(index-url|extra-index-url|find-links|constraint|target|prefix|root|platform|python-version|abi|src|log|"
    r"implementation|upgrade-strategy|progress-bar|no-binary|only-binary|trusted-host|proxy|timeout|retries|cache-dir|"
    r"report|exists-action)|\d?[<>]+"
)
TOKEN = re.compile(  # of shell text: a line that goes on, a comment, the end of a command, a word
    r"""\\\r?\n|(?<!\S)\#[^\n]*|(?P<end>&&|\|\||[;&|\n])|(?P<word>(?:"[^"]*"|'[^']*'|\\.|[^\s;&|"'\\])+)"""
)
BEFORE_PIP = re.compile(r"sudo|time|yes|uv|-\w+|\w+=\S*|\$?\{.*\}|.*python[\d.]*(\.exe)?")
PIP = re.compile(r"(.*/)?pip[\d.]*")
BEGINS_WITH_PIP = re.compile(r"\s*(sudo\s+)?(\S*python[\d.]*\s+-m\s+)?pip[\d.]*\s+(un)?install\s")
WHEEL = re.compile(r".*/([A-Za-z_]+)-(\d[^-/]*)-[^/]*\.whl")
VARIABLE = re.compile(r"\$?\{[^}]*\}|\$\w+")


@dataclass(frozen=True)
class Word:
    """One argument of a command."""

    start: int
    end: int
    text: str  # without quotes; "" where only the running program knows it
    role: str = "package"  # "package", "file", "option" or "value"

    @property
    def requirement(self) -> Requirement | None:
        """What a package asks for. The address of a wheel asks for one version; so does a variable in its place."""
        if self.role != "package":
            return None
        wheel = WHEEL.fullmatch(self.text)
        try:
            return Requirement(f"{wheel[1]}=={wheel[2]}" if wheel else VARIABLE.sub("0", self.text))
        except ValueError:
            return None

    @property
    def name(self) -> str | None:
        """The canonical name of that package."""
        return canonicalize_name(self.requirement.name) if self.requirement else None


@dataclass(frozen=True)
class Place:
    """What a comment can stand for once a command is gone."""

    start: int
    end: int
    statement: str = ""  # what has to stand before the comment, so that a block is not left empty


@dataclass(frozen=True)
class Command:
    """One pip command, or a list of packages for one."""

    action: Word | None  # `install` or `uninstall`; None for a list of packages
    words: tuple[Word, ...]  # those behind it
    place: Place | None = None  # None where something else needs it to be there
    quote: str | None = None  # for shell text: the quotation mark that is free there
    items: tuple[ast.expr, ...] = ()  # for a Python list: those of its elements that are `words`

    @property
    def uninstalls(self) -> bool:
        return self.action is not None and self.action.text == "uninstall"


def pip_commands(cell: Cell) -> Iterator[Command]:
    """Every pip command of a cell."""
    for magic in cell.magics:
        statement = "pass  " if magic.indent else ""
        place = Place(magic.start, magic.end, statement) if magic.statement else None
        yield from _in_shell(cell.source, magic.command, magic.end, place, '"', lines=magic.shell)
    places = dict(_places(cell))
    for node, is_split in run_texts(cell):
        if start := literal_start(cell, node):
            free = "'" if cell.source[start - 1] == '"' else '"'
            quote = None if is_split else free
            yield from _in_shell(cell.source, start, start + len(node.value), places.get(id(node)), quote)
    for node in cell.walk():
        if isinstance(node, ast.List | ast.Tuple) and node.elts:
            yield from _in_list(cell, node, places.get(id(node)))


def run_texts(cell: Cell) -> Iterator[tuple[ast.expr, bool]]:
    """Strings that are run or look it, put together or plain, and whether they are split into words first."""
    split, run, told = set(), set(), set()
    for node in cell.walk():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split":
            split.add(id(node.func.value))
        if isinstance(node, ast.Call) and node.args and last_name(node.func) in RUNNERS:
            first = node.args[0]
            inner = first.func if isinstance(first, ast.Call) else None
            run.add(id(inner.value if isinstance(inner, ast.Attribute) and inner.attr == "split" else first))
        elif isinstance(node, ast.Call) and TOLD.fullmatch(last_name(node.func) or ""):
            told |= set(map(id, node.args))
    for node in cell.walk():
        begins = isinstance(node, ast.Constant) and BEGINS_WITH_PIP.match(str(node.value)) and id(node) not in told
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) and (id(node) in run or begins):
            yield node, id(node) in split


def literal_start(cell: Cell, node: ast.expr) -> int | None:
    """Where the text of a string begins that is written as it reads; None for any other."""
    plain = re.fullmatch(r"r?('''|\"\"\"|'|\")(.*)\1", cell.text(node), re.DOTALL)
    if isinstance(node, ast.Constant) and plain and plain[2] == node.value:
        return cell.span(node)[0] + plain.start(2)
    return None


def _places(cell: Cell) -> Iterator[tuple[int, Place]]:
    """Id of the string or list -> the statement that does nothing but run it."""
    in_body = set(map(id, cell.body))
    for node in cell.walk():
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and call.args and last_name(call.func) in RUNNERS and cell.lines_of(node):
            yield id(call.args[0]), Place(*cell.span(node), "" if id(node) in in_body else "pass  ")


def _in_shell(
    source: str, start: int, end: int, place: Place | None, quote: str | None, lines: bool = False
) -> Iterator[Command]:
    """The pip commands in a piece of shell text; `lines` for a script, where each line can be replaced alone."""
    commands: list[list[Word]] = [[]]
    for token in TOKEN.finditer(source, start, end):
        if token["end"]:
            commands.append([])
        elif token["word"]:
            commands[-1].append(Word(token.start(), token.end(), _unquoted(token["word"])))
    commands = [words for words in commands if words]
    for words in commands:
        if action := _action(words):
            arguments = tuple(_with_roles(words[action + 1 :]))
            whole = place if len(commands) == 1 else None
            if lines:
                last = words[-1].end
                alone = re.match(r"[ \t]*(\r?\n|$)", source[last:end])
                whole = Place(words[0].start, last, "true  ") if alone else None
            yield Command(words[action], arguments, whole, quote)


def _in_list(cell: Cell, node: ast.List | ast.Tuple, place: Place | None) -> Iterator[Command]:
    """The pip command that a Python list spells, or the packages that it holds for one."""
    words = []
    for item in node.elts:
        plain = isinstance(item, ast.Constant) and isinstance(item.value, str)
        words.append(Word(*cell.span(item), item.value if plain else ""))
    if action := _action(words, anything_before=True):
        arguments = tuple(_with_roles(words[action + 1 :]))
        yield Command(words[action], arguments, place, items=tuple(node.elts[action + 1 :]))
    elif "pip" in cell.source and any("=" in word.text for word in words) and all(word.name for word in words):
        yield Command(None, tuple(words), items=tuple(node.elts))


def _action(words: Sequence[Word], anything_before: bool = False) -> int | None:
    """Where `install` or `uninstall` stands behind pip; None if this is no such command."""
    for place, word in enumerate(words):
        if PIP.fullmatch(word.text):
            after = next((i for i in range(place + 1, len(words)) if not words[i].text.startswith("-")), None)
            known = anything_before or all(BEFORE_PIP.fullmatch(earlier.text) for earlier in words[:place])
            return after if known and after and words[after].text in ("install", "uninstall") else None
    return None


def _with_roles(words: Sequence[Word]) -> Iterator[Word]:
    previous = ""
    for word in words:
        role = "package"
        if FILES.fullmatch(previous) or VALUES.fullmatch(previous):
            role, previous = "file" if FILES.fullmatch(previous) else "value", ""
        elif re.match(r"-|\d?[<>]", word.text):
            role, previous = "option", word.text
        yield Word(word.start, word.end, word.text, role)


def _unquoted(word: str) -> str:
    quoted = re.fullmatch(r"(['\"])(.*)\1", word)
    return quoted[2] if quoted else re.sub(r"['\"]", "", word)
