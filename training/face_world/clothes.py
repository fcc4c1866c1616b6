"""Clothes: the cloth over the shoulders, and what makes a hoodie of it, or a suit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_world.canvas import Canvas, both, box, bump, ellipse, joined, mix, paint_where, smooth_step
from training.face_world.geometry import View
from training.face_world.head import Light, shaded
from training.face_world.palette import COLOURS, rgb
from training.face_world.scene import CLOTHES, Scenes

CLOTH_SHADOW, CLOTH_GLOW = (0.55, 0.53, 0.60), (1.12, 1.10, 1.06)
BODY_WIDTH, SHOULDER = 1.52, 0.62  # half the width, and how far below the base of the neck they are


@dataclass(frozen=True)
class Cloth:
    """What the pieces of a garment are cut from; fields (b, h, w) in the body's head units, colours (b, 3)."""

    x: Tensor
    y: Tensor
    torso: Tensor
    light: Tensor
    colour: Tensor

    def dyed(self, colour: Tensor, light: Tensor | None = None) -> Tensor:
        """A colour (b, 3) under the cloth's light, or another."""
        return shaded(colour, self.light if light is None else light, CLOTH_SHADOW, CLOTH_GLOW)

    @property
    def pale(self) -> Tensor:
        return torch.lerp(self.colour, torch.ones_like(self.colour), 0.75)

    def crew(self) -> Tensor:
        """A round neckline."""
        return ellipse(self.x, self.y - 0.28, 0.50, 0.36)

    def vee(self) -> Tensor:
        """A pointed neckline."""
        return both(self.x.abs() - 0.42 + 0.42 * (self.y - 0.30), self.y - 1.25)


def paint_clothes(canvas: Canvas, scenes: Scenes, view: View, light: Light) -> None:
    """The clothes of each scene, with the shadow of the head on them."""
    x, y = view.body_x, view.body_y
    side = x.abs()
    torso = box(x, y - SHOULDER - 2.4, BODY_WIDTH, 2.4, 0.62)
    torso = joined(torso, box(x, y - 0.92, 0.62, 0.5, 0.3), 0.45)
    sleeve = 0.16 * bump(side - 1.12, 0.10) * smooth_step(y, 1.0, 1.5)
    folds = 0.10 * torch.sin(x * 3.5 + y * 2.2) * smooth_step(y, 0.6, 1.6) - sleeve
    colour = rgb(*COLOURS.values(), like=x)[scenes.clothes_colour]
    cloth = Cloth(x, y, torso, (light.body + folds).clamp_(0, 1), colour)
    for kind, name in enumerate(CLOTHES):
        paint_where(canvas, scenes.clothes == kind, PAINTERS[name], cloth)
    shadow = smooth_step(view.y, 1.75, 1.1) * smooth_step(side, 1.0, 0.4) * canvas.coverage(torso)
    canvas.shade(shadow * 0.35, rgb((0.5, 0.5, 0.5), like=x))


def _cut(canvas: Canvas, cloth: Cloth, neckline: Tensor, fabric: Tensor) -> None:
    """The cloth around a neckline, with a hem."""
    worn = both(cloth.torso, -neckline)
    canvas.fill(worn, fabric)
    canvas.shade(
        smooth_step((neckline - 0.065).abs(), 0.035, 0.0) * canvas.coverage(worn) * 0.5, cloth.colour * 0 + 0.55
    )
    canvas.draw(both((neckline - 0.075).abs() - canvas.pen * 0.7, worn), 0.7)


def t_shirt(canvas: Canvas, cloth: Cloth) -> None:
    _cut(canvas, cloth, cloth.crew(), cloth.dyed(cloth.colour))


def striped_shirt(canvas: Canvas, cloth: Cloth) -> None:
    stripes = smooth_step(torch.sin((cloth.y + 0.08 * cloth.x.abs()) * 17), -0.2, 0.2)
    _cut(canvas, cloth, cloth.crew(), mix(cloth.dyed(cloth.colour), cloth.dyed(cloth.pale), stripes))


def turtleneck(canvas: Canvas, cloth: Cloth) -> None:
    canvas.fill(cloth.torso, cloth.dyed(cloth.colour))
    collar = box(cloth.x, cloth.y - 0.22, 0.46, 0.26, 0.16)
    ribs = (cloth.light + 0.10 * torch.sin(cloth.x * 36) - 0.05).clamp_(0, 1)
    canvas.fill(collar, cloth.dyed(cloth.colour, ribs))
    canvas.draw(both((cloth.y - 0.26).abs() - canvas.pen * 0.7, collar), 0.7)


def hoodie(canvas: Canvas, cloth: Cloth) -> None:
    neck, side = cloth.crew(), cloth.x.abs()
    hood = ellipse(cloth.x, cloth.y - 0.42, 1.0, 0.52)
    canvas.fill(both(hood, -neck, side * -1 + 0.40), cloth.dyed(cloth.colour * 0.55))
    _cut(canvas, cloth, neck, cloth.dyed(cloth.colour))
    strings = both((side - 0.30 - 0.03 * torch.sin(cloth.y * 6)).abs() - 0.028, 0.62 - cloth.y, cloth.y - 1.30)
    canvas.fill(strings, cloth.pale, outline=0.4)


def suit(canvas: Canvas, cloth: Cloth) -> None:
    x, y, side = cloth.x, cloth.y, cloth.x.abs()
    canvas.fill(cloth.torso, cloth.dyed(cloth.colour))
    shirt = both(side - 0.50 + 0.36 * (y - 0.25), cloth.torso, 0.30 * side - y + 0.22)
    canvas.fill(shirt, cloth.dyed(rgb("#f4f2ee", like=x).expand_as(cloth.colour)))
    tie = torch.minimum(box(x, y - 0.48, 0.115, 0.09, 0.04), both(side - 0.07 - 0.05 * (y - 0.5), 0.5 - y, y - 1.62))
    canvas.fill(tie, cloth.dyed(torch.lerp(1 - cloth.colour, rgb("#b3202c", like=x), 0.7)))
    edge = (side - 0.62 + 0.30 * (y - 0.25)).abs() - 0.15 - 0.05 * torch.sin(y * 4)
    canvas.fill(both(edge, 0.18 + 0.22 * side - y, y - 1.9, cloth.torso), cloth.dyed(cloth.colour * 0.84))


def v_neck_jumper(canvas: Canvas, cloth: Cloth) -> None:
    _cut(canvas, cloth, cloth.vee(), cloth.dyed(cloth.colour))


def denim_jacket(canvas: Canvas, cloth: Cloth) -> None:
    x, y, side = cloth.x, cloth.y, cloth.x.abs()
    neck = cloth.vee()
    _cut(canvas, cloth, neck, cloth.dyed(cloth.colour))
    canvas.fill(both(neck + 0.02, 0.52 + 0.02 * side - y), cloth.dyed(cloth.pale), outline=0.6)
    flap = both((side - 0.44 + 0.10 * (y - 0.3)).abs() - 0.19, (y - 0.52 + 0.25 * side).abs() - 0.20)
    canvas.fill(flap, cloth.dyed(cloth.colour * 0.9))
    seam = both((side - 0.05).abs() - 0.012, 1.2 - y, cloth.torso)
    buttons = both(torch.hypot(x, (y + 0.05) % 0.34 - 0.17) - 0.05, 1.28 - y, cloth.torso)
    canvas.fill(torch.minimum(seam, buttons), cloth.pale, 0.8, outline=0.3)


PAINTERS: dict[str, Callable[[Canvas, Cloth], None]] = {
    "t-shirt": t_shirt,
    "striped shirt": striped_shirt,
    "turtleneck": turtleneck,
    "hoodie": hoodie,
    "suit": suit,
    "v-neck jumper": v_neck_jumper,
    "denim jacket": denim_jacket,
}
