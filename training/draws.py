"""Everything random about an example, as a function of the seed and the example's number alone.

Which machine, process or batch an example lands in, and whether the run was stopped on the way, changes none of it. So
resuming needs no state of random generators, and two processes see what one would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

PICTURE, NOISE = 0, 1  # independent streams of one example


@dataclass(frozen=True)
class DropRates:
    """How often a condition is missing, each 0 … 1; guidance needs a model that knows what its absence means."""

    identity: float = 0.05
    text: float = 0.05
    both: float = 0.05
    control: float = 0.05


@dataclass(frozen=True)
class Draws:
    """The random part of a batch of `b` examples; on the processor."""

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
    numbers: Sequence[int], latent_shape: tuple[int, int, int], timesteps: int, rates: DropRates, seed: int
) -> Draws:
    """The draws of the examples called `numbers`.

    Args:
        latent_shape: channels, height, width.
        timesteps: how many the noise schedule has.
    """
    encodings, noises, steps, chances = [], [], [], []
    for number in numbers:
        source = stream(seed, number, NOISE).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(source >> np.uint64(1)))
        encodings.append(torch.randn(latent_shape, generator=generator))
        noises.append(torch.randn(latent_shape, generator=generator))
        steps.append(torch.randint(timesteps, (), generator=generator))
        chances.append(torch.rand(2, generator=generator))
    chance, control_chance = torch.stack(chances).unbind(1)
    either = rates.identity + rates.text
    return Draws(
        encoding=torch.stack(encodings),
        noise=torch.stack(noises),
        timesteps=torch.stack(steps),
        without_identity=(chance < rates.identity) | ((chance >= either) & (chance < either + rates.both)),
        without_text=(chance >= rates.identity) & (chance < either + rates.both),
        without_control=control_chance < rates.control,
    )
