"""The plan of a face: where its features are for a person and an expression, before anything is drawn."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from training.face_world.constants import constant
from training.face_world.geometry import NOSE_HEIGHT, Turn, in_pixels
from training.face_world.scene import EXPRESSIONS, Scenes
from training.face_world.traits import value


@dataclass(frozen=True)
class Expression:
    """What an expression does to the features."""

    smile: float = 0.06  # how far the corners of the mouth rise; -1 … 1
    widen: float = 0.0  # of the mouth, as a share of its width
    gape: float = 0.0  # how far the mouth is open, head units
    teeth: float = 0.0  # share of the opening that they fill
    brows: float = 0.0  # how far they rise, head units
    frown: float = 0.0  # how far their inner ends sink (or rise), head units
    left_eye: float = 1.0  # how far it is open; left in the picture
    right_eye: float = 1.0
    squint: float = 0.0  # how far the lower lids rise, 0 … 1


NEUTRAL = Expression()
LOOKS: dict[str, Expression] = {
    "neutral": NEUTRAL,
    "smiling": Expression(
        smile=0.85, widen=0.18, gape=0.06, teeth=1.0, brows=0.01, left_eye=0.9, right_eye=0.9, squint=0.35
    ),
    "laughing": Expression(
        smile=1.0, widen=0.26, gape=0.20, teeth=0.36, brows=0.04, left_eye=0.36, right_eye=0.36, squint=1.0
    ),
    "surprised": Expression(smile=0.0, widen=-0.34, gape=0.21, brows=0.10, frown=-0.01, left_eye=1.32, right_eye=1.32),
    "sad": Expression(smile=-0.75, widen=-0.08, brows=0.015, frown=-0.085, left_eye=0.72, right_eye=0.72),
    "angry": Expression(
        smile=-0.5,
        widen=-0.02,
        gape=0.03,
        teeth=1.0,
        brows=-0.035,
        frown=0.095,
        left_eye=0.8,
        right_eye=0.8,
        squint=0.5,
    ),
    "winking": Expression(smile=0.75, widen=0.12, brows=0.01, left_eye=1.0, right_eye=0.0, squint=0.15),
}
MOUTH_CURVE = 0.13  # how far the corners rise at smile 1, head units


@dataclass(frozen=True)
class Face:
    """Places on the face, all values (b, 1, 1) in head units (u right, v down, as seen from the front)."""

    eye_u: Tensor  # of the right eye in the picture; the left one mirrors it
    eye_v: Tensor
    eye_size: Tensor  # half the width
    left_eye: Tensor  # how far open
    right_eye: Tensor
    squint: Tensor
    brow_v: Tensor
    frown: Tensor
    nose_v: Tensor  # the tip
    mouth_v: Tensor  # where the lips meet, in the middle
    mouth_width: Tensor  # half of it
    smile: Tensor
    gape: Tensor
    teeth: Tensor

    @property
    def corner_v(self) -> Tensor:
        """Height of the corners of the mouth."""
        return self.mouth_v - self.smile * MOUTH_CURVE * 0.6

    def lips_meet(self, t: Tensor) -> Tensor:
        """The lower edge of the upper lip at `t`, -1 … 1 from corner to corner."""
        return self.mouth_v + self.smile * MOUTH_CURVE * (0.4 - t * t)


def planned(persons: Tensor, scenes: Scenes) -> Face:
    """Where the features are."""
    names = tuple(Expression.__dataclass_fields__)
    numbers = constant(tuple(astuple(LOOKS[look]) for look in EXPRESSIONS), persons.device)
    numbers = torch.lerp(numbers[0], numbers[scenes.expression], scenes.intensity[:, None])
    look = {name: numbers[:, i, None, None] for i, name in enumerate(names)}
    length = value(persons, "face_height")
    eye_v = value(persons, "eye_height")
    nose_v = eye_v + value(persons, "nose_length") * length
    return Face(
        eye_u=value(persons, "eye_spacing"),
        eye_v=eye_v,
        eye_size=value(persons, "eye_size"),
        left_eye=look["left_eye"],
        right_eye=look["right_eye"],
        squint=look["squint"],
        brow_v=eye_v - value(persons, "brow_height") - look["brows"],
        frown=look["frown"],
        nose_v=nose_v,
        mouth_v=nose_v + value(persons, "mouth_height") * length - look["gape"] * 0.12,
        mouth_width=value(persons, "mouth_width") * (1 + look["widen"]),
        smile=look["smile"],
        gape=look["gape"],
        teeth=look["teeth"],
    )


def key_points(face: Face, turn: Turn, scenes: Scenes, size: int) -> Tensor:
    """Eyes, tip of the nose and corners of the mouth in pixels, (b, 5, 2), left in the picture first."""
    middle = torch.zeros_like(face.eye_u)
    points = [
        turn.shown(-face.eye_u, face.eye_v),
        turn.shown(face.eye_u, face.eye_v),
        turn.shown(middle, face.nose_v, NOSE_HEIGHT),
        turn.shown(-face.mouth_width, face.corner_v),
        turn.shown(face.mouth_width, face.corner_v),
    ]
    return in_pixels(points, scenes, size)
