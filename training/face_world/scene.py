"""Everything in a picture that is not the person: pose, expression, light, style, place, clothes.

A scene is drawn from a number, as a person is. Lengths are shares of the picture's side, angles radians.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from instantid.messages import user_error
from training.face_world.chance import as_indices, uniform
from training.face_world.palette import COLOURS, DYES

EXPRESSIONS = ("neutral", "smiling", "laughing", "surprised", "sad", "angry", "winking")
STYLES = (
    "photo",
    "watercolour",
    "ink",
    "comic",
    "neon",
    "film noir",
    "pencil",
    "pixel art",
    "oil painting",
    "old photograph",
)
BACKGROUNDS = (
    "studio",
    "beach",
    "forest",
    "city",
    "snow",
    "desert",
    "library",
    "space",
    "garden",
    "rain",
    "mountains",
    "underwater",
)
CLOTHES = ("t-shirt", "striped shirt", "turtleneck", "hoodie", "suit", "v-neck jumper", "denim jacket")
ACCESSORIES = ("nothing", "beanie", "straw hat", "flower crown", "headphones", "scarf")
COLOUR_NAMES = tuple(COLOURS)
DYE_NAMES = tuple(DYES)

LEAST_SCALE, MOST_SCALE = 0.25, 0.8
MOST_ROLL, MOST_YAW, MOST_PITCH = math.radians(25), math.radians(35), math.radians(12)
MARGIN = 0.02  # kept free around a face
PLAIN_HAIR, PLAIN_HEAD = 0.72, 0.6  # shares of scenes without dyed hair, without an accessory

# Field -> least and most value. A face much larger or smaller than the picture cannot be drawn sharply.
RANGES: dict[str, tuple[float, float]] = {
    "centre": (-0.5, 1.5),
    "scale": (0.05, 2.0),
    "roll": (-math.pi, math.pi),
    "yaw": (-MOST_YAW, MOST_YAW),
    "pitch": (-MOST_PITCH, MOST_PITCH),
    "intensity": (0.0, 1.0),
    "light_angle": (-math.pi, math.pi),
    "light_strength": (0.0, 1.0),
    "warmth": (-1.0, 1.0),
    "gaze": (-1.0, 1.0),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "expression": EXPRESSIONS,
    "style": STYLES,
    "background": BACKGROUNDS,
    "clothes": CLOTHES,
    "clothes_colour": COLOUR_NAMES,
    "accessory": ACCESSORIES,
    "accessory_colour": COLOUR_NAMES,
    "hair_dye": DYE_NAMES,
}


@dataclass(frozen=True)
class Scenes:
    """b scenes; every field is a tensor whose first axis is b. Index it as a tensor: `scenes[3:5]`, `scenes[mask]`."""

    centre: Tensor  # (b, 2) middle of the face, x and y
    scale: Tensor  # (b,) height of the face from chin to hairline
    roll: Tensor  # (b,) clockwise
    yaw: Tensor  # (b,) positive: the person looks to the right of the picture
    pitch: Tensor  # (b,) positive: the person looks down
    expression: Tensor  # (b,) index into EXPRESSIONS; so are those below into their tables
    intensity: Tensor  # (b,) of the expression, 0 … 1
    gaze: Tensor  # (b,) where the eyes look, -1 left … 1 right
    light_angle: Tensor  # (b,) where the light comes from: 0 right, -pi/2 above
    light_strength: Tensor  # (b,) 0 flat … 1 hard
    warmth: Tensor  # (b,) -1 blue … 1 golden
    style: Tensor
    background: Tensor
    clothes: Tensor
    clothes_colour: Tensor
    accessory: Tensor
    accessory_colour: Tensor
    hair_dye: Tensor  # index into DYE_NAMES; 0 is the person's own colour
    texture: Tensor  # (b,) the number that clouds, trees and paper grain are drawn from

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, rows: int | slice | Tensor | Sequence[int]) -> Scenes:
        """The scenes of these rows; a single number gives a batch of one."""
        if isinstance(rows, int):
            rows = [rows]
        return Scenes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def to(self, device: torch.device | str) -> Scenes:
        """The same scenes on another device."""
        return Scenes(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def checked(self) -> Scenes:
        """These scenes. Raises: UserError naming the first field that is out of its range."""
        for name, (least, most) in RANGES.items():
            field = getattr(self, name)
            outside = ~((field >= least) & (field <= most))  # nan is outside too
            if outside.any():
                raise user_error("face_world.range", field=name, value=float(field[outside][0]), least=least, most=most)
        for name, names in CHOICES.items():
            field = getattr(self, name)
            outside = (field < 0) | (field >= len(names))
            if outside.any():
                wrong, known = int(field[outside][0]), ", ".join(names)
                raise user_error("face_world.choice", field=name, value=wrong, most=len(names) - 1, names=known)
        return self


def scenes(indices: Iterable[int] | Tensor, seed: int = 0) -> Scenes:
    """The scenes of these numbers. The face lies wholly in the picture, more often of middle size than large.

    Args: indices: b whole numbers, 0 … 2**40 - 1; seed: another seed gives other scenes.
    Raises: UserError for indices that are none.
    """
    indices = as_indices(indices)
    chance = iter(uniform(indices, seed, "scenes", 32).unbind(1))

    def between(least: float, most: float) -> Tensor:
        return least + (most - least) * next(chance)

    def about_zero(most: float) -> Tensor:
        """Small values more often than large ones."""
        return (between(-1, 1) + between(-1, 1)) / 2 * most

    def one_of(names: tuple[str, ...]) -> Tensor:
        return (next(chance) * len(names)).long()

    def seldom(names: tuple[str, ...], plain: float) -> Tensor:
        """The first name for the share `plain` of scenes, else one of the others."""
        place = (next(chance) - plain) / (1 - plain)
        return torch.where(place < 0, 0, 1 + (place.clamp(min=0) * (len(names) - 1)).long())

    scale = LEAST_SCALE + (MOST_SCALE - LEAST_SCALE) * next(chance) ** 1.4
    room = (0.5 - scale / 2 - MARGIN).clamp(min=0)  # how far the middle of the face can move
    x = 0.5 + about_zero(1.0) * room
    y = 0.5 + (0.10 * (1 - scale) + about_zero(0.6) * room).clamp(-room, room)
    return Scenes(
        centre=torch.stack([x, y], 1),
        scale=scale,
        roll=about_zero(MOST_ROLL),
        yaw=about_zero(MOST_YAW * 1.3).clamp(-MOST_YAW, MOST_YAW),
        pitch=about_zero(MOST_PITCH),
        expression=one_of(EXPRESSIONS),
        intensity=between(0.7, 1.0),
        gaze=about_zero(0.8),
        light_angle=between(-math.pi, 0.0),
        light_strength=between(0.15, 1.0),
        warmth=between(-1.0, 1.0),
        style=one_of(STYLES),
        background=one_of(BACKGROUNDS),
        clothes=one_of(CLOTHES),
        clothes_colour=one_of(COLOUR_NAMES),
        accessory=seldom(ACCESSORIES, PLAIN_HEAD),
        accessory_colour=one_of(COLOUR_NAMES),
        hair_dye=seldom(DYE_NAMES, PLAIN_HAIR),
        texture=(next(chance) * 2**24).long(),
    )
