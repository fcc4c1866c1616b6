"""Which names a statement of a notebook reads and binds, as far as a repair has to know.

Careful on purpose: a name counts as read wherever it might be, inside functions too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from instantid.migration_cells import Cell

WORD = re.compile(r"\w+")
INSERTED = re.compile(r"\{[^}]*\}|\$\w+")  # what IPython fills in before the shell sees it
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def binds(node: ast.stmt) -> set[str]:
    """The names that a statement at the top level gives a value to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return {node.id}
    own = {node.name} if isinstance(node, ast.ExceptHandler) and node.name else set()
    if isinstance(node, (*FUNCTIONS, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        return set()
    return own.union(*map(binds, ast.iter_child_nodes(node)))


def reads(node: ast.AST) -> set[str]:
    """The names from outside that a statement reads or deletes, those in the bodies of its functions among them."""
    if isinstance(node, ast.Name):
        return set() if isinstance(node.ctx, ast.Store) else {node.id}
    inner = set().union(*map(reads, ast.iter_child_nodes(node)))
    if isinstance(node, ast.AugAssign):
        return inner | binds(node)
    if isinstance(node, FUNCTIONS):
        return inner - _local(node)
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return inner.difference(*(binds(part.target) for part in node.generators))
    if isinstance(node, ast.For | ast.AsyncFor):
        return inner - binds(node.target)
    if isinstance(node, ast.ExceptHandler):
        return inner - {node.name}
    return inner


def free_reads(body: Iterable[ast.stmt]) -> set[str]:
    """The names that statements, run in this order, read before they bind them themselves."""
    found, bound = set(), set()
    for statement in body:
        found |= reads(statement) - bound
        bound |= binds(statement)
    return found


def reads_at_once(node: ast.AST) -> set[str]:
    """The names that are read when a statement runs, without those in the bodies of functions that it defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set().union(
            *map(reads, [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)])
        )
    if isinstance(node, ast.ClassDef):
        return (
            set()
            .union(*map(reads, [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]))
            .union(*map(reads_at_once, node.body))
        )
    return reads(node)


def unseen_reads(cell: Cell) -> set[str]:
    """The names that a cell may read where no tree shows it: `!echo {name}`, `%time name()`, or no Python at all."""
    if cell.tree is None and cell.language == "python":
        return set(WORD.findall(cell.source))
    texts = [cell.source[magic.command - 1 : magic.end] for magic in cell.magics]
    read = [text if text.startswith("%") else " ".join(INSERTED.findall(text)) for text in texts]
    return set(WORD.findall(" ".join(read)))


def _local(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    arguments = function.args
    named = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    named |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a}
    body = function.body if isinstance(function.body, list) else [function.body]
    shared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    return named.union(*map(binds, body)) - shared
