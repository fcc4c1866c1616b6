"""What lies before everything else: the glasses of a person, and the hat, scarf or headphones of a scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_world.canvas import Canvas, both, box, bump, circle, ellipse, mix, paint_where, smooth_step
from training.face_world.clothes import CLOTH_GLOW, CLOTH_SHADOW
from training.face_world.face import Face
from training.face_world.geometry import View
from training.face_world.head import SKULL_HEIGHT, Light, shaded
from training.face_world.palette import COLOURS, rgb
from training.face_world.scene import ACCESSORIES, Scenes
from training.face_world.traits import GLASSES, choice, value


@dataclass(frozen=True)
class Wearer:
    """What an accessory is fitted to; fields (b, h, w) and values (b, 1, 1) in head units, colours (b, 3)."""

    x: Tensor
    y: Tensor
    band: Tensor  # height above a band around the brow, which sags in the middle
    width: Tensor  # half that of the face
    light: Tensor
    body_x: Tensor
    body_y: Tensor
    body_light: Tensor
    colour: Tensor

    def dyed(self, colour: Tensor, light: Tensor | None = None) -> Tensor:
        """A colour (b, 3) under the head's light, or another."""
        return shaded(colour, self.light if light is None else light, CLOTH_SHADOW, CLOTH_GLOW)

    def all_in(self, colour: str) -> Tensor:
        """One colour for every wearer."""
        return rgb(colour, like=self.x).expand_as(self.colour)


def paint_glasses(canvas: Canvas, persons: Tensor, face: Face, view: View) -> None:
    """Frames before the eyes, with a glint on the lenses."""
    paint_where(canvas, choice(persons, "glasses") > 0, _glasses, persons, face, view)


def _glasses(canvas: Canvas, persons: Tensor, face: Face, view: View) -> None:
    middle = face.eye_u * 1.04
    x, y = view.u.abs() - middle, view.v - face.eye_v - 0.03
    radius = torch.minimum(face.eye_size * 1.05 + 0.065, face.eye_u * 0.97)
    round_ones = (choice(persons, "glasses") == GLASSES.index("round"))[:, None, None]
    lens = torch.where(round_ones, circle(x, y, radius), box(x, y, radius * 1.12, radius * 0.80, 0.07))
    glint = both(lens, (x + y * 0.8 + 0.02).abs() - 0.035)
    canvas.tint(canvas.coverage(lens) * 0.10 + canvas.coverage(glint) * 0.22, rgb((0.93, 0.97, 1.0), like=x))
    bridge = both((y + 0.05 - 0.05 * bump(view.u, 0.1)).abs() - 0.022, radius - middle - x)
    bridge = both(bridge, x + radius)
    temple = both((y + 0.03).abs() - 0.022, radius - x, view.u.abs() - value(persons, "face_width"))
    frame = torch.minimum(lens.abs() - 0.026, torch.minimum(bridge, temple))
    metal = rgb("#2b2420", "#a9762f", like=x)[(persons[:, 0] > 0.6).long()]
    canvas.fill(frame, metal, 0.96, outline=0.0)
    canvas.draw(frame, 0.95)


def paint_accessories(canvas: Canvas, persons: Tensor, scenes: Scenes, view: View, light: Light) -> None:
    """The accessory of each scene that has one."""
    width = value(persons, "face_width")
    x, y = view.x + 0.04 * view.turn.sin_yaw, view.y - 0.1 * view.turn.sin_pitch
    wearer = Wearer(
        x=x,
        y=y,
        band=y + 0.12 * (1 - (x / (width + 0.1)) ** 2).clamp(min=-0.5),
        width=width,
        light=(light.head * 0.8 + 0.1).clamp_(0, 1),
        body_x=view.body_x,
        body_y=view.body_y,
        body_light=light.body,
        colour=rgb(*COLOURS.values(), like=x)[scenes.accessory_colour],
    )
    for name, painter in PAINTERS.items():
        paint_where(canvas, scenes.accessory == ACCESSORIES.index(name), painter, wearer)


def beanie(canvas: Canvas, on: Wearer) -> None:
    """A knitted dome, its bobble and a ribbed band."""
    dome = both(ellipse(on.x, on.y + 0.25, on.width + 0.17, 1.10), on.band + 0.42)
    knit = on.light + 0.09 * torch.sin(on.x * 26) * torch.sin(on.y * 26) - 0.04
    canvas.fill(dome, on.dyed(on.colour, knit.clamp_(0, 1)))
    wool = 0.20 + 0.02 * torch.sin(torch.atan2(on.x, on.y + 1.38) * 14)
    canvas.fill(circle(on.x, on.y + 1.38, wool), on.dyed(torch.lerp(on.colour, torch.ones_like(on.colour), 0.5)))
    band = both((on.band + 0.54).abs() - 0.135, on.x.abs() - on.width - 0.19)
    canvas.fill(band, on.dyed(on.colour * 0.86, (on.light + 0.12 * torch.sin(on.x * 30)).clamp_(0, 1)))


def straw_hat(canvas: Canvas, on: Wearer) -> None:
    """Crown, ribbon and brim, which shades the brow."""
    straw = on.all_in("#e6c88a")
    weave = (on.light + 0.07 * torch.sin(on.x * 34) + 0.07 * torch.sin(on.y * 40)).clamp_(0, 1)
    narrowing = 0.10 * (-on.y - 0.6).clamp(0, 1)
    crown = both(box(on.x, on.y + 0.94, on.width + 0.08 - narrowing, 0.48, 0.28), on.y + 0.60)
    canvas.fill(crown, on.dyed(straw, weave))
    canvas.fill(both(crown - 0.012, (on.band + 0.76).abs() - 0.10), on.dyed(on.colour))
    brim = ellipse(on.x, on.y + 0.60 - 0.05 * (on.x / on.width) ** 2, on.width + 0.62, 0.17)
    below = smooth_step(brim, 0.24, 0.0) * smooth_step(on.y, -0.62, -0.5) * canvas.subject
    canvas.shade(below * 0.45, rgb((0.55, 0.55, 0.55), like=on.x))
    canvas.fill(brim, on.dyed(straw * 0.97, weave))


def flower_crown(canvas: Canvas, on: Wearer) -> None:
    """Five-petalled flowers on leaves, two colours in turn."""
    leaves = both((on.band + 0.60 + 0.06 * torch.sin(on.x * 17)).abs() - 0.085, on.x.abs() - on.width - 0.12)
    canvas.fill(leaves, on.dyed(on.all_in("#4c8a45")))
    scale = 3.2 / (on.width + 0.12)
    around = on.x * scale
    number = around.round()
    x, y = around - number, (on.band + 0.60) * scale + 0.10 * torch.sin(number * 2.4)
    petals = torch.hypot(x, y) - 0.40 - 0.085 * torch.cos(torch.atan2(y, x) * 5 + number)
    flower = both(petals / 3.4, on.x.abs() - on.width - 0.16)
    second = torch.lerp(on.colour, torch.ones_like(on.colour), 0.55)
    every_other = (number.remainder(2) == 0).float()
    canvas.fill(flower, mix(on.dyed(on.colour), on.dyed(second), every_other))
    canvas.fill(flower + 0.085, on.all_in("#f4c542"), outline=0.3)


def headphones(canvas: Canvas, on: Wearer) -> None:
    """A band over the crown and a shell on each ear."""
    arc = ellipse(on.x, on.y + 0.10, on.width + 0.20, SKULL_HEIGHT + 0.16).abs() - 0.055
    canvas.fill(both(arc, on.y + 0.05), on.dyed(on.colour * 0.8))
    side = on.x.abs() - on.width
    canvas.fill(box(side - 0.13, on.y - 0.12, 0.15, 0.30, 0.14), on.dyed(on.colour))
    canvas.fill(box(side - 0.02, on.y - 0.12, 0.06, 0.25, 0.05), on.colour * 0.35, outline=0.4)


def scarf(canvas: Canvas, on: Wearer) -> None:
    """An end that hangs down and two folds around the neck."""
    x, y = on.body_x, on.body_y
    cloth = (on.body_light + 0.12 * torch.sin(x * 2 + y * 14)).clamp_(0, 1)
    end = box(x + 0.34 - 0.06 * y, y - 1.05, 0.21, 0.72, 0.06)
    canvas.fill(end, on.dyed(on.colour * 0.92, cloth))
    fringe = canvas.coverage(both(end, 1.62 - y)) * smooth_step(torch.sin(x * 60), 0.0, 0.5)
    canvas.shade(fringe * 0.4, rgb((0.5, 0.5, 0.5), like=x))
    for height, half_width in ((0.52, 0.70), (0.30, 0.62)):
        canvas.fill(ellipse(x, y - height, half_width, 0.19), on.dyed(on.colour, cloth))


PAINTERS: dict[str, Callable[[Canvas, Wearer], None]] = {
    "beanie": beanie,
    "straw hat": straw_hat,
    "flower crown": flower_crown,
    "headphones": headphones,
    "scarf": scarf,
}
