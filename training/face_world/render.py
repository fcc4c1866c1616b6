"""From people and scenes to pictures: the layers in their order, from back to front."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from instantid.messages import user_error
from training.face_world.accessories import paint_accessories, paint_glasses
from training.face_world.backgrounds import backgrounds
from training.face_world.canvas import Canvas, as_paint
from training.face_world.clothes import paint_clothes
from training.face_world.face import key_points, planned
from training.face_world.features import paint_brows, paint_eyes, paint_mouth, paint_nose
from training.face_world.geometry import face_box, pixel_middles, view
from training.face_world.hair import combed, paint_back_hair, paint_beard, paint_front_hair
from training.face_world.head import lit, paint_ears, paint_head, paint_neck, paint_skin
from training.face_world.palette import rgb
from training.face_world.scene import Scenes
from training.face_world.styles import styled
from training.face_world.traits import check_people

LEAST_SIZE, MOST_SIZE = 64, 2048
PIXELS_AT_ONCE = {"cpu": 2**18, "cuda": 2**24}  # so many stay in the cache of a processor, or fill a card
PEN = 0.0042  # half the width of a contour, as a share of the picture's side, for a face of middle size
GOLDEN_LIGHT, BLUE_LIGHT = (1.10, 1.0, 0.84), (0.88, 0.97, 1.12)


@dataclass(frozen=True)
class Rendering:
    """b pictures and where the faces in them are; pixels count from the upper left corner of the picture."""

    picture: Tensor  # (b, 3, size, size), 0 … 1
    key_points: Tensor  # (b, 5, 2) eyes, tip of the nose, corners of the mouth, left in the picture first
    box: Tensor  # (b, 4) x0 y0 x1 y1, chin to hairline, cut at the picture


@torch.no_grad()
def render(persons: Tensor, scenes: Scenes, size: int) -> Rendering:
    """Draws person i in scene i.

    Args:
        persons: (b, T), from `people`; the pictures are drawn on its device.
        scenes: b scenes on the same device.
        size: side of the square pictures in pixels, 64 … 2048.
    Raises: UserError for people or scenes out of range, different numbers of both, or an unusable size.
    """
    check_people(persons)
    if not isinstance(size, int) or not LEAST_SIZE <= size <= MOST_SIZE:
        raise user_error("face_world.size", size=size, least=LEAST_SIZE, most=MOST_SIZE)
    if len(persons) != len(scenes):
        raise user_error("face_world.counts", persons=len(persons), scenes=len(scenes))
    scenes = scenes.checked()
    at_once = max(PIXELS_AT_ONCE.get(persons.device.type, 2**18) // size**2, 1)
    parts = [
        _drawn(persons[start : start + at_once], scenes[start : start + at_once], size)
        for start in range(0, len(persons), at_once)
    ]
    return Rendering(*(torch.cat([getattr(part, name) for part in parts]) for name in ("picture", "key_points", "box")))


def _drawn(persons: Tensor, scenes: Scenes, size: int) -> Rendering:
    seen = view(persons, scenes, size)
    face = planned(persons, scenes)
    light = lit(seen, scenes)
    hair = combed(persons, scenes, seen)
    pen = PEN * size * seen.pixel * (0.55 + 0.9 * scenes.scale[:, None, None])
    across = pixel_middles(size, persons.device) * 2 - 1
    x, y = across.expand(1, size, size), across[:, None].expand(1, size, size)
    canvas = Canvas(backgrounds(scenes, x, y), seen.pixel, pen)

    paint_back_hair(canvas, hair, seen, light)
    paint_neck(canvas, persons, seen, light)
    paint_clothes(canvas, scenes, seen, light)
    paint_ears(canvas, persons, face, seen, light)
    outline = paint_head(canvas, persons, seen, light)
    paint_skin(canvas, persons, face, seen, outline)
    paint_beard(canvas, persons, face, seen, hair, outline)
    paint_mouth(canvas, persons, face, seen)
    paint_nose(canvas, persons, face, seen, light)
    paint_eyes(canvas, persons, scenes, face, seen)
    paint_front_hair(canvas, persons, hair, seen, light, outline)
    paint_brows(canvas, persons, face, seen, hair.own_colour)
    paint_glasses(canvas, persons, face, seen)
    paint_accessories(canvas, persons, scenes, seen, light)
    _grade(canvas, scenes)
    picture = styled(canvas.picture, canvas.lines, canvas.subject, scenes, x, y)
    return Rendering(picture, key_points(face, seen.turn, scenes, size), face_box(persons, scenes, size))


def _grade(canvas: Canvas, scenes: Scenes) -> None:
    """The warmth of the light on everything."""
    warmth = scenes.warmth[:, None]
    tone = torch.where(warmth > 0, rgb(GOLDEN_LIGHT, like=warmth), rgb(BLUE_LIGHT, like=warmth))
    canvas.picture.mul_(as_paint(1 + (tone - 1) * warmth.abs())).clamp_(0, 1)
