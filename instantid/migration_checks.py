"""Repair of the cell that compares installed versions with fixed ones: it becomes the check of this project.

A check is replaced only as a whole: the comparison, the table of versions, and the helpers and flags that serve nothing
else. If anything that stays needs one of them, or if the check does more than look and tell, it is left alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from instantid.migration_cells import Cell, Findings, last_name
from instantid.migration_names import binds, free_reads, reads, unseen_reads
from instantid.requirements import canonicalize_name, project_requirements

CHECK = ("from instantid.compatibility import check_environment", "print(check_environment().text())")
VERSION = re.compile(r"[=~<>! ]*\d+(\.\d+)+([.+-]?\w+)*")
FURTHER_PACKAGES = {"torchvision", "torchaudio", "xformers", "numpy"}
FILLERS = {"append", "extend", "add", "update"}
STOPS = {"exit", "_exit", "quit", "kill", "abort"}
COMPARABLE = {"parse", "Version", "LooseVersion", "int", "tuple"}  # what compares as it should, unless by == and !=

# What code that only looks and tells may call.
LOOKS_AND_TELLS = re.compile(
    r"add|all|any|append|bool|dict|display|enumerate|error|exit|extend|find_spec|float|format|get|get_distribution|getattr|"
    r"hasattr|import_module|info|int|isinstance|items|join|keys|len|list|LooseVersion|lstrip|map|parse|print|replace|"
    r"require|rsplit|rstrip|set|sorted|split|startswith|str|strip|sum|tuple|type|update|values|version|Version|warn|warning|zip|"
    r"__import__|\w*(Error|Exception|Exit|Warning|Conflict|NotFound)"
)


@dataclass(frozen=True)
class Surroundings:
    """What one cell's check is seen against."""

    cell: Cell
    versions: frozenset[str]  # names that hold an installed version, anywhere in the notebook
    numbers: frozenset[str]  # names that hold a fixed version
    needed_elsewhere: frozenset[str]  # names that other cells read before they bind them


@dataclass(frozen=True)
class Check:
    """Statements that may be a check of versions."""

    places: set[int]  # in the body of their cell
    certain: bool  # they are nothing else, and nothing else needs them


def repair_checks(cells: Sequence[Cell]) -> Findings:
    """The project's check in the place of every one that compares with fixed versions."""
    findings = Findings()
    versions = frozenset(name for cell in cells for name in _version_names(cell))
    numbers = frozenset(name for cell in cells for name in _number_names(cell))
    needs = [free_reads(cell.body) | unseen_reads(cell) for cell in cells]
    for index, cell in enumerate(cells):
        elsewhere = frozenset().union(*needs[:index], *needs[index + 1 :])
        around = Surroundings(cell, versions, numbers, elsewhere | unseen_reads(cell))
        gone: set[int] = set()
        first = None
        for place in _seeds(around):
            if place in gone:
                continue
            check = _whole_check(around, place)
            if check.certain:
                gone |= check.places
                first = place if first is None else first
            elif any(_insists(cell.body[part]) for part in check.places):
                findings.doubt(index, cell.text(cell.body[place]), "migration.check_unclear")
        for place in gone:
            _replace(cell, index, cell.body[place], place == first, findings)
    return findings


def _seeds(around: Surroundings) -> Iterator[int]:
    """The statements that hold a table of versions or compare with a fixed one."""
    for place, statement in enumerate(around.cell.body):
        if not isinstance(statement, ast.Import | ast.ImportFrom) and (
            _has_table(statement) or _compares(statement, around)
        ):
            yield place


def _whole_check(around: Surroundings, seed: int) -> Check:
    """What hangs together with `seed`: what uses its names, and what serves nothing else."""
    cell, body = around.cell, around.cell.body
    check = {seed}
    while True:
        bound = set().union(*(binds(body[place]) | _fills(body[place]) for place in check))
        read = set().union(*(reads(body[place]) for place in check))
        rest = [place for place in range(len(body)) if place not in check]
        for place in rest:
            statement = body[place]
            serves = binds(statement) & read and _is_helper(statement)
            if serves:  # nobody else
                others = free_reads(body[other] for other in rest if other != place) | around.needed_elsewhere
                serves = not binds(statement) & others
            if serves or (reads(statement) & bound and not isinstance(statement, ast.Import | ast.ImportFrom)):
                check.add(place)
                break
        else:
            break
    compares = any(isinstance(node, ast.Compare) for place in check for node in ast.walk(body[place])) or any(
        _compares(body[place], around) for place in check
    )
    still_needed = free_reads(body[place] for place in rest) | around.needed_elsewhere
    only_looks = all(_looks_and_tells(cell, body[place], bound) for place in check)
    return Check(check, certain=compares and only_looks and not bound & still_needed)


def _replace(cell: Cell, index: int, statement: ast.stmt, first: bool, findings: Findings) -> None:
    reason = "migration.check" if first else None
    if lines := cell.lines_of(statement):
        text = "\n".join([*CHECK, ""]) if first else ""
        findings.edit(index, *lines, text if lines[1] < len(cell.source) else text.rstrip("\n"), reason)
    else:
        findings.edit(index, *cell.span(statement), "; ".join(CHECK) if first else "pass", reason)


def _version_names(cell: Cell) -> Iterator[str]:
    """Names that stand for an installed version."""
    for node in cell.walk():
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names if alias.name == "__version__")
        elif isinstance(node, ast.Assign) and _is_version(node.value, frozenset()):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _number_names(cell: Cell) -> Iterator[str]:
    """Names that stand for a fixed version, such as `TORCH = "2.0.0"`."""
    for node in cell.body:
        if isinstance(node, ast.Assign) and _is_number(node.value):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_version(node: ast.AST, names: frozenset[str]) -> bool:
    """`torch.__version__`, `version("torch")`, `get_distribution("torch").version`, or a name for one of them."""
    if isinstance(node, ast.Call):
        return last_name(node.func) == "version" and bool(node.args)
    if isinstance(node, ast.Attribute) and node.attr == "version":
        return isinstance(node.value, ast.Call) and last_name(node.value.func) == "get_distribution"
    return last_name(node) == "__version__" or (isinstance(node, ast.Name) and node.id in names)


def _compares(statement: ast.AST, around: Surroundings) -> bool:
    """Does it compare an installed version with a fixed one, by equality or as text?"""
    for node in ast.walk(statement):
        parts = list(ast.walk(node)) if isinstance(node, ast.Compare | ast.Call) else []
        if not any(_is_version(part, around.versions) for part in parts):
            continue
        fixed = any(_is_number(part) or (isinstance(part, ast.Name) and part.id in around.numbers) for part in parts)
        if isinstance(node, ast.Call) and last_name(node.func) == "startswith" and fixed:
            return True
        if isinstance(node, ast.Compare) and fixed:
            parsed = any(isinstance(part, ast.Call) and last_name(part.func) in COMPARABLE for part in parts)
            if not parsed or any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
                return True
    return False


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(VERSION.fullmatch(node.value))


def _has_table(statement: ast.stmt) -> bool:
    """A dictionary, or a list of pairs, of packages and fixed versions."""
    for node in ast.walk(statement):
        pairs = []
        if isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values))
        elif isinstance(node, ast.List | ast.Tuple) and all(isinstance(item, ast.Tuple) for item in node.elts):
            pairs = [tuple(item.elts) for item in node.elts]
        if pairs and all(len(pair) == 2 and _is_number(pair[1]) for pair in pairs):
            names = {canonicalize_name(str(pair[0].value)) for pair in pairs if isinstance(pair[0], ast.Constant)}
            if names & {*FURTHER_PACKAGES, *(canonicalize_name(item.name) for item in project_requirements())}:
                return True
    return False


def _fills(statement: ast.stmt) -> set[str]:
    """The lists and the like that it adds to."""
    calls = (node.func for node in ast.walk(statement) if isinstance(node, ast.Call))
    return {last_name(f.value) for f in calls if isinstance(f, ast.Attribute) and f.attr in FILLERS} - {None}


def _is_helper(statement: ast.stmt) -> bool:
    """A function, or a plain value such as `ok = True`."""
    if isinstance(statement, ast.Assign):
        return not any(isinstance(node, ast.Call | ast.Attribute | ast.Subscript) for node in ast.walk(statement))
    return isinstance(statement, ast.FunctionDef) and not statement.decorator_list


def _looks_and_tells(cell: Cell, statement: ast.stmt, own: set[str]) -> bool:
    """Nothing is installed, loaded or set by it but its own names."""
    start, end = cell.span(statement)
    if any(start <= magic.start < end for magic in cell.magics):
        return False
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            name = last_name(node.func) or ""
            if name not in own and not LOOKS_AND_TELLS.fullmatch(name):
                return False
        changes = isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load)
        if changes and last_name(node.value) not in own:
            return False
    return True


def _insists(statement: ast.stmt) -> bool:
    """It stops the notebook over a version, or lists versions: worth naming when it is left alone."""
    calls = {last_name(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)}
    stops = any(isinstance(node, ast.Raise | ast.Assert) for node in ast.walk(statement)) or calls & STOPS
    return bool(stops) or _has_table(statement)
