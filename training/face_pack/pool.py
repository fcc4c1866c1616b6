"""Rendered pictures that stay on the device, a part of which is replaced as training goes on.

Rendering a batch takes many small launches, drawing from a pool takes one; so each picture is used several times,
looked at and spoiled differently. Pictures are numbered. Which numbers a pool holds is a function of the step alone,
so a resumed run sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_pack.dice import Dice
from training.face_world import Rendering, people, render, scenes

LABELS = ("style", "background", "expression", "hair_dye")
RENDERED_AT_ONCE = 2**24  # pixels


@dataclass(frozen=True)
class PoolSize:
    """How many pictures of which kind a pool holds."""

    side: int  # of a picture, pixels
    count: int
    fresh: int  # pictures that are replaced at each step, on average
    persons: int = 0  # people who appear again and again; 0: everybody once


@dataclass(frozen=True)
class Drawing:
    """b pictures out of a pool."""

    pictures: Tensor  # (b, 3, side, side) 0 … 1
    key_points: Tensor  # (b, 5, 2)
    boxes: Tensor  # (b, 4)
    persons: Tensor  # (b,) whose number the person in the picture has
    labels: dict[str, Tensor]  # each (b,): LABELS of the scene


class Pool:
    """Pictures of the face world, those of step 0 to begin with."""

    def __init__(self, size: PoolSize, seed: int, device: torch.device | str) -> None:
        self.size, self.seed, self.device = size, seed, torch.device(device)
        side, count = size.side, size.count
        self._pictures = torch.empty(count, 3, side, side, dtype=torch.uint8, device=device)
        self._key_points = torch.empty(count, 5, 2, device=device)
        self._boxes = torch.empty(count, 4, device=device)
        self._labels = torch.empty(count, 1 + len(LABELS), dtype=torch.long, device=device)
        self._held = range(0)

    def go_to(self, step: int) -> None:
        """Hold the pictures of this step: `count` in a row, starting `fresh` further on with each step."""
        some = max(min(RENDERED_AT_ONCE // self.size.side**2, self.size.count // 8), 1)
        some = some if self.size.fresh else self.size.count  # a pool that stays is made at once
        first = step * self.size.fresh // some * some
        wanted = range(first, first + self.size.count)
        if wanted == self._held:
            return
        missing = [number for number in wanted if number not in self._held]
        for start in range(0, len(missing), some):
            self._render(torch.tensor(missing[start : start + some]))
        self._held = wanted

    def draw(self, count: int, dice: Dice) -> Drawing:
        """Any `count` of the pictures."""
        rows = dice.integers(self.size.count, count)
        person, *labels = self._labels[rows].unbind(1)
        return Drawing(
            pictures=self._pictures[rows].float() / 255,
            key_points=self._key_points[rows],
            boxes=self._boxes[rows],
            persons=person,
            labels=dict(zip(LABELS, labels)),
        )

    def _render(self, numbers: Tensor) -> None:
        rows = (numbers % self.size.count).to(self.device)
        persons = numbers % self.size.persons if self.size.persons else numbers
        shown = scenes(numbers, self.seed)
        rendering = rendered(numbers, persons, self.size.side, self.seed, self.device)
        self._pictures[rows] = (rendering.picture * 255).round().to(torch.uint8)
        self._key_points[rows], self._boxes[rows] = rendering.key_points, rendering.box
        labels = torch.stack([persons, *(getattr(shown, name) for name in LABELS)], 1)
        self._labels[rows] = labels.to(self.device)


def rendered(numbers: Tensor, persons: Tensor, side: int, seed: int, device: torch.device | str) -> Rendering:
    """Scenes `numbers` with people `persons` (both (b,) whole numbers) of one seed."""
    return render(people(persons, seed).to(device), scenes(numbers, seed).to(device), side)
