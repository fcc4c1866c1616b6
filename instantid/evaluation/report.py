"""The report: a table for people, everything for programs, and a sheet of pictures."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from instantid.evaluation.figures import Figures, figures_of
from instantid.evaluation.grid import grid
from instantid.evaluation.intervals import Estimate
from instantid.evaluation.obedience import TRAITS
from instantid.evaluation.run import Evaluation
from instantid.messages import say

LIBRARIES = ("torch", "diffusers", "transformers", "insightface", "onnxruntime", "onnxruntime-gpu", "numpy")
NOTHING = "—"


def write_report(evaluation: Evaluation, output: Path, language: str) -> None:
    """Writes report.md, report.json and grid.png into `output`, each whole or not at all. Raises: OSError."""
    figures = [figures_of(evaluation, row) for row in evaluation.rows]
    content = json.dumps(as_data(evaluation, figures), ensure_ascii=False, indent=1) + "\n"
    for name, text in (("report.md", as_markdown(evaluation, figures, language)), ("report.json", content)):
        partial = output / f"{name}.part"
        partial.write_text(text, encoding="utf-8")
        partial.replace(output / name)
    partial = output / "grid.png.part"
    grid(evaluation, language).save(partial, format="PNG")
    partial.replace(output / "grid.png")


def row_line(name: str, figures: Figures, language: str) -> str:
    """The figures of a row in one line."""
    shares = [f"{say(f'evaluate.{trait}', language)} {_percent(share)}" for trait, share in figures.obeyed.items()]
    return say(
        "evaluate.row_done",
        language,
        name=name or say("evaluate.plain", language),
        likeness=_number(figures.likeness),
        identified=_percent(figures.identified),
        points=_percent(figures.point_error),
        seconds=f"{figures.seconds:.2f}",
        more="".join(f" · {share}" for share in shares),
    )


def as_markdown(evaluation: Evaluation, figures: list[Figures], language: str) -> str:
    """The table, what it was measured with, and what to mind."""
    named = [trait for trait in TRAITS if any(trait in row.obeyed for row in figures)]
    has_vram = any(row.peak_vram_gib is not None for row in figures)
    columns = ["variant", "pictures", "likeness", "identified", "points", *named, "without_face", "seconds"]
    columns += ["vram"] if has_vram else []
    table = [[say(f"evaluate.{column}", language) for column in columns], ["---"] * len(columns)]
    for row, own in zip(evaluation.rows, figures):
        cells = [f"`{row.variant.name}`" if row.variant.name else say("evaluate.plain", language), str(own.pictures)]
        cells += [_number(own.likeness, True), _percent(own.identified, True), _percent(own.point_error, True)]
        cells += [_percent(own.obeyed.get(trait), True) for trait in named]
        cells += [str(own.without_face), f"{own.seconds:.2f}"]
        cells += [f"{own.peak_vram_gib or 0:.2f}"] if has_vram else []
        table.append(cells)
    settings = [
        f"- {say(f'evaluate.setting_{name}', language)}: {value}" for name, value in _settings(evaluation, language)
    ]
    notes = [f"- {note}" for note in notes_of(evaluation, language)]
    return "\n".join(
        [
            f"# {say('evaluate.title', language)}",
            "",
            *("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in table),
            "",
            *notes,
            "",
            f"## {say('evaluate.settings', language)}",
            "",
            *settings,
            "",
            "![](grid.png)",
            "",
        ]
    )


def as_data(evaluation: Evaluation, figures: list[Figures]) -> dict[str, Any]:
    """Everything, ready for JSON: the figures of each row, and each single picture."""
    plan, subjects = evaluation.plan, evaluation.subjects
    rows = []
    for row, own in zip(evaluation.rows, figures):
        pictures = [
            {
                "file": f"pictures/{file.name}",
                "person": subjects.people[case.person].name,
                "prompt": plan.prompts[case.prompt].text,
                "wanted": plan.prompts[case.prompt].wanted,
                "seed": case.seed,
                **asdict(result),
            }
            for case, file, result in zip(row.cases, row.files, row.results)
        ]
        rows.append({"name": row.variant.name, "variant": asdict(row.variant), **asdict(own), "results": pictures})
    return {
        "settings": dict(_settings(evaluation, "en")),
        "notes": notes_of(evaluation, "en"),
        "left_out": list(subjects.left_out),
        "rows": rows,
    }


def notes_of(evaluation: Evaluation, language: str) -> list[str]:
    """What whoever reads the figures should know."""
    subjects = evaluation.subjects
    chance = f"{100 / len(subjects.people):.2g} %"
    notes = [say("evaluate.note_chance", language, people=len(subjects.people), chance=chance)]
    notes += [say("evaluate.note_interval", language)]
    if not evaluation.has_own_recogniser:
        notes.append(say("evaluate.note_same_recogniser", language))
    if any(person.others == person.references for person in subjects.people):
        notes.append(say("evaluate.note_same_photo", language))
    if not evaluation.classes:
        notes.append(say("evaluate.note_no_classifier", language))
    if subjects.left_out:
        named = ", ".join(subjects.left_out[:8]) + (" …" if len(subjects.left_out) > 8 else "")
        notes.append(say("evaluate.note_left_out", language, count=len(subjects.left_out), names=named))
    said = {json.dumps(note): note for row in evaluation.rows for result in row.results for note in result.notes}
    return notes + [say(key, language, **facts) for key, facts in said.values()]


def _settings(evaluation: Evaluation, language: str) -> list[tuple[str, str]]:
    plan = evaluation.plan
    kind = "own" if plan.own_poses else "others"
    poses = str(len(evaluation.subjects.poses) or say(f"evaluate.poses_{kind}", language))
    request = ", ".join(f"{name} {value}" for name, value in plan.fields.items())
    return [
        ("bundle", evaluation.bundle.described(language)),
        ("device", evaluation.device),
        ("people", f"{len(evaluation.subjects.people)} ({plan.origin or 'examples'})"),
        ("poses", poses),
        ("prompts", str(len(plan.prompts))),
        ("count", str(plan.count)),
        ("seed", str(plan.seed)),
        ("request", request or NOTHING),
        ("versions", ", ".join([f"Python {platform.python_version()}", *_versions()])),
    ]


def _versions() -> list[str]:
    found = []
    for library in LIBRARIES:
        try:
            found.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue
    return found


def _number(estimate: Estimate | None, interval: bool = False) -> str:
    if estimate is None:
        return NOTHING
    return f"{estimate.mean:.3f}" + (f" [{estimate.low:.3f}, {estimate.high:.3f}]" if interval else "")


def _percent(estimate: Estimate | None, interval: bool = False) -> str:
    if estimate is None:
        return NOTHING
    mean, low, high = (100 * share for share in (estimate.mean, estimate.low, estimate.high))
    return f"{mean:.1f} %" + (f" [{low:.1f}, {high:.1f}]" if interval else "")
