"""Means with 95 % intervals, by bootstrap over people: pictures of one person are alike, people are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
LEVEL = (2.5, 97.5)  # percent


@dataclass(frozen=True)
class Estimate:
    """A mean, and between which values it would fall for 95 of 100 other choices of as many people."""

    mean: float
    low: float
    high: float


def estimate(values: Sequence[Sequence[float]]) -> Estimate | None:
    """The mean of all values; None if there is none.

    Args:
        values: for each person those of their pictures; may be empty for some.
    """
    sums = np.array([sum(own) for own in values if own], dtype=np.float64)
    counts = np.array([len(own) for own in values if own], dtype=np.float64)
    if not len(sums):
        return None
    drawn = np.random.default_rng(0).integers(len(sums), size=(DRAWS, len(sums)))  # people, with repetition
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, LEVEL)
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high))
