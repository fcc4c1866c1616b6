"""Repair of install commands: PyTorch is never reinstalled, fixed versions become the ranges of requirements.txt."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from instantid.messages import say
from instantid.migration_cells import Cell, Findings, last_name, without_items
from instantid.migration_commands import Command, Word, literal_start, pip_commands, run_texts
from instantid.requirements import ONNXRUNTIME, OPENCV, SpecifierSet, canonicalize_name, project_requirements

PYTORCH = ("torch", "torchvision", "torchaudio")  # the last two are built for one version of the first
PYTORCH_INDEX = "download.pytorch.org"
FIXED = {"==", "===", "~=", "<", "<="}
UPGRADES = {"-U", "--upgrade", "-I", "--ignore-installed", "--force-reinstall"}
NOTHING_TO_DO = "--version"  # what pip does when nothing is left of a command and its place cannot be empty

CLONE = re.compile(r"git\s+clone\b[^\n]*?\S*/inst(ant)?id(\.git)?(?=\s|$)", re.IGNORECASE)
PINNED_LINE = re.compile(r"^\s*(torch|torchvision|torchaudio|xformers|diffusers|transformers)==\S+\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a package or an option."""

    text: str | None  # "" if it goes, None if it is left in doubt
    reason: str | None  # key of the sentence; None where that of another word covers it


def repair_installs(cells: Sequence[Cell]) -> Findings:
    """Ranges for fixed versions, and no command that changes PyTorch."""
    findings = Findings()
    found = [(index, command) for index, cell in enumerate(cells) for command in pip_commands(cell)]
    named = {word.name for _, command in found if not command.uninstalls for word in command.words}
    for index, command in found:
        _repair(cells[index], index, command, "onnxruntime-gpu" in named, findings)
    for index, cell in enumerate(cells):
        _doubt(cell, index, findings)
        if "xformers" in named:
            _leave_out_xformers(cell, index, findings)
    return findings


def project_range(name: str) -> SpecifierSet | None:
    """The range of requirements.txt for a package, whichever flavour of it is named; None if it is not there."""
    flavours = next((family for family in (OPENCV, ONNXRUNTIME) if name in family), (name,))
    return next((item.specifier for item in project_requirements() if canonicalize_name(item.name) in flavours), None)


def _repair(cell: Cell, index: int, command: Command, gpu_runtime: bool, findings: Findings) -> None:
    upgrades = any(word.text in UPGRADES for word in command.words)
    verdicts: dict[int, Verdict] = {}
    for i, word in enumerate(command.words):
        verdict = _verdict(cell, command, word, upgrades, gpu_runtime)
        if verdict and verdict.text is None:
            findings.doubt(index, word.text, verdict.reason)
        elif verdict:
            verdicts[i] = verdict
        if word.role == "file" and command.words[i - 1].text.endswith(("r", "requirement")):
            findings.doubt(index, f"{command.words[i - 1].text} {word.text}", "migration.requirements_file")
    gone = {i for i, verdict in verdicts.items() if not verdict.text}
    left = {i for i, word in enumerate(command.words) if word.role in ("package", "file")} - gone
    if gone and not left and command.action:
        _empty(cell, index, command, verdicts[min(gone)].reason, findings)
        return
    if {command.words[i].name for i in gone} & {*PYTORCH, "xformers"}:
        for i, word in enumerate(command.words):
            if PYTORCH_INDEX in word.text and word.role in ("option", "value"):
                unneeded = (i - 1, i) if word.role == "value" else (i,)
                verdicts |= dict.fromkeys(unneeded, Verdict("", None))
                gone |= set(unneeded)
    if command.items:
        deleted = without_items(cell, command.items, gone)
    else:
        ends = [word.end for word in (command.action, *command.words) if word]
        deleted = {i: (ends[i], ends[i + 1]) for i in gone}  # with the space before it
    for i, verdict in verdicts.items():
        start, end = deleted.get(i, (command.words[i].start, command.words[i].end))
        findings.edit(index, start, end, verdict.text, verdict.reason)


def _verdict(cell: Cell, command: Command, word: Word, upgrades: bool, gpu_runtime: bool) -> Verdict | None:
    """What becomes of a package; None if it stays."""
    if (item := word.requirement) is None:
        return None
    fixed = item.url is not None or any(part.operator in FIXED for part in item.specifier)
    if command.uninstalls:
        return Verdict("", "migration.kept") if word.name in (*PYTORCH, "numpy") else None
    if word.name == "xformers":
        return Verdict("", "migration.xformers")
    if word.name in PYTORCH and (fixed or item.specifier or upgrades):
        return Verdict("", "migration.torch")
    if word.name == "numpy" and (fixed or upgrades):
        return Verdict("", "migration.numpy")
    if word.name == "onnxruntime" and gpu_runtime:
        return Verdict("", "migration.onnxruntime")
    written = cell.source[word.start : word.end]
    quote = command.quote or (written[-1] if command.items else "")
    if fixed:
        allowed = project_range(word.name)
        extras = f"[{','.join(sorted(item.extras))}]" if item.extras else ""
        if allowed is None:
            return Verdict(None, "migration.unknown_pin")
        return Verdict(f"{quote}{item.name}{extras}{allowed}{quote}", "migration.range")
    if command.quote and re.search(r"[<>]", re.sub(r"\"[^\"]*\"|'[^']*'", "", written)):
        return Verdict(f"{quote}{word.text}{quote}", "migration.quoted")
    return None


def _empty(cell: Cell, index: int, command: Command, reason: str, findings: Findings) -> None:
    """Nothing is left to install: a comment says so, or pip has nothing to do."""
    if command.place:
        start, end = command.place.start, command.place.end
        findings.edit(index, start, end, f"{command.place.statement}# {_in_both(reason)}", reason)
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
            note = f"  # {_in_both('migration.xformers')}" if cell.lines_of(node) else ""
            findings.edit(index, *cell.span(node), f"pass{note}", "migration.xformers")


def _doubt(cell: Cell, index: int, findings: Findings) -> None:
    """What installs, or may, in a way that is not repaired here."""
    for magic in cell.magics:
        if clone := CLONE.search(cell.source, magic.command, magic.end):
            findings.doubt(index, clone[0], "migration.cloned")
    for node, _ in run_texts(cell):
        if literal_start(cell, node) is None and re.search(r"pip3?\s+install.*==", cell.text(node), re.DOTALL):
            findings.doubt(index, cell.text(node), "migration.built_command")
    texts = [node.value for node in cell.walk() if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    if cell.language is None:
        texts.append(cell.source)
    for text in texts:
        if "\n" in text and (pinned := PINNED_LINE.search(text)):
            findings.doubt(index, pinned[0], "migration.pins_elsewhere")


def _in_both(key: str) -> str:
    """A sentence in both languages: the notebook is read by whoever gets it."""
    return f"{say(key, 'es')} · {say(key, 'en')}"
