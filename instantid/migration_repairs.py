"""Two repairs of a notebook's own code: functions that are defined again and again, and heads that do not fit."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from instantid.messages import say
from instantid.migration_cells import Cell, Findings, last_name
from instantid.migration_names import binds, reads, reads_at_once, unseen_reads

# Width of the Resampler -> heads and width of one head: the published file, and this project's default.
GEOMETRIES = {1280: (20, 64), 2048: (16, 128)}
DEFAULT_DIM = 2048


def repair_functions(cells: Sequence[Cell]) -> Findings:
    """One definition of each function: the last, which is the one that counted once every cell had run."""
    findings = Findings()
    statements = [(index, statement) for index, cell in enumerate(cells) for statement in cell.body]
    everything = [statement for _, statement in statements]
    places: dict[str, list[int]] = {}
    for place, statement in enumerate(everything):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and not statement.decorator_list:
            places.setdefault(statement.name, []).append(place)
    for name, defined in places.items():
        for place, following in itertools.pairwise(defined):
            index, last = statements[place][0], statements[following][0]
            used = _is_used(name, everything[place + 1 : following], everything)
            perhaps_used = any(name in unseen_reads(cell) for cell in cells[index:last])
            if used or perhaps_used or not cells[index].lines_of(everything[place]):
                findings.doubt(index, f"def {name}(…)", "migration.function_used")
                continue
            note = f"# {name}: {say('migration.function', 'es')} · {say('migration.function', 'en')}"
            findings.edit(index, *cells[index].span(everything[place]), note, "migration.function")
    return findings


def _is_used(name: str, between: Sequence[ast.stmt], everything: Sequence[ast.stmt]) -> bool:
    """Do the statements between two definitions take hold of the first, by name or through a function that calls it?"""
    users, more = set(), {name}
    while more:
        users |= more
        more = {user for statement in everything if reads(statement) & users for user in _defines(statement)} - users
    return any(reads_at_once(statement) & users for statement in between)


def _defines(statement: ast.stmt) -> set[str]:
    is_definition = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return {statement.name} if is_definition else set()


@dataclass(frozen=True)
class Argument:
    """An argument of a call, where it is written: `heads=12`, or `"heads": 12` in a dictionary that is passed on."""

    cell: int  # index
    start: int
    value: ast.expr


def repair_heads(cells: Sequence[Cell]) -> Findings:
    """Heads that divide the width of every `Resampler(…)`; its other arguments stay."""
    findings = Findings()
    constants = dict(_constants(cells))
    for index, cell in enumerate(cells):
        for node in cell.walk():
            if isinstance(node, ast.Call) and last_name(node.func) == "Resampler":
                _repair_call(cells, index, node, constants, findings)
    return findings


def _repair_call(
    cells: Sequence[Cell], index: int, call: ast.Call, constants: dict[str, Argument], findings: Findings
) -> None:
    arguments = dict(_arguments(cells, index, call, constants))
    if "heads" not in arguments:
        return
    heads = _number(arguments["heads"].value, constants)
    dim = _number(arguments["dim"].value, constants) if "dim" in arguments else DEFAULT_DIM
    if heads and dim and heads > 0 and dim % heads == 0:
        return
    if heads is None or dim not in GEOMETRIES:
        findings.doubt(index, cells[index].text(call), "migration.heads_unknown")
        return
    for name, fitting in zip(("heads", "dim_head"), GEOMETRIES[dim]):
        if name in arguments and _number(arguments[name].value, constants) != fitting:
            argument = _place_of_number(cells, arguments[name], constants)
            cell = cells[argument.cell]
            start, end = cell.span(argument.value)
            text = cell.source[argument.start : start] + str(fitting)
            findings.edit(argument.cell, argument.start, end, text, "migration.heads")


def _place_of_number(cells: Sequence[Cell], argument: Argument, constants: dict[str, Argument]) -> Argument:
    """The constant that is passed on, if it serves nothing else; else the argument itself."""
    if not isinstance(argument.value, ast.Name):
        return argument
    name = argument.value.id
    read = Counter(
        node.id
        for cell in cells
        for node in cell.walk()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)
    )
    return constants[name] if read[name] == 1 and name in constants else argument


def _arguments(
    cells: Sequence[Cell], index: int, call: ast.Call, constants: dict[str, Argument]
) -> Iterator[tuple[str, Argument]]:
    """The arguments of a call that have a name, and `dim`, which is also the first one without."""
    if call.args and not isinstance(call.args[0], ast.Starred):
        yield "dim", Argument(index, cells[index].span(call.args[0])[0], call.args[0])
    for keyword in call.keywords:
        if keyword.arg:
            yield keyword.arg, Argument(index, cells[index].span(keyword)[0], keyword.value)
            continue
        passed_on = Argument(index, 0, keyword.value)
        if isinstance(keyword.value, ast.Name):
            passed_on = constants.get(keyword.value.id, passed_on)
        if isinstance(passed_on.value, ast.Dict):
            for key, value in zip(passed_on.value.keys, passed_on.value.values):
                if isinstance(key, ast.Constant):
                    yield key.value, Argument(passed_on.cell, cells[passed_on.cell].span(key)[0], value)
        elif isinstance(passed_on.value, ast.Call) and last_name(passed_on.value.func) == "dict":
            yield from _arguments(cells, passed_on.cell, passed_on.value, constants)


def _constants(cells: Sequence[Cell]) -> Iterator[tuple[str, Argument]]:
    """Names that the notebook gives a value to exactly once, at the top level."""
    bound = Counter(name for cell in cells for statement in cell.body for name in binds(statement))
    for index, cell in enumerate(cells):
        for statement in cell.body:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                name = statement.targets[0]
                if isinstance(name, ast.Name) and bound[name.id] == 1:
                    yield name.id, Argument(index, cell.span(statement)[0], statement.value)


def _number(value: ast.expr, constants: dict[str, Argument]) -> int | None:
    """The whole number that an expression is for certain."""
    if isinstance(value, ast.Name) and value.id in constants:
        value = constants[value.id].value
    return value.value if isinstance(value, ast.Constant) and type(value.value) is int else None
