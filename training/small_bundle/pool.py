"""Examples that stay on the device, of which some are renewed as training goes on.

Drawing pictures takes many small launches, picking from a pool takes one. Examples are numbered; which of them are in
the pool, and which are picked, is a function of the step alone: a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_world.chance import uniform

Examples = dict[str, Tensor]  # name -> (b, …), example by example


@dataclass(frozen=True)
class Supply:
    """How many examples there are, and how fast they change. `first` and `most` are multiples of `fresh`."""

    first: int  # before the first step
    fresh: int  # made at once: about ten thousand launches for any number of pictures
    every: int  # steps between
    most: int  # held; then the oldest go

    def at(self, step: int) -> range:
        """The numbers of the examples in the pool at a step."""
        newest = self.first + self.fresh * (step // self.every)
        return range(max(0, newest - self.most), newest)


class Pool:
    """A ring of examples.

    Args:
        make: numbers (b,) on the processor -> the examples of these numbers, on the device that trains.
        seed: of the picks.
        ahead: make the next ones in a thread while others are trained on. Where a GPU computes, making them is mostly
            Python's work, and the trained graphs leave Python idle.
    """

    def __init__(self, make: Callable[[Tensor], Examples], supply: Supply, seed: int, ahead: bool = False) -> None:
        self.make, self.supply, self.seed = make, supply, seed
        self._thread = ThreadPoolExecutor(1) if ahead else None
        self._next: tuple[int, Future[Examples]] | None = None  # the first of their numbers, and they
        self._ring: Examples = {}
        self._made = 0  # the number after that of the newest example

    def pick(self, step: int, count: int) -> tuple[Examples, Tensor]:
        """`count` examples of the pool as it is at `step`, and their numbers (count,), on the device."""
        held = self.supply.at(step)
        is_first = not self._ring
        self._fill(held)
        if self._thread and not is_first and not self._next:
            # Not at the first pick: a CUDA graph is captured after it, and no other thread may use the GPU then.
            self._next = self._made, self._thread.submit(self._some, self._made)
        device = next(iter(self._ring.values())).device
        chance = uniform(torch.full((1,), step, device=device), self.seed, "picks", count)[0]
        numbers = held.start + (chance.double() * len(held)).long()
        return {name: self.column(name, numbers) for name in self._ring}, numbers

    def column(self, name: str, numbers: Tensor) -> Tensor:
        """One part of the examples of these numbers, which have to be in the pool."""
        return self._ring[name][numbers % self.supply.most]

    def _fill(self, held: range) -> None:
        fresh = self.supply.fresh
        for start in range(max(self._made, held.start), held.stop, fresh):
            examples = self._taken(start) or self._some(start)
            if not self._ring:
                self._ring = {
                    name: values.new_empty((self.supply.most, *values.shape[1:])) for name, values in examples.items()
                }
            place = start % self.supply.most
            for name, values in examples.items():
                self._ring[name][place : place + fresh] = values
            self._made = start + fresh

    def _some(self, start: int) -> Examples:
        return self.make(torch.arange(start, start + self.supply.fresh))

    def _taken(self, start: int) -> Examples | None:
        """What was made ahead, if it is what is needed."""
        ahead, self._next = self._next, None
        if ahead is None:
            return None
        number, examples = ahead
        return examples.result() if number == start else None
