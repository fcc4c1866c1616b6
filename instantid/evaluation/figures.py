"""A row of pictures summed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from instantid.evaluation.intervals import Estimate, estimate
from instantid.evaluation.judge import Result
from instantid.evaluation.obedience import TRAITS
from instantid.evaluation.prompts import Prompt
from instantid.evaluation.run import Evaluation, Row


@dataclass(frozen=True)
class Figures:
    """The figures of one row. Pictures without a face count as not identified, and for no likeness or distance."""

    pictures: int
    without_face: int
    likeness: Estimate | None  # cosine
    identified: Estimate | None  # share of the pictures
    point_error: Estimate | None  # share of the eye distance
    obeyed: dict[str, Estimate]  # trait -> share of the pictures whose prompt names it
    seconds: float  # a picture: the median, without the first one where there are others
    peak_vram_gib: float | None


def figures_of(evaluation: Evaluation, row: Row) -> Figures:
    """The figures of a row."""

    def mean_of(value: Callable[[Result, Prompt], float | None]) -> Estimate | None:
        by_person: list[list[float]] = [[] for _ in evaluation.subjects.people]
        for case, result in zip(row.cases, row.results):
            number = value(result, evaluation.plan.prompts[case.prompt])
            if number is not None:
                by_person[case.person].append(number)
        return estimate(by_person)

    obeyed = {trait: mean_of(_obedience(trait, evaluation.classes.get(trait, ()))) for trait in TRAITS}
    warm = [result.seconds for result in row.results if not result.is_first]
    peaks = [result.peak_vram_gib for result in row.results if result.peak_vram_gib is not None]
    return Figures(
        pictures=len(row.results),
        without_face=sum(result.likeness is None for result in row.results),
        likeness=mean_of(lambda result, _: result.likeness),
        identified=mean_of(lambda result, _: float(result.rank == 0)),
        point_error=mean_of(lambda result, _: result.point_error),
        obeyed={trait: share for trait, share in obeyed.items() if share is not None},
        seconds=median(warm or [result.seconds for result in row.results]),
        peak_vram_gib=max(peaks, default=None),
    )


def _obedience(trait: str, classes: Sequence[str]) -> Callable[[Result, Prompt], float | None]:
    """1 where the picture shows what the prompt names, 0 where not, None where it names nothing that can be told."""

    def value(result: Result, prompt: Prompt) -> float | None:
        wanted = prompt.wanted.get(trait)
        return float(result.traits.get(trait) == wanted) if wanted in classes else None

    return value
