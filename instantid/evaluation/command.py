"""`python -m instantid evaluate`: from options to a report, told row by row."""

from __future__ import annotations

import argparse
from dataclasses import replace

from instantid.evaluation.figures import figures_of
from instantid.evaluation.plan import examples_of, plan_from
from instantid.evaluation.report import row_line, write_report
from instantid.evaluation.run import evaluate as evaluations
from instantid.evaluation.variants import Loading
from instantid.keeping import keep_in
from instantid.live_line import live_line
from instantid.loading import Models, choose_bundle, load_bundle
from instantid.memory_plan import PlanOptions
from instantid.messages import say


def evaluate(arguments: argparse.Namespace, options: PlanOptions) -> None:
    """Writes report.md, report.json, grid.png and pictures/ into `arguments.output`; the report anew after each row.

    Raises: InstantIDError in one sentence; OSError if the folder cannot be written.
    """
    language = arguments.language
    plan = plan_from(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    folder = arguments.folder or keep_in(arguments.keep, language).weights
    bundle = choose_bundle(arguments.bundle, arguments.base, folder, language=language)
    if not plan.people:
        plan = replace(plan, people=examples_of(bundle, plan))

    show = live_line() or (lambda text: None)

    def load(loading: Loading) -> Models:
        models = load_bundle(
            replace(bundle, adapter_heads=loading.heads),
            folder=folder,
            options=replace(options, storage=loading.storage or options.storage),
            faces_on=arguments.faces_on,
            language=language,
        )
        show(say("evaluate.reading", language, people=len(plan.people)))
        return models

    row = 0

    def on_picture(done: int, total: int) -> None:
        name = plan.variants[row].name or say("evaluate.plain", language)
        facts = {"row": row + 1, "rows": len(plan.variants), "name": name, "done": done, "total": total}
        show(say("evaluate.progress", language, **facts) if done < total else "")

    for evaluation in evaluations(plan, load, arguments.output, on_picture):
        write_report(evaluation, arguments.output, language)
        finished = evaluation.rows[row]
        print(row_line(finished.variant.name, figures_of(evaluation, finished), language))
        row += 1
