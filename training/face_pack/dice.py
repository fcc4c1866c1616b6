"""Random numbers of one training step, on the device, drawn anew from what names the step."""

from __future__ import annotations

import hashlib
import random

import torch
from torch import Tensor


class Dice:
    """Draws that are a function of `names` (and of the kind of device)."""

    def __init__(self, device: torch.device | str, *names: int | str) -> None:
        digest = hashlib.blake2b(repr(names).encode(), digest_size=7).digest()
        number = int.from_bytes(digest, "big")
        self.device = device
        self.host = random.Random(number)  # for what decides shapes: it must not wait for the device
        self._generator = torch.Generator(device).manual_seed(number)

    def uniform(self, *shape: int, least: float = 0.0, most: float = 1.0) -> Tensor:
        return torch.rand(shape, device=self.device, generator=self._generator) * (most - least) + least

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, generator=self._generator)

    def integers(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, device=self.device, generator=self._generator)

    def seldom(self, share: float, *shape: int) -> Tensor:
        """0 … 1, but 0 for all but a share."""
        return self.uniform(*shape) * (self.uniform(*shape) < share)
