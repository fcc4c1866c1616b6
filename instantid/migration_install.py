"""Repair of install commands: PyTorch is never reinstalled, fixed versions become the ranges of requirements.txt.

Commands are found as `!pip …` and `%pip …`, in shell cells, in strings and lists that are given to `os.system`,
`subprocess` and their kind, and as lists of packages that a loop installs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from instantid.messages import say
from instantid.migration_cells import Cell, Findings, last_name, without_items
from instantid.requirements import (
    ONNXRUNTIME,
    OPENCV,
    Requirement,
    SpecifierSet,
    canonicalize_name,
    project_requirements,
)

PYTORCH = ("torch", "torchvision", "torchaudio")  # the last two are built for one version of the first
PYTORCH_INDEX = "download.pytorch.org"
FIXED = {"==", "===", "~=", "<", "<="}
RUNNERS = {"system", "popen", "run", "call", "check_call", "check_output", "Popen", "getoutput", "getstatusoutput"}
FILES = {"-r", "--requirement", "-e", "--editable"}
VALUES = re.compile(  # options that are followed by their value
    r"-[ifct]|--(index-url|extra-index-url|find-links|constraint|target|prefix|root|platform|python-version|abi|src|log|"
    r"implementation|upgrade-strategy|progress-bar|no-binary|only-binary|trusted-host|proxy|timeout|retries|cache-dir|"
    r"report|exists-action)|\d?[<>]+"
)
UPGRADES = {"-U", "--upgrade", "-I", "--ignore-installed", "--force-reinstall"}
NOTHING_TO_DO = "--version"  # what a pip command does when nothing is left of it and its place cannot be empty

TOKEN = re.compile(  # of shell text: a line that goes on, a comment, the end of a command, a word
    r"""\\\r?\n|(?<!\S)\#[^\n]*|(?P<end>&&|\|\||[;&|\n])|(?P<word>(?:"[^"]*"|'[^']*'|\\.|[^\s;&|"'\\])+)"""
)
BEFORE_PIP = re.compile(r"sudo|time|yes|uv|-\w+|\w+=\S*|\$?\{.*\}|.*python[\d.]*(\.exe)?")
PIP = re.compile(r"(.*/)?pip[\d.]*")
WHEEL = re.compile(r".*/([A-Za-z_]+)-(\d[^-/]*)-[^/]*\.whl")
CLONE = re.compile(r"git\s+clone\b[^\n]*?\S*/inst(ant)?id(\.git)?(?=\s|$)", re.IGNORECASE)
VARIABLE = re.compile(r"\$?\{[^}]*\}|\$\w+")
PINNED_LINE = re.compile(r"^\s*(torch|torchvision|torchaudio|xformers|diffusers|transformers)==\S+\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Word:
    """One argument of a command."""

    start: int
    end: int
    text: str  # without quotes; "" where only the running program knows it
    role: str = "package"  # "package", "file", "option" or "value"


@dataclass(frozen=True)
class Command:
    """One pip command, or a list of packages for one."""

    action: Word | None  # `install` or `uninstall`; None for a list of packages
    words: tuple[Word, ...]  # those behind it
    whole: tuple[int, int, str] | None = None  # what a comment can replace, and the statement it needs before it
    quote: str | None = None  # for shell text: the quotation mark that is free there
    items: tuple[ast.expr, ...] = ()  # for a Python list: its last elements, those of `words`

    @property
    def uninstalls(self) -> bool:
        return self.action is not None and self.action.text == "uninstall"


def repair_installs(cells: Sequence[Cell]) -> Findings:
    """Ranges for fixed versions, and no command that changes PyTorch."""
    findings = Findings()
    found = [(index, command) for index, cell in enumerate(cells) for command in _commands(cell, index, findings)]
    named = {_name(word) for _, command in found if not command.uninstalls for word in command.words}
    for index, command in found:
        _repair(cells[index], index, command, "onnxruntime-gpu" in named, findings)
    if "xformers" in named:
        for index, cell in enumerate(cells):
            _leave_out_xformers(cell, index, findings)
    return findings


def project_range(name: str) -> SpecifierSet | None:
    """The range of requirements.txt for a package, whichever flavour of it is named; None if it is not there."""
    flavours = next((family for family in (OPENCV, ONNXRUNTIME) if name in family), (name,))
    return next((item.specifier for item in project_requirements() if canonicalize_name(item.name) in flavours), None)


def _repair(cell: Cell, index: int, command: Command, gpu_runtime: bool, findings: Findings) -> None:
    upgrades = any(word.text in UPGRADES for word in command.words)
    verdicts: dict[int, tuple[str, str | None]] = {}
    for i, word in enumerate(command.words):
        if word.role == "file" and command.action and not command.uninstalls:
            findings.doubt(index, f"{command.words[i - 1].text} {word.text}", "migration.requirements_file")
        if word.role == "package" and (verdict := _verdict(cell, command, word, upgrades, gpu_runtime)):
            if verdict[0] is None:
                findings.doubt(index, word.text, verdict[1])
            else:
                verdicts[i] = verdict
    gone = {i for i, (text, _) in verdicts.items() if not text}
    if any(canonicalize_name(_name(command.words[i]) or "") in (*PYTORCH, "xformers") for i in gone):
        for i, word in enumerate(command.words):
            if PYTORCH_INDEX in word.text and word.role in ("option", "value"):
                unneeded = {i - 1, i} if word.role == "value" else {i}
                verdicts |= dict.fromkeys(unneeded, ("", None))
    left = [i for i, word in enumerate(command.words) if word.role in ("package", "file") and i not in gone]
    if gone and not left and command.action:
        _empty(cell, index, command, verdicts[min(gone)][1], findings)
        return
    gone = {i for i, (text, _) in verdicts.items() if not text}
    if command.items:
        deleted = without_items(cell, command.items, gone)
    else:
        before = [command.action, *command.words] if command.action else []
        deleted = {i: (before[i].end, command.words[i].end) for i in gone}
    for i, (text, reason) in verdicts.items():
        start, end = deleted[i] if i in gone else (command.words[i].start, command.words[i].end)
        findings.edit(index, start, end, text, reason)


def _verdict(
    cell: Cell, command: Command, word: Word, upgrades: bool, gpu_runtime: bool
) -> tuple[str | None, str] | None:
    """What becomes of a package: (new text, reason), "" if it goes, None in its place if it is left in doubt."""
    if (item := _requirement(word.text)) is None:
        return None
    name = canonicalize_name(item.name)
    fixed = item.url is not None or any(part.operator in FIXED for part in item.specifier)
    if command.uninstalls:
        return ("", "migration.kept") if name in (*PYTORCH, "numpy") else None
    if name == "xformers":
        return "", "migration.xformers"
    if name in PYTORCH and (fixed or item.specifier or upgrades):
        return "", "migration.torch"
    if name == "numpy" and (fixed or upgrades):
        return "", "migration.numpy"
    if name == "onnxruntime" and gpu_runtime:
        return "", "migration.onnxruntime"
    written = cell.source[word.start : word.end]
    redirected = command.quote and re.search(r"[<>]", re.sub(r"\"[^\"]*\"|'[^']*'", "", written))
    if not fixed and not redirected:
        return None
    allowed = project_range(name)
    if allowed is None and fixed:
        return None, "migration.unknown_pin"
    extras = f"[{','.join(sorted(item.extras))}]" if item.extras else ""
    text = f"{item.name}{extras}{allowed}" if fixed else word.text
    quote = command.quote or (written[-1] if command.items else "")
    return f"{quote}{text}{quote}", "migration.range" if fixed else "migration.quoted"


def _empty(cell: Cell, index: int, command: Command, reason: str | None, findings: Findings) -> None:
    """Nothing is left to install: a comment says so, or pip has nothing to do."""
    if command.whole:
        start, end, statement = command.whole
        findings.edit(index, start, end, f"{statement}# {say(reason, 'es')} · {say(reason, 'en')}", reason)
    elif command.items:
        findings.edit(index, command.action.start + 1, command.action.end - 1, NOTHING_TO_DO, reason)
        for start, end in without_items(cell, command.items, set(range(len(command.items)))).values():
            findings.edit(index, start, end, "", None)
    else:
        findings.edit(index, command.action.start, command.words[-1].end, NOTHING_TO_DO, reason)


def _leave_out_xformers(cell: Cell, index: int, findings: Findings) -> None:
    """Statements that turn on what is no longer installed."""
    for node in cell.walk():
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and last_name(call.func) == "enable_xformers_memory_efficient_attention":
            reason = "migration.xformers"
            note = f"  # {say(reason, 'es')} · {say(reason, 'en')}" if cell.lines_of(node) else ""
            findings.edit(index, *cell.span(node), f"pass{note}", reason)


def _requirement(text: str) -> Requirement | None:
    """What a word asks for. The address of a wheel asks for one version, and so does a variable where one stands."""
    wheel = WHEEL.fullmatch(text)
    try:
        return Requirement(f"{wheel[1]}=={wheel[2]}" if wheel else VARIABLE.sub("0", text))
    except ValueError:
        return None


def _name(word: Word) -> str | None:
    item = _requirement(word.text) if word.role == "package" else None
    return item and canonicalize_name(item.name)


def _commands(cell: Cell, index: int, findings: Findings) -> Iterator[Command]:
    """Every pip command of a cell."""
    for magic in cell.magics:
        statement = "true  " if magic.shell else "pass  " if magic.indent else ""
        whole = (magic.start, magic.end, statement) if magic.statement else None
        yield from _in_shell(cell.source, magic.command, magic.end, whole, '"', lines=magic.shell)
        if clone := CLONE.search(cell.source, magic.command, magic.end):
            findings.doubt(index, clone[0], "migration.cloned")
    if cell.language is None and PINNED_LINE.search(cell.source):
        findings.doubt(index, PINNED_LINE.search(cell.source)[0], "migration.pins_elsewhere")
    statements = {id(node.value): node for node in cell.walk() if isinstance(node, ast.Expr)}
    in_body = set(map(id, cell.body))
    wholes: dict[int, tuple[int, int, str]] = {}
    for node in cell.walk():
        if isinstance(node, ast.Call) and node.args and last_name(node.func) in RUNNERS:
            statement = statements.get(id(node))
            if statement and cell.lines_of(statement):
                wholes[id(node.args[0])] = (*cell.span(statement), "" if id(statement) in in_body else "pass  ")
            yield from _in_argument(cell, index, node.args[0], wholes.get(id(node.args[0])), findings)
        elif isinstance(node, ast.List | ast.Tuple) and node.elts:
            yield from _in_list(cell, node, wholes.get(id(node)))
        elif isinstance(node, ast.Constant) and "\n" in str(node.value) and PINNED_LINE.search(str(node.value)):
            findings.doubt(index, PINNED_LINE.search(node.value)[0], "migration.pins_elsewhere")


def _in_argument(
    cell: Cell, index: int, node: ast.expr, whole: tuple[int, int, str] | None, findings: Findings
) -> Iterator[Command]:
    """The commands in a string that is run, `"…"` or `"…".split()`."""
    split = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split"
    text = node.func.value if split else node
    if not isinstance(text, ast.Constant | ast.JoinedStr | ast.BinOp):
        return
    written = cell.text(text)
    plain = re.fullmatch(r"(r?)('''|\"\"\"|'|\")(.*)\2", written, re.DOTALL)
    if isinstance(text, ast.Constant) and plain and plain[3] == text.value:
        start = cell.span(text)[0] + plain.start(3)
        quote = None if split else "'" if plain[2][0] == '"' else '"'
        yield from _in_shell(cell.source, start, start + len(text.value), whole, quote)
    elif re.search(r"pip3?\s+install.*==", written, re.DOTALL):
        findings.doubt(index, written, "migration.built_command")


def _in_shell(
    source: str, start: int, end: int, whole: tuple[int, int, str] | None, quote: str | None, lines: bool = False
) -> Iterator[Command]:
    """The pip commands in a piece of shell text; `lines` for a script, where each line can be replaced alone."""
    segments: list[list[Word]] = [[]]
    for token in TOKEN.finditer(source, start, end):
        if token["end"]:
            segments.append([])
        elif token["word"]:
            segments[-1].append(Word(token.start(), token.end(), _unquoted(token["word"])))
    segments = [words for words in segments if words]
    for words in segments:
        if place := _place_of_action(words):
            arguments = tuple(_with_roles(words[place + 1 :]))
            last = [words[place], *arguments][-1].end
            alone = re.match(r"[ \t]*(\r?\n|$)", source[last:end])
            if lines:
                replaceable = (words[0].start, last, "true  ") if alone else None
            else:
                replaceable = whole if len(segments) == 1 else None
            yield Command(words[place], arguments, replaceable, quote)


def _unquoted(word: str) -> str:
    quoted = re.fullmatch(r"(['\"])(.*)\1", word)
    return quoted[2] if quoted else re.sub(r"['\"]", "", word)


def _in_list(cell: Cell, node: ast.List | ast.Tuple, whole: tuple[int, int, str] | None) -> Iterator[Command]:
    """The pip command that a Python list spells, or the packages that it holds for one."""
    words = []
    for item in node.elts:
        plain = isinstance(item, ast.Constant) and isinstance(item.value, str)
        words.append(Word(*cell.span(item), item.value if plain else ""))
    if place := _place_of_action(words, prefix=False):
        yield Command(words[place], tuple(_with_roles(words[place + 1 :])), whole, None, tuple(node.elts[place + 1 :]))
    elif "pip" in cell.source and any("=" in word.text for word in words) and all(map(_name, words)):
        yield Command(None, tuple(words), items=tuple(node.elts))


def _place_of_action(words: Sequence[Word], prefix: bool = True) -> int | None:
    """Where `install` or `uninstall` stands behind pip; None if this is no such command."""
    for place, word in enumerate(words):
        if PIP.fullmatch(word.text):
            after = next((i for i in range(place + 1, len(words)) if not words[i].text.startswith("-")), None)
            known = not prefix or all(BEFORE_PIP.fullmatch(earlier.text) for earlier in words[:place])
            return after if known and after and words[after].text in ("install", "uninstall") else None
    return None


def _with_roles(words: Sequence[Word]) -> Iterator[Word]:
    previous = ""
    for word in words:
        role = "package"
        if previous in FILES or VALUES.fullmatch(previous):
            role, previous = "file" if previous in FILES else "value", ""
        elif re.match(r"-|\d?[<>]", word.text):
            role, previous = "option", word.text
        yield Word(word.start, word.end, word.text, role)
