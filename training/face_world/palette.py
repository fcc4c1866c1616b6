"""The colours of the face world, red green blue 0 … 1, and how to pick from them for a whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from training.face_world.constants import constant

SKIN = ("#fbe0d0", "#f4ccb2", "#e6b491", "#cf9871", "#ae7653", "#8a5a3f", "#65402d")
ROSY, GOLDEN = (1.02, 0.96, 0.97), (0.99, 1.0, 0.90)
HAIR = (
    "#16110f",
    "#241a16",
    "#3d2a20",
    "#5c3d28",
    "#7d5433",
    "#b0562a",
    "#a9814a",
    "#dcb970",
    "#ecd398",
    "#8f8b88",
    "#dedbd6",
)
EYES = ("#2c180d", "#5b3517", "#8a6a2b", "#5d7d3a", "#3f8a6b", "#3b78b5", "#6fa5c9", "#7d8790")
# What clothes and other things can be coloured with.
COLOURS = {
    "red": "#c8322f",
    "orange": "#e8802a",
    "yellow": "#edc23c",
    "green": "#3f8f4f",
    "teal": "#1f8a8c",
    "blue": "#2f5fb3",
    "purple": "#7447a3",
    "pink": "#e27fa4",
    "white": "#f1eee8",
    "grey": "#858b93",
    "black": "#2a2a30",
    "brown": "#7a5236",
}
DYES = {
    "natural": "#000000",
    "pink": "#f27fb2",
    "blue": "#3a6fd0",
    "green": "#3fa869",
    "purple": "#8a4fc4",
    "red": "#d3262b",
    "silver": "#c9d0d8",
}


def rgb(*colours: str | tuple[float, float, float], like: Tensor) -> Tensor:
    """Colours such as "#fbdcc6" as numbers on the device of `like`: (3,) for one, (n, 3) for several."""
    table = constant(tuple(map(_numbers, colours)), like.device)
    return table[0] if len(colours) == 1 else table


def _numbers(colour: str | tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)) if isinstance(colour, str) else colour


def along(colours: tuple[str, ...], place: Tensor) -> Tensor:
    """The colour at `place` (b,), 0 … 1, of a row of colours with soft steps between them, (b, 3)."""
    table = rgb(*colours, like=place)
    place = place * (len(colours) - 1)
    left = place.floor().clamp(0, len(colours) - 2).long()
    return torch.lerp(table[left], table[left + 1], (place - left)[:, None])


def skin_colour(tone: Tensor, undertone: Tensor) -> Tensor:
    """Skin (b, 3) for `tone` and `undertone`, each (b,) in 0 … 1."""
    glaze = torch.lerp(rgb(ROSY, like=tone), rgb(GOLDEN, like=tone), undertone[:, None])
    return (along(SKIN, tone) * glaze).clamp(0, 1)
