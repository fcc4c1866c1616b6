"""What a person wears: clothes and accessories of the scene, and the glasses that belong to the face."""

from __future__ import annotations

import torch
from torch import Tensor

from training.face_world.canvas import Canvas, both, box, bump, circle, ellipse, joined, mix, smooth_step
from training.face_world.face import Face
from training.face_world.geometry import View
from training.face_world.head import SKULL_HEIGHT, Light, shaded
from training.face_world.palette import COLOURS, rgb
from training.face_world.scene import ACCESSORIES, CLOTHES, Scenes
from training.face_world.traits import GLASSES, choice, value

AWAY = 9.0
SHADOW, GLOW = (0.55, 0.53, 0.60), (1.12, 1.10, 1.06)
BODY_WIDTH, SHOULDER = 1.52, 0.62  # half the width, and how far below the base of the neck they are


def paint_clothes(canvas: Canvas, scenes: Scenes, view: View, light: Light) -> None:
    """The clothes of each scene, one kind after the other."""
    x, y = view.body_x, view.body_y
    side = x.abs()
    torso = box(x, y - SHOULDER - 2.4, BODY_WIDTH, 2.4, 0.62)
    torso = joined(torso, box(x, y - 0.92, 0.62, 0.5, 0.3), 0.45)
    colour = rgb(*COLOURS.values(), like=x)[scenes.clothes_colour]
    dark = colour * 0.55
    pale = torch.lerp(colour, torch.ones_like(colour), 0.75)

    def worn(*names: str) -> Tensor:
        kinds = torch.tensor([CLOTHES.index(name) for name in names], device=x.device)
        return AWAY * ~torch.isin(scenes.clothes, kinds)[:, None, None]

    crew = ellipse(x, y - 0.28, 0.50, 0.36)
    vee = both(side - 0.42 + 0.42 * (y - 0.30), y - 1.25)
    closed = torch.full_like(x, AWAY)
    neckline = torch.minimum(crew + worn("t-shirt", "striped shirt", "hoodie"), vee + worn("v-neck jumper", "denim jacket"))
    neckline = torch.minimum(neckline, closed)
    cloth = both(torso, -neckline)
    folds = 0.10 * torch.sin(x * 3.5 + y * 2.2) * smooth_step(y, 0.6, 1.6) - 0.16 * bump(side - 1.12, 0.10) * smooth_step(y, 1.0, 1.5)
    glow = (light.body + folds).clamp(0, 1)
    fabric = shaded(colour, glow, SHADOW, GLOW)
    stripes = smooth_step(torch.sin((y + 0.08 * side) * 17), -0.2, 0.2) * (worn("striped shirt") == 0)
    fabric = mix(fabric, shaded(pale, glow, SHADOW, GLOW), stripes)

    hood = ellipse(x, y - 0.42, 1.0, 0.52) + worn("hoodie")
    canvas.fill(both(hood, -crew), shaded(dark, glow, SHADOW, GLOW))
    canvas.fill(cloth, fabric)
    hem = both(neckline - 0.075, torso)
    canvas.shade(smooth_step((neckline - 0.065).abs(), 0.035, 0.0) * canvas.coverage(torso) * 0.5, colour * 0 + 0.55)
    canvas.draw(both((hem + 0.0).abs() - canvas.pen * 0.7, cloth), 0.7)
    strings = both((side - 0.30 - 0.03 * torch.sin(y * 6)).abs() - 0.028, 0.62 - y, y - 1.30) + worn("hoodie")
    canvas.fill(strings, pale, outline=0.4)

    collar = box(x, y - 0.22, 0.46, 0.26, 0.16) + worn("turtleneck")
    ribs = (glow + 0.10 * torch.sin(x * 36) - 0.05).clamp(0, 1)
    canvas.fill(collar, shaded(colour, ribs, SHADOW, GLOW))
    canvas.draw(both((y - 0.26).abs() - canvas.pen * 0.7, collar), 0.7)

    shirt = both(side - 0.50 + 0.36 * (y - 0.25), torso, 0.30 * side - y + 0.22) + worn("suit")
    canvas.fill(shirt, shaded(rgb("#f4f2ee", like=x).expand_as(colour), glow, SHADOW, GLOW))
    tie = torch.minimum(box(x, y - 0.48, 0.115, 0.09, 0.04), both(side - 0.07 - 0.05 * (y - 0.5), 0.5 - y)) + worn("suit")
    canvas.fill(tie, shaded(torch.lerp(1 - colour, rgb("#b3202c", like=x), 0.7), glow, SHADOW, GLOW))
    lapel = both((side - 0.62 + 0.30 * (y - 0.25)).abs() - 0.15 - 0.05 * torch.sin(y * 4), 0.18 + 0.22 * side - y, y - 1.9, torso) + worn("suit")
    canvas.fill(lapel, shaded(colour * 0.84, glow, SHADOW, GLOW))

    flap = both((side - 0.44 + 0.10 * (y - 0.3)).abs() - 0.19, (y - 0.52 + 0.25 * side).abs() - 0.20) + worn("denim jacket")
    canvas.fill(flap, shaded(colour * 0.9, glow, SHADOW, GLOW))
    under = both(vee + 0.02, y - 2.0, 0.52 + 0.02 * side - y) + worn("denim jacket")
    canvas.fill(under, shaded(pale, glow, SHADOW, GLOW), outline=0.6)
    seam = both((side - 0.05).abs() - 0.012, 1.2 - y, torso) + worn("denim jacket")
    buttons = both(torch.hypot(x, (y + 0.05) % 0.34 - 0.17) - 0.05, 1.28 - y, torso) + worn("denim jacket")
    canvas.fill(torch.minimum(seam, buttons), pale, 0.8, outline=0.3)
    # The head throws a shadow on what is below it.
    canvas.shade(smooth_step(view.y, 1.75, 1.1) * smooth_step(side, 1.0, 0.4) * canvas.coverage(cloth) * 0.35, colour * 0 + 0.5)


def paint_glasses(canvas: Canvas, persons: Tensor, face: Face, view: View) -> None:
    """Frames before the eyes, with a glint on the lenses."""
    kind = choice(persons, "glasses")[:, None, None]
    x, y = view.u.abs() - face.eye_u * 1.04, view.v - face.eye_v - 0.03
    radius = face.eye_size * 1.05 + 0.065
    radius = torch.minimum(radius, face.eye_u * 0.97)
    lens_round = circle(x, y, radius) + AWAY * (kind != GLASSES.index("round"))
    lens_square = box(x, y, radius * 1.12, radius * 0.80, 0.07) + AWAY * (kind != GLASSES.index("square"))
    lens = torch.minimum(lens_round, lens_square)
    glint = both(lens, (x + y * 0.8 + 0.02).abs() - 0.035)
    canvas.tint(canvas.coverage(lens) * 0.10 + canvas.coverage(glint) * 0.22, rgb((0.93, 0.97, 1.0), like=x))
    worn = AWAY * (kind == 0)
    bridge = both((y + 0.05 - 0.05 * bump(view.u, 0.1)).abs() - 0.022, view.u.abs() - face.eye_u * 1.04 + radius) + worn
    temple = both((y + 0.03).abs() - 0.022, face.eye_u * 1.04 + radius - view.u.abs(), view.u.abs() - value(persons, "face_width")) + worn
    frame = torch.minimum(lens.abs() - 0.026, torch.minimum(bridge, temple))
    metal = rgb("#2b2420", "#a9762f", like=x)[(persons[:, 0] > 0.6).long()]
    canvas.fill(frame, metal, 0.96, outline=0.0)
    canvas.draw(frame, 0.95)


def paint_accessories(canvas: Canvas, scenes: Scenes, view: View, light: Light, width: Tensor) -> None:
    """Hats and the like, before everything else; `width` (b, 1, 1) is half that of the face."""
    x, y = view.x + 0.04 * view.turn.sin_yaw, view.y - 0.1 * view.turn.sin_pitch
    colour = rgb(*COLOURS.values(), like=x)[scenes.accessory_colour]
    kinds = scenes.accessory[:, None, None]

    def worn(name: str) -> Tensor:
        return AWAY * (kinds != ACCESSORIES.index(name))

    glow = (light.head * 0.8 + 0.1).clamp(0, 1)
    curve = y + 0.30 * (1 - (x / (width + 0.1)) ** 2).clamp(min=-0.5) * 0.4  # a band around the head sags in the middle
    # Beanie: a ribbed band below a knitted dome.
    dome = both(ellipse(x, y + 0.25, width + 0.17, 1.10), curve + 0.42) + worn("beanie")
    knit = (glow + 0.09 * torch.sin(x * 26) * torch.sin(y * 26) - 0.04).clamp(0, 1)
    canvas.fill(dome, shaded(colour, knit, SHADOW, GLOW))
    bobble = circle(x, y + 1.38, 0.20 + 0.02 * torch.sin(torch.atan2(x, y + 1.38) * 14)) + worn("beanie")
    canvas.fill(bobble, shaded(torch.lerp(colour, torch.ones_like(colour), 0.5), glow, SHADOW, GLOW))
    band = both((curve + 0.54).abs() - 0.135, x.abs() - width - 0.19) + worn("beanie")
    canvas.fill(band, shaded(colour * 0.86, (glow + 0.12 * torch.sin(x * 30)).clamp(0, 1), SHADOW, GLOW))
    # Straw hat: crown, ribbon, brim.
    straw = rgb("#e6c88a", like=x).expand_as(colour)
    weave = (glow + 0.07 * torch.sin(x * 34) + 0.07 * torch.sin(y * 40)).clamp(0, 1)
    crown = both(box(x, y + 0.94, width + 0.08 - 0.10 * (-y - 0.6).clamp(0, 1), 0.48, 0.28), y + 0.60) + worn("straw hat")
    canvas.fill(crown, shaded(straw, weave, SHADOW, GLOW))
    canvas.fill(both(crown - 0.012, (curve + 0.76).abs() - 0.10), shaded(colour, glow, SHADOW, GLOW))
    brim = ellipse(x, y + 0.60 - 0.05 * (x / width) ** 2, width + 0.62, 0.17) + worn("straw hat")
    canvas.shade(smooth_step(brim, 0.24, 0.0) * smooth_step(y, -0.62, -0.5) * canvas.subject * 0.45, colour * 0 + 0.55)
    canvas.fill(brim, shaded(straw * 0.97, weave, SHADOW, GLOW))
    # Flowers around the brow.
    around = x / (width + 0.12) * 3.2
    petal_x, number = around - around.round(), around.round()
    petal_y = (curve + 0.60) * 3.2 / (width + 0.12) + 0.10 * torch.sin(number * 2.4)
    angle = torch.atan2(petal_y, petal_x)
    flower = (torch.hypot(petal_x, petal_y) - 0.40 - 0.085 * torch.cos(angle * 5 + number)) / 3.4
    flower = both(flower, x.abs() - width - 0.16) + worn("flower crown")
    leaf = both((curve + 0.60 + 0.06 * torch.sin(x * 17)).abs() - 0.085, x.abs() - width - 0.12) + worn("flower crown")
    canvas.fill(leaf, shaded(rgb("#4c8a45", like=x).expand_as(colour), glow, SHADOW, GLOW))
    second = torch.lerp(colour, torch.ones_like(colour), 0.55)
    every_other = (number.remainder(2) == 0).float()
    canvas.fill(flower, mix(shaded(colour, glow, SHADOW, GLOW), shaded(second, glow, SHADOW, GLOW), every_other))
    canvas.fill(flower + 0.085, rgb("#f4c542", like=x), outline=0.3)
    # Headphones: a band over the crown and a shell on each ear.
    arc = (ellipse(x, y + 0.10, width + 0.20, SKULL_HEIGHT + 0.16).abs() - 0.055) + worn("headphones")
    canvas.fill(both(arc, y + 0.05), shaded(colour * 0.8, glow, SHADOW, GLOW))
    shell = box(x.abs() - width - 0.13, y - 0.12, 0.15, 0.30, 0.14) + worn("headphones")
    canvas.fill(shell, shaded(colour, glow, SHADOW, GLOW))
    canvas.fill(box(x.abs() - width - 0.02, y - 0.12, 0.06, 0.25, 0.05) + worn("headphones"), colour * 0.35, outline=0.4)
    # Scarf: two folds around the neck and an end that hangs down.
    bx, by = view.body_x, view.body_y
    cloth = (light.body + 0.12 * torch.sin(bx * 2 + by * 14)).clamp(0, 1)
    end = box(bx + 0.34 - 0.06 * by, by - 1.05, 0.21, 0.72, 0.06) + worn("scarf")
    canvas.fill(end, shaded(colour * 0.92, cloth, SHADOW, GLOW))
    for place, half in ((0.52, 0.70), (0.30, 0.62)):
        fold = ellipse(bx, by - place - 0.06 * (bx / half) ** 2 * 0, half, 0.19) + worn("scarf")
        canvas.fill(fold, shaded(colour, cloth, SHADOW, GLOW))
    fringe = both(end, 1.66 - by)
    canvas.shade(canvas.coverage(fringe) * smooth_step(torch.sin(bx * 60), 0.0, 0.5) * 0.4, colour * 0 + 0.5)
