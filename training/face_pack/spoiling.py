"""What happens to pictures before a model sees them: other colours, softness, noise, compression.

Models that only ever saw clean renders would take the marks of an image generator for features of a face.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.face_pack.dice import Dice
from training.face_world.constants import constant

LUMA = (0.299, 0.587, 0.114)
BLOCK = 8  # JPEG's
CLEAN = 0.3  # share of the pictures that nothing happens to


def spoiled(pictures: Tensor, dice: Dice, colours: float) -> Tensor:
    """Pictures (b, 3, h, w) in 0 … 1, sides multiples of 8; `colours`, 0 … 1, is how much theirs change.

    A share of them stays as it is: that is what people give.
    """
    changed = recoloured(pictures, dice, colours)
    changed = compressed(noisy(softened(changed, dice), dice), dice).clamp(0, 1)
    return torch.where(dice.uniform(len(pictures), 1, 1, 1) < CLEAN, pictures, changed)


def recoloured(pictures: Tensor, dice: Dice, strength: float) -> Tensor:
    """Brightness, contrast, saturation and a cast."""
    b = len(pictures)
    grey = (pictures * constant(LUMA, pictures.device)[:, None, None]).sum(1, keepdim=True)
    saturation = 1 + strength * 0.5 * dice.uniform(b, 1, 1, 1, least=-1)
    contrast = 1 + strength * 0.25 * dice.uniform(b, 1, 1, 1, least=-1)
    shift = strength * (0.10 * dice.uniform(b, 1, 1, 1, least=-1) + 0.04 * dice.normal(b, 3, 1, 1))
    return (grey + (pictures - grey) * saturation - 0.5) * contrast + 0.5 + shift


def softened(pictures: Tensor, dice: Dice) -> Tensor:
    """Some as if out of focus, a few as if enlarged from half the size."""
    b = len(pictures)
    near = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pictures = torch.lerp(pictures, near, dice.seldom(0.5, b, 1, 1, 1))
    small = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="bilinear")
    return torch.lerp(pictures, small, dice.seldom(0.25, b, 1, 1, 1))


def noisy(pictures: Tensor, dice: Dice) -> Tensor:
    """Grain, and blotches eight pixels wide such as a decoder leaves."""
    b, c, h, w = pictures.shape
    grain = dice.normal(b, c, h, w) * (0.06 * dice.seldom(0.5, b, 1, 1, 1))
    blotches = F.interpolate(dice.normal(b, c, h // BLOCK, w // BLOCK), (h, w), mode="bilinear")
    return pictures + grain + blotches * (0.06 * dice.seldom(0.4, b, 1, 1, 1))


def compressed(pictures: Tensor, dice: Dice) -> Tensor:
    """The last third as if out of a JPEG file: each 8×8 block's waves rounded, short ones more than long ones."""
    kept, last = pictures.split([len(pictures) - len(pictures) // 3, len(pictures) // 3])
    b, c, h, w = last.shape
    if b == 0:
        return pictures
    waves = _cosines(pictures.device)
    blocks = last.view(b, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK).transpose(3, 4)
    spectrum = waves @ blocks @ waves.T
    order = torch.arange(BLOCK, device=pictures.device)
    steps = (0.02 + 0.03 * (order[:, None] + order)) * dice.uniform(b, 1, 1, 1, 1, 1, least=0.1, most=1.5)
    blocks = waves.T @ ((spectrum / steps).round() * steps) @ waves
    return torch.cat([kept, blocks.transpose(3, 4).reshape(b, c, h, w)])


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 values, (8, 8)."""
    order = torch.arange(BLOCK, device=device, dtype=torch.float32)
    waves = torch.cos(math.pi / BLOCK * (order + 0.5) * order[:, None]) * (2 / BLOCK) ** 0.5
    waves[0] *= 0.5**0.5
    return waves
