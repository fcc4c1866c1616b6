"""Neck, ears and the head itself, with everything that is skin: cheeks, freckles, lines, moles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_world.canvas import (
    AWAY,
    Canvas,
    as_paint,
    box,
    bump,
    cells,
    circle,
    ellipse,
    joined,
    paint_where,
    rounded,
    smooth_step,
)
from training.face_world.face import Face
from training.face_world.geometry import CHIN_SHIFT, View
from training.face_world.palette import rgb, skin_colour
from training.face_world.scene import Scenes
from training.face_world.traits import EARRINGS, MOLES, choice, value

SKULL_HEIGHT = 1.08  # above the face's centre
TEMPLE = 0.26  # a skull is as wide as this far above its middle
CROWN = 2.4  # how square the crown is; 2 is an ellipse
NECK_WIDTH = 0.40
SHADOW, GLOW = (0.66, 0.54, 0.55), (1.10, 1.08, 1.05)  # what skin is multiplied by away from and towards the light
BLUSH = (1.02, 0.72, 0.70)


@dataclass(frozen=True)
class Light:
    """The light on a person: which way it comes from in head units, and how bright each pixel is, 0 … 1."""

    right: Tensor  # values
    down: Tensor
    strength: Tensor
    head: Tensor  # fields
    body: Tensor


def lit(view: View, scenes: Scenes) -> Light:
    """The light of each scene on a head and a body."""
    strength = scenes.light_strength[:, None, None]
    angle = (scenes.light_angle - scenes.roll)[:, None, None]
    right, down = angle.cos(), angle.sin()
    x, y, z = view.normal
    head = 0.55 + strength * 0.62 * (x * right + (y + 0.1) * down * 0.8) + 0.25 * (z - 0.75)
    body = 0.55 + strength * 0.2 * (view.body_x * right - (0.9 - view.body_y * 0.5) * down * 0.2) - view.body_y * 0.06
    return Light(right, down, strength, head.clamp(0, 1), body.clamp(0, 1))


def skin_of(persons: Tensor) -> Tensor:
    """The colour of each person's skin, (b, 3)."""
    tone, undertone = (value(persons, name)[:, 0, 0] for name in ("skin_tone", "undertone"))
    return skin_colour(tone, undertone)


def shaded(colour: Tensor, light: Tensor, shadow: tuple[float, ...] = SHADOW, glow: tuple[float, ...] = GLOW) -> Tensor:
    """A colour (b, 3) under a field of light, (b, 3, h, w)."""
    dark, bright = (as_paint(colour * rgb(tone, like=colour)) for tone in (shadow, glow))
    return torch.lerp(dark, bright, light[:, None]).clamp(0, 1)


def head_outline(persons: Tensor, view: View) -> Tensor:
    """The head without hair and ears, from crown to chin."""
    width, length = value(persons, "face_width"), value(persons, "face_height")
    below = (view.y / length).clamp(min=0)
    narrowing = 1 - value(persons, "chin") * smooth_step(below, 0.15, 1.0)
    # The chin points where the person looks, and the far cheek falls away.
    x = view.x - CHIN_SHIFT * view.turn.sin_yaw * smooth_step(view.y, -0.9, 0.9)
    far = (x * view.turn.sin_yaw > 0) * view.turn.sin_yaw.abs() * 0.16 * bump(view.y - 0.12, 0.28)
    x = x.abs() / (width * narrowing * (1 - far))
    power = torch.where(view.y < 0, CROWN, value(persons, "jaw"))
    above = (view.y + TEMPLE).clamp(max=0) / (SKULL_HEIGHT - TEMPLE)
    return (rounded(x, torch.where(view.y < 0, above, below), power) - 1) * 0.8


def paint_neck(canvas: Canvas, persons: Tensor, view: View, light: Light) -> None:
    """The neck and what a neckline shows of the chest."""
    neck = box(view.body_x, view.body_y - 0.1, NECK_WIDTH, 0.75, 0.1)
    chest = ellipse(view.body_x, view.body_y - 1.15, 1.15, 0.75)
    canvas.fill(joined(neck, chest, 0.35), shaded(skin_of(persons), light.body - 0.06))
    under_chin = smooth_step(view.y, 1.55, 0.95) * smooth_step(view.body_x.abs(), 0.6, 0.3)
    canvas.shade(under_chin * canvas.coverage(neck) * 0.75, rgb((0.66, 0.55, 0.56), like=persons))


def paint_ears(canvas: Canvas, persons: Tensor, face: Face, view: View, light: Light) -> None:
    """Both ears, behind the head, and what hangs from them."""
    size, width = value(persons, "ear_size"), value(persons, "face_width")
    # Ears sit behind the middle of the head: turning it hides the far one and brings the near one forward.
    middle = -0.30 * view.turn.sin_yaw * width
    x = (view.x - middle).abs() - width * (0.30 + 0.72 * view.turn.cos_yaw)
    y = view.y - (face.eye_v + face.nose_v) / 2
    ear = ellipse(x - 0.25 * y * (y < 0), y, size * 0.55, size)
    canvas.fill(ear, shaded(skin_of(persons), light.head - 0.08))
    inner = ellipse(x - 0.02, y + size * 0.1, size * 0.28, size * 0.62)
    canvas.shade(smooth_step(inner, 0.03, -0.05) * 0.6, rgb((0.72, 0.5, 0.48), like=persons))
    worn = choice(persons, "earring")[:, None, None]
    y = y - size * 1.02
    gold = rgb("#e9b949", like=persons)
    stud = circle(x, y + 0.01, 0.045) + (worn != EARRINGS.index("studs")) * AWAY
    hoop = circle(x, y - 0.12, 0.12).abs() - 0.02 + (worn != EARRINGS.index("hoops")) * AWAY
    canvas.fill(torch.minimum(stud, hoop), shaded(gold.expand(len(persons), 3), 0.4 - y * 3), outline=0.5)


def paint_head(canvas: Canvas, persons: Tensor, view: View, light: Light) -> Tensor:
    """The head in shaded skin; returns its outline."""
    outline = head_outline(persons, view)
    skin = shaded(skin_of(persons), light.head)
    canvas.fill(outline, skin)
    inside = canvas.coverage(outline)
    # Light that comes through at the rim, away from the lamp, keeps the head round.
    rim = smooth_step(outline, -0.16, 0.0) * inside
    canvas.shade(rim * 0.5, rgb((0.80, 0.70, 0.70), like=persons))
    return outline


def paint_skin(canvas: Canvas, persons: Tensor, face: Face, view: View, outline: Tensor) -> None:
    """What lies on the skin, below the features: cheeks, eye sockets, freckles, lines of age, a mole."""
    inside, side = canvas.coverage(outline), view.u.abs()
    blush = bump(torch.hypot(side - face.eye_u * 1.25, (view.v - face.nose_v + 0.04) * 1.2), 0.21)
    canvas.shade(blush * inside * (0.55 + 0.25 * face.smile), rgb(BLUSH, like=persons))
    socket = bump(torch.hypot(side - face.eye_u * 0.93, (view.v - face.eye_v + 0.05) * 1.25), face.eye_size * 1.25)
    canvas.shade(socket * 0.34, rgb((0.74, 0.58, 0.58), like=persons))
    chin = bump(torch.hypot(view.u, (view.v - face.mouth_v - face.gape - 0.15) * 2.2), 0.16)
    canvas.shade(chin * 0.30, rgb((0.78, 0.64, 0.62), like=persons))
    paint_where(canvas, value(persons, "freckles")[:, 0, 0] > 0, _freckles, persons, face, view)
    lined = (value(persons, "age_lines") > 0) | (face.smile > 0.3)
    paint_where(canvas, lined[:, 0, 0], _lines, persons, face, view, inside)
    paint_where(canvas, choice(persons, "mole") > 0, _mole, persons, face, view)


def _freckles(canvas: Canvas, persons: Tensor, face: Face, view: View) -> None:
    amount = value(persons, "freckles")
    phase = persons[:, :1, None] + persons[:, 1:2, None]
    x, y, number = cells(view.u / 0.062, view.v / 0.062, phase)
    dot = torch.hypot(x - (number - 0.5) * 0.62, y - (number * 7 % 1 - 0.5) * 0.62) - 0.10 - 0.12 * number
    across = bump(view.v - (face.eye_v * 0.3 + face.nose_v * 0.7), 0.17) * smooth_step(view.u.abs(), 0.66, 0.3)
    dots = (0.5 - dot / (canvas.pixel / 0.062).clamp(min=0.25)).clamp(0, 1)
    kept = smooth_step(number * 0.9, across * 1.1, across * 1.1 - 0.2)
    canvas.shade(dots * kept * (amount * 1.4).clamp(max=0.8), rgb((0.68, 0.46, 0.34), like=persons))


def _lines(canvas: Canvas, persons: Tensor, face: Face, view: View, inside: Tensor) -> None:
    depth, side = value(persons, "age_lines").clamp(min=0), view.u.abs()
    breadth = 0.016 + canvas.pixel * 0.3
    forehead = view.v - face.brow_v + 0.20 + 0.05 * bump(view.u, 0.3)
    wave = forehead - (forehead / 0.095).round().clamp(-1, 1) * 0.095  # three furrows
    brow = bump(wave, breadth) * smooth_step(side, 0.5, 0.25)
    # From the wings of the nose around the corners of the mouth; deeper with a smile.
    start = value(persons, "nose_width") + 0.05
    along = ((view.v - face.nose_v + 0.04) / (face.corner_v - face.nose_v + 0.12)).clamp(0, 1)
    fold = bump(side - start - (face.mouth_width + 0.07 - start) * along.sqrt(), breadth)
    fold = fold * bump(along - 0.5, 0.42)
    bags = bump(view.v - face.eye_v - 0.15 + 0.09 * ((side - face.eye_u) / 0.15) ** 2, breadth) * bump(
        side - face.eye_u, 0.14
    )
    crow = face.eye_u + face.eye_size
    feet = bump((view.v - face.eye_v).abs() - (side - crow) * 0.55, breadth) * bump(side - crow - 0.10, 0.06)
    lines = torch.maximum(torch.maximum(brow, fold), torch.maximum(bags * 0.8, feet))
    strength = torch.maximum(depth, fold * (face.smile.clamp(min=0) * 0.35))
    canvas.shade(lines * inside * strength * 0.85, rgb((0.62, 0.46, 0.44), like=persons))
    canvas.draw((0.5 - lines * inside) * canvas.pixel, (depth > 0.35) * 0.5)


def _mole(canvas: Canvas, persons: Tensor, face: Face, view: View) -> None:
    cheek, aside = (face.nose_v + face.eye_v) / 2 + 0.16, torch.full_like(face.eye_u, 0.15)
    places = {
        "left cheek": (-face.eye_u * 1.2, cheek),
        "right cheek": (face.eye_u * 1.2, cheek),
        "above the lip": (aside, (face.nose_v + face.mouth_v) / 2 + 0.02),
        "chin": (-aside, face.mouth_v + 0.24),
    }
    where = choice(persons, "mole") - 1, torch.arange(len(persons), device=persons.device)
    u, v = (torch.stack([places[name][axis] for name in MOLES[1:]])[where] for axis in (0, 1))
    brown = skin_of(persons) * rgb((0.38, 0.27, 0.24), like=persons)
    canvas.fill(circle(view.u - u, view.v - v, 0.030), brown, outline=0.7)


def hair_shadow(canvas: Canvas, persons: Tensor, hair: Tensor, outline: Tensor) -> None:
    """The shadow that hair throws on the skin next to it."""
    near = smooth_step(hair, 0.13, 0.0) * canvas.coverage(outline)
    canvas.shade(near * 0.45, rgb((0.62, 0.48, 0.48), like=persons))
