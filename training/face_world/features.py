"""Eyes, brows, nose and mouth. Pairs are drawn as one shape in mirrored coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_world.canvas import Canvas, both, bump, circle, ellipse, paint_where, smooth_step
from training.face_world.face import Face
from training.face_world.geometry import NOSE_HEIGHT, View
from training.face_world.head import Light, shaded, skin_of
from training.face_world.palette import EYES, along, rgb
from training.face_world.scene import Scenes
from training.face_world.traits import value


@dataclass(frozen=True)
class Eye:
    """Both eyes at once, in units of half an eye's width about its middle; x grows outwards, y down. All (b, h, w)."""

    x: Tensor
    y: Tensor
    size: Tensor  # (b, 1, 1) of a unit, in head units
    outwards: Tensor  # 1 in the right half of the picture, -1 in the left
    opened: Tensor
    upper: Tensor  # heights of the lids
    lower: Tensor
    gap: Tensor  # the shape between the lids


def paint_eyes(canvas: Canvas, persons: Tensor, scenes: Scenes, face: Face, view: View) -> None:
    """White, iris, pupil, highlights, lids and lashes."""
    eye = _eye(persons, face, view)
    _paint_ball(canvas, eye, along(EYES, value(persons, "eye_colour")[:, 0, 0]), scenes.gaze[:, None, None])
    _paint_lids(canvas, eye)


def _eye(persons: Tensor, face: Face, view: View) -> Eye:
    size, tilt = face.eye_size, value(persons, "eye_tilt")
    right = view.u > 0
    opened = torch.where(right, face.right_eye, face.left_eye)
    x, y = (view.u.abs() - face.eye_u) / size, (view.v - face.eye_v) / size
    x, y = x * tilt.cos() - y * tilt.sin(), y * tilt.cos() + x * tilt.sin()
    arch = (1 - x * x).clamp_(min=-2)
    skewed = (arch * (1 - 0.18 * x)).clamp_(min=0)  # the highest point lies towards the nose
    upper = 0.14 - (0.14 + 0.62 * opened) * skewed
    lower = 0.14 + (0.36 - 0.30 * face.squint) * arch * opened.clamp(0.0, 1.1)
    closed = smooth_step(opened, 0.25, 0.0)
    upper = torch.lerp(upper, 0.15 - 0.34 * arch * (0.3 + face.smile.clamp(min=0)), closed)
    lower = torch.lerp(lower, upper, closed)
    gap = both(upper - y, y - lower, x.abs() * 2 - 2.04)
    return Eye(x, y, size, torch.where(right, 1.0, -1.0), opened, upper, lower, gap)


def _paint_ball(canvas: Canvas, eye: Eye, colour: Tensor, gaze: Tensor) -> None:
    inside = canvas.coverage(eye.gap * eye.size)
    canvas.tint(inside, rgb("#fbf7f2", like=colour))
    x, y = eye.x - gaze * eye.outwards * 0.24, eye.y + 0.06
    across = torch.hypot(x, y)
    iris = canvas.coverage((across - 0.52) * eye.size) * inside
    glow = (smooth_step(y, -0.45, 0.5) * 0.75 + 0.25) * smooth_step(across, 0.60, 0.40)
    canvas.tint(iris, shaded(colour, glow, (0.38, 0.38, 0.40), (1.32, 1.30, 1.25)))
    pupil = (across - 0.24) * eye.size
    canvas.tint(canvas.coverage(pupil) * inside, rgb("#120d0c", like=colour))
    canvas.shade(smooth_step(eye.y - eye.upper, 0.30, 0.0) * inside * 0.5, rgb((0.55, 0.50, 0.56), like=colour))
    lamp = eye.outwards * -0.16
    spark = torch.minimum(circle(x - lamp, y + 0.18, 0.145), circle(x + lamp, y - 0.2, 0.07))
    canvas.tint(canvas.coverage(spark * eye.size) * inside * 0.95, rgb((1.0, 1.0, 1.0), like=colour))
    canvas.draw(both(pupil, eye.gap * eye.size))
    canvas.draw(both((across - 0.5).abs() - 0.05, eye.gap) * eye.size, 0.8)


def _paint_lids(canvas: Canvas, eye: Eye) -> None:
    x, y, breadth = eye.x, eye.y, 0.4 * canvas.pixel / eye.size
    lashes = 0.055 + 0.09 * (eye.size - 0.14) / 0.08  # large eyes have long ones
    wing = smooth_step(x, 0.2, 1.2) * lashes * 2.2
    thick = 0.045 + lashes * (0.55 + 0.45 * smooth_step(x, -0.9, 0.7)) * smooth_step(x.abs(), 1.2, 0.5)
    lid = both((y - eye.upper + wing * 0.45).abs() - thick - wing * 0.18, x.abs() - 1.06 - wing * 0.5) * eye.size
    canvas.tint(canvas.coverage(lid), rgb("#231712", like=x))
    canvas.draw(lid, 0.95)
    below = bump(y - eye.lower - 0.03, 0.05 + breadth) * smooth_step(x.abs(), 1.05, 0.7)
    crease = bump(y - eye.upper + 0.24, 0.07 + breadth) * smooth_step(x.abs(), 1.1, 0.7) * eye.opened.clamp(0, 1)
    canvas.shade(torch.maximum(below * 0.55, crease * 0.7), rgb((0.52, 0.36, 0.34), like=x))


def paint_brows(canvas: Canvas, persons: Tensor, face: Face, view: View, hair: Tensor) -> None:
    """Two tapered strokes of the hair's colour (b, 3)."""
    length = face.eye_size * 1.35
    x = (view.u.abs() - face.eye_u * 1.02) / length  # -1 inner end … 1 outer end
    arch = value(persons, "brow_arch")
    curve = face.brow_v + arch * ((x - 0.25) ** 2 - 0.5) - face.frown * x.clamp(-1, 1) + 0.03 * x.clamp(min=0) ** 2
    tapered = (1 - 0.75 * smooth_step(x, 0.1, 1.05)) * (1 - 0.35 * smooth_step(x, -0.6, -1.0))
    thick = value(persons, "brow_thickness") * tapered
    brow = torch.maximum((view.v - curve).abs() - thick, (x.abs() - 1) * length)
    colour = torch.lerp(hair, rgb("#3a2a22", like=hair), 0.25) * value(persons, "brow_colour")[:, 0]
    canvas.fill(brow, colour.clamp(0, 1), 0.94, outline=0.0)
    canvas.draw(brow, 0.85)


def paint_nose(canvas: Canvas, persons: Tensor, face: Face, view: View, light: Light) -> None:
    """Soft planes, nostrils and a highlight, along a ridge that leans with the turn of the head."""
    zero = torch.zeros_like(face.eye_u)
    tip_x, tip_y = view.turn.shown(zero, face.nose_v, NOSE_HEIGHT)
    root_x, root_y = view.turn.shown(zero, face.eye_v - 0.04, 0.05)
    along_ridge = (view.y - root_y) / (tip_y - root_y)  # 0 at the eyes, 1 at the tip
    width = value(persons, "nose_width") * (0.4 + 0.6 * view.turn.cos_yaw)
    x = (view.x - torch.lerp(root_x, tip_x, along_ridge.clamp(-0.2, 1.15))) / width
    y = view.y - tip_y
    skin = skin_of(persons)
    flank = smooth_step(along_ridge, 0.05, 0.7) * smooth_step(y, 0.12, 0.0)
    away = -torch.where(light.right.abs() > 0.25, light.right.sign(), 1.0)
    shadow = bump(x * away - 0.75, 0.42) * flank * (0.30 + 0.30 * light.strength)
    shadow = shadow + bump(x * away + 0.8, 0.35) * flank * 0.16
    wings = bump((x.abs() - 0.98) * 1.3, 0.32) * bump(y, 0.085) * 0.55
    under = bump(x, 0.95) * bump(y - 0.085, 0.045) * 0.75
    canvas.shade(torch.maximum(shadow, torch.maximum(wings, under)), rgb((0.58, 0.40, 0.38), like=skin))
    nostrils = ellipse((x.abs() - 0.52) * width, y - 0.062 - 0.02 * x.abs(), width * 0.27, 0.024)
    canvas.fill(nostrils, skin * rgb((0.30, 0.18, 0.17), like=skin), 0.8, outline=0.0)
    shine = bump(torch.hypot(x * width, (y + 0.035) * 1.1), width * 0.5) * 0.30 + bump(x, 0.3) * flank * 0.12
    canvas.tint(shine, torch.lerp(skin, torch.ones_like(skin), 0.6))
    rounding = both((torch.hypot(x * width, (y - 0.005) * 1.25) - width * 1.02).abs() - canvas.pen * 0.8, 0.035 - y)
    side = both((x * away - 0.72).abs() * width - canvas.pen * 0.6, y + 0.02, 0.42 - along_ridge)
    canvas.draw(torch.minimum(rounding, nostrils), 0.9)
    canvas.draw(side, 0.55)


def paint_mouth(canvas: Canvas, persons: Tensor, face: Face, view: View) -> None:
    """Lips, and inside an open mouth teeth and tongue."""
    t, v = view.u / face.mouth_width, view.v
    full, bow = value(persons, "lip_fullness"), (1 - t * t).clamp_(min=0)
    arc = bow.sqrt() * (0.55 + 0.45 * bow)
    # A smile opens downwards only; a mouth open in surprise is round.
    smiling, oval = face.smile.clamp(0, 1), bow.sqrt()
    upper = face.lips_meet(t) - face.gape * 0.42 * (1 - smiling) * oval
    lower = face.lips_meet(t) + face.gape * torch.lerp(oval, arc, smiling)
    top = upper - full * 0.85 * arc * (1 - 0.28 * bump(t, 0.16)) - 0.004
    bottom = lower + full * 1.2 * bow**0.7 + 0.004
    ends = (t.abs() - 1) * face.mouth_width
    skin = skin_of(persons)
    rosy = torch.lerp(skin * rgb((0.86, 0.56, 0.56), like=skin), rgb("#c4484f", like=skin), 0.12 + full[:, 0] * 4)
    glow = smooth_step(v, upper - full, upper + full * 0.4)
    canvas.fill(both(top - v, v - bottom, ends), shaded(rosy, glow, (0.74, 0.70, 0.72)), 0.95, outline=0.25)
    canvas.shade(bump(v - bottom - 0.035, 0.03) * bump(t, 0.6) * 0.45, rgb((0.66, 0.50, 0.48), like=skin))
    gloss = bump(v - lower - full * 0.5, full * 0.28) * bump(t, 0.42)
    canvas.tint(gloss * 0.30, rgb((1.0, 0.95, 0.93), like=skin))
    paint_where(canvas, (face.gape > 0)[:, 0, 0], _inside_mouth, face, view, upper, lower, ends)
    line = bump(v - upper, 0.012 + canvas.pixel * 0.35) * (ends < 0.02)
    canvas.tint(line * 0.75, skin * rgb((0.36, 0.17, 0.17), like=skin))
    corner = torch.hypot(view.u.abs() - face.mouth_width, v - face.corner_v)
    canvas.shade(bump(corner, 0.05) * 0.5, rgb((0.52, 0.34, 0.33), like=skin))
    canvas.draw(both((v - upper).abs() - canvas.pen, ends), 1.0)
    canvas.draw(both((v - bottom).abs() - canvas.pen * 0.6, view.u.abs() - face.mouth_width * 0.55), 0.7)


def _inside_mouth(canvas: Canvas, face: Face, view: View, upper: Tensor, lower: Tensor, ends: Tensor) -> None:
    opening = both(upper - view.v, view.v - lower, ends + 0.012)
    canvas.fill(opening, rgb("#5a1620", like=view.u), outline=0.8)
    inside, down = canvas.coverage(opening), view.v - face.mouth_v
    tongue = ellipse(view.u, down - face.gape * 1.05, face.mouth_width * 0.62, face.gape * 0.42 + 0.004)
    canvas.tint(canvas.coverage(tongue) * inside, rgb("#d0646a", like=view.u))
    teeth = canvas.coverage(view.v - upper - face.gape * face.teeth) * inside
    canvas.tint(teeth * (face.teeth > 0.1), rgb("#fbf8f2", like=view.u))
