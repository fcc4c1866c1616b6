"""Everything random about an example, as a function of the seed and the example's number alone.

Which machine, process or batch an example lands in, and whether the run was stopped on the way, changes none of it. So
resuming needs no state of random generators, and two processes see what one would.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.face_world.chance import uniform

PICTURE = 0  # which picture an embedding is of: a stream of its own
FURTHEST = 2**-24  # from 0 and from 1: where the normal distribution's ends are cut, at 5.2


@dataclass(frozen=True)
class DropRates:
    """How often a condition is missing, each 0 … 1; guidance needs a model that knows what its absence means."""

    identity: float = 0.05
    text: float = 0.05
    both: float = 0.05
    control: float = 0.05


@dataclass(frozen=True)
class Draws:
    """The random part of a batch of `b` examples."""

    encoding: torch.Tensor  # (b, c, h, w) normal, for the sample of the VAE's distribution
    noise: torch.Tensor  # (b, c, h, w) normal
    timesteps: torch.Tensor  # (b,) whole numbers from 0
    without_identity: torch.Tensor  # (b,) bool
    without_text: torch.Tensor  # (b,) bool
    without_control: torch.Tensor  # (b,) bool


def stream(seed: int, number: int, which: int) -> np.random.SeedSequence:
    """The source of stream `which` of example `number`."""
    return np.random.SeedSequence([seed, number, which])


def draw(
    numbers: Sequence[int],
    latent_shape: tuple[int, int, int],
    timesteps: int,
    rates: DropRates,
    seed: int,
    device: torch.device | str = "cpu",
) -> Draws:
    """The draws of the examples called `numbers`.

    Args:
        latent_shape: channels, height, width.
        timesteps: how many the noise schedule has.
        device: where they are made; an integer hash makes them, so another device gives the same.
    """
    examples = torch.as_tensor(numbers, dtype=torch.long).to(device, non_blocking=True)
    chance, control_chance, moment = uniform(examples, seed, "conditions", 3).unbind(1)
    either = rates.identity + rates.text
    return Draws(
        encoding=_normal(examples, seed, "encoding", latent_shape),
        noise=_normal(examples, seed, "noise", latent_shape),
        timesteps=(moment * timesteps).long(),
        without_identity=(chance < rates.identity) | ((chance >= either) & (chance < either + rates.both)),
        without_text=(chance >= rates.identity) & (chance < either + rates.both),
        without_control=control_chance < rates.control,
    )


def _normal(examples: torch.Tensor, seed: int, purpose: str, shape: tuple[int, int, int]) -> torch.Tensor:
    """Standard normal numbers (b, *shape), by the inverse of their distribution."""
    chance = uniform(examples, seed, purpose, math.prod(shape)).clamp_(FURTHEST, 1 - FURTHEST)
    return torch.special.ndtri(chance).view(-1, *shape)
