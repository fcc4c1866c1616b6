"""Places: each paints its rows of the batch in picture coordinates, soft enough to stay behind the person.

Notation: x, y in -1 … 1 over the picture, y down; `k` pictures; `r[:, i]` random values of each picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_world.canvas import as_paint, bump, cells, circle, mix, smooth_step
from training.face_world.chance import smooth_noise, uniform
from training.face_world.palette import rgb
from training.face_world.scene import BACKGROUNDS, Scenes


@dataclass(frozen=True)
class Place:
    """What a background is drawn from."""

    x: Tensor  # (1, h, w)
    y: Tensor
    r: Tensor  # (k, 12, 1, 1)
    texture: Tensor  # (k,)
    size: int

    def clouds(self, cells_along: int, purpose: str = "clouds") -> Tensor:
        """Smooth noise 0 … 1, (k, h, w)."""
        return smooth_noise(self.texture, purpose, cells_along, self.size)

    def sky(self, *colours: str, horizon: Tensor | float = 1.0) -> Tensor:
        """A gradient from the top of the picture to the horizon, (k, 3, h, w)."""
        height = ((self.y + 1) / (horizon + 1)).clamp(0, 1).expand(len(self.r), -1, -1) * (len(colours) - 1)
        table = rgb(*colours, like=self.x)
        picture = as_paint(table[:1]).expand(len(self.r), 3, self.size, self.size)
        for i in range(1, len(colours)):
            picture = mix(picture, table[i], (height - i + 1).clamp(0, 1))
        return picture

    def mask(self, shape: Tensor, softness: float = 0.012) -> Tensor:
        """How much of each pixel a shape covers; `softness` in picture units, never sharper than a pixel."""
        return (0.5 - shape / max(softness, 2.0 / self.size)).clamp(0, 1)

    def ridge(self, i: int, base: float, height: float, roughness: float) -> Tensor:
        """A line of hills: signed height below it, (k, h, w)."""
        phase = self.r[:, i] * 20
        wave = torch.sin(self.x * roughness + phase) + 0.5 * torch.sin(self.x * roughness * 2.3 + phase * 1.7)
        wave = wave + 0.25 * torch.sin(self.x * roughness * 5.1 + phase * 0.6)
        return base - height * wave - self.y

    def lights(self, grid: float, i: int, least: float, most: float) -> tuple[Tensor, Tensor]:
        """Scattered discs, one in each square of a grid: distance from their edge in picture units, and a number."""
        x, y, number = cells(self.x * grid + self.r[:, i] * 7, self.y * grid + self.r[:, i] * 3, self.r[:, i])
        other = (number * 7.31) % 1
        radius = least + (most - least) * other
        shift = 0.5 - radius * grid
        return torch.hypot(x - (number - 0.5) * shift, y - (other - 0.5) * shift) / grid - radius, number


def over(picture: Tensor, colour: Tensor | str, mask: Tensor) -> Tensor:
    """`colour` laid over a picture."""
    return mix(picture, rgb(colour, like=picture) if isinstance(colour, str) else colour, mask)


def studio(p: Place) -> Tensor:
    hues = rgb("#8fb3c9", "#c9a98f", "#a9bf9a", "#b9a4c6", "#d0b270", "#9aa3ad", "#d39a94", "#6f8fb0", like=p.x)
    base = hues[(p.r[:, 0, 0, 0] * len(hues)).long()]
    glow = bump(torch.hypot(p.x - p.r[:, 1] * 0.8 + 0.4, p.y + 0.2), 1.1)
    picture = mix(base * 0.55, torch.lerp(base, torch.ones_like(base), 0.35), glow)
    return over(picture, base * 0.5, smooth_step(p.y + 0.05 * p.clouds(3), 0.72, 0.86) * 0.45)


def beach(p: Place) -> Tensor:
    horizon = -0.12 + 0.2 * p.r[:, 0]
    picture = p.sky("#3f9fd8", "#8fcbea", "#e8f3ee", horizon=horizon)
    cloud = smooth_step(p.clouds(5) * (1 - 0.5 * p.clouds(12)), 0.38, 0.62) * smooth_step(
        p.y, horizon - 0.1, horizon - 0.6
    )
    picture = over(picture, "#ffffff", cloud * 0.85)
    depth = ((p.y - horizon) / 0.5).clamp(0, 1)
    sea = mix(rgb("#1f7fa8", like=p.x), rgb("#5cc6c0", like=p.x), depth)
    glitter = smooth_step(torch.sin((p.y - horizon) * 70 / (0.25 + depth)) * p.clouds(24), 0.45, 0.7)
    picture = over(picture, over(sea, "#e9fbf5", glitter * 0.5), p.mask(horizon - p.y))
    shore = p.y - horizon - 0.42 - 0.05 * torch.sin(p.x * 3 + p.r[:, 1] * 6)
    sand = mix(rgb("#ecd3a0", like=p.x), rgb("#d9b57a", like=p.x), (p.clouds(9) * 0.6 + depth * 0.2).clamp(0, 1))
    picture = over(picture, "#ffffff", p.mask(shore.abs() - 0.02, 0.03))
    return _palm(p, over(picture, sand, p.mask(-shore)), horizon)


def _palm(p: Place, picture: Tensor, horizon: Tensor) -> Tensor:
    side = torch.where(p.r[:, 2] > 0.5, 1.0, -1.0)
    top_x, top_y = side * (0.62 + 0.2 * p.r[:, 3]), -0.62 + 0.2 * p.r[:, 4]
    bend = (p.y - top_y).clamp(min=0)
    trunk = torch.maximum(
        (p.x - top_x - side * 0.16 * bend**2).abs() - 0.025 - 0.012 * bend,
        torch.maximum(top_y - p.y, p.y - horizon - 0.6),
    )
    picture = over(picture, "#7d5a3c", p.mask(trunk, 0.02))
    x, y = p.x - top_x, p.y - top_y
    angle, far = torch.atan2(y - 0.5 * x * x, x), torch.hypot(x, y)
    leaves = far - 0.16 - 0.30 * (0.5 + 0.5 * torch.cos(angle * 7)).clamp(min=0) ** 2
    return over(picture, "#2f7d4a", p.mask(leaves, 0.03))


def forest(p: Place) -> Tensor:
    picture = p.sky("#d9e8a8", "#a8cf8c", "#6fa262")
    for i, (colour, width, count) in enumerate(
        (("#8cb578", 0.10, 4.0), ("#527d4c", 0.14, 2.6), ("#33523a", 0.20, 1.7))
    ):
        x, _, number = cells(p.x * count + p.r[:, i] * 9, torch.full_like(p.x, float(i)), p.r[:, i + 3])
        trunk = (x - (number - 0.5) * 0.5 + 0.02 * torch.sin(p.y * 5 + number * 9)).abs() - width * (
            0.6 + 0.5 * number
        ) * (0.9 + 0.12 * p.y)
        picture = over(picture, colour, p.mask(trunk / count, 0.03))
        crown = p.y + 0.95 - 0.22 * i * 0.5 - 0.6 * p.clouds(5 + 2 * i, f"leaves {i}")
        picture = over(
            picture, mix(rgb(colour, like=p.x), rgb("#9fc36b", like=p.x), p.clouds(18)), p.mask(crown, 0.12) * 0.85
        )
    rays = smooth_step(torch.sin((p.x + p.y * 0.55) * 6 + p.r[:, 6] * 6), 0.55, 1.0) * smooth_step(p.y, 0.7, -0.8)
    picture = over(picture, "#fdf6c8", rays * 0.35)
    ground = mix(rgb("#4d7a3e", like=p.x), rgb("#2f5231", like=p.x), p.clouds(14))
    return over(picture, ground, p.mask(0.62 + 0.08 * p.clouds(6) - p.y, 0.05))


def city(p: Place) -> Tensor:
    picture = p.sky("#0e1233", "#2b2360", "#7a3f78", "#d9776a")
    moon = circle(p.x - 0.55 + 1.1 * p.r[:, 0], p.y + 0.68, 0.11)
    picture = over(over(picture, "#f6e7c4", bump(moon.clamp(min=0), 0.12) * 0.35), "#fbf1d8", p.mask(moon))
    for i, (colour, count, base, spread) in enumerate((("#3a2f66", 5.0, -0.25, 0.6), ("#1c1b40", 3.2, 0.0, 0.7))):
        shift = p.x * count + p.r[:, i + 1] * 9
        x, _, number = cells(shift, torch.full_like(p.x, float(i)), p.r[:, i + 3])
        roof = base - spread * (number - 0.35) - p.y
        house = torch.maximum(roof, x.abs() / count - 0.47 / count)
        picture = over(picture, colour, p.mask(house))
        window_x, window_y, lamp = cells(shift * 5, p.y * 13, p.r[:, i + 5])
        pane = torch.maximum(torch.maximum(window_x.abs() - 0.27, window_y.abs() - 0.3) / 14, house + 0.02)
        shine = mix(rgb("#ffd27a", like=p.x), rgb("#8fd3ff", like=p.x), (lamp > 0.85).float())
        picture = over(picture, shine, p.mask(pane) * (lamp > 0.55) * 0.9)
    disc, number = p.lights(2.6, 7, 0.05, 0.11)
    glow = along_lights(number, p.x)
    return torch.lerp(
        picture, glow, (p.mask(disc, 0.03) * smooth_step(p.y, -0.1, 0.7) * (number > 0.35) * 0.5)[:, None]
    )


def along_lights(number: Tensor, like: Tensor) -> Tensor:
    """Colours of lamps at night for numbers 0 … 1, (k, 3, h, w)."""
    lamps = rgb("#ffb454", "#ff6f91", "#6fd6ff", "#fff0c2", like=like)
    return lamps[(number * 3.99).long()].permute(0, 3, 1, 2)


def snow(p: Place) -> Tensor:
    picture = p.sky("#9fb9d6", "#cfdcec", "#f1eef2")
    picture = over(picture, "#b5c6dc", p.mask(p.ridge(0, 0.0, 0.16, 3.0), 0.03))
    for i, (colour, count, base) in enumerate((("#7f9fae", 4.2, 0.10), ("#4f7383", 2.6, 0.28))):
        x, _, number = cells(p.x * count + p.r[:, i + 1] * 9, torch.full_like(p.x, float(i)), p.r[:, i + 3])
        up = (base + 0.08 - p.y) / (0.55 + 0.35 * number)  # 0 at the foot of a fir, 1 at its top
        tier = (up * 5) % 1
        half = (0.40 - 0.36 * up - 0.09 * tier) * (0.75 + 0.4 * number)
        fir = torch.maximum((x.abs() - half) / count, torch.maximum(-up, up - 1) * 0.5)
        picture = over(picture, colour, p.mask(fir, 0.02))
        picture = over(picture, "#f5f9ff", smooth_step(tier, 0.45, 0.1) * p.mask(fir + 0.012, 0.03) * 0.6)
    drift = mix(rgb("#ffffff", like=p.x), rgb("#c3d3e8", like=p.x), p.clouds(5))
    picture = over(picture, drift, p.mask(p.ridge(5, 0.34, 0.05, 2.2), 0.03))
    for i, (grid, least, most) in enumerate(((5.0, 0.012, 0.03), (3.0, 0.02, 0.045))):
        flake, number = p.lights(grid, 6 + i, least, most)
        picture = over(picture, "#ffffff", p.mask(flake, 0.025) * 0.9 * (number > 0.2))
    return picture


def desert(p: Place) -> Tensor:
    picture = p.sky("#4f86c0", "#f0b27a", "#fbe0a4", horizon=0.3)
    sun = circle(p.x - 0.9 + 1.8 * p.r[:, 0], p.y + 0.35, 0.14)
    picture = over(over(picture, "#fff0c0", bump(sun.clamp(min=0), 0.35) * 0.6), "#fffbe6", p.mask(sun, 0.02))
    mesa = torch.maximum(-0.02 - 0.16 * torch.tanh(6 * torch.sin(p.x * 2.6 + p.r[:, 1] * 9)) - p.y, p.y - 0.4)
    picture = over(
        picture,
        mix(rgb("#c9714a", like=p.x), rgb("#a8543c", like=p.x), (torch.sin(p.y * 46) > 0).float() * 0.5),
        p.mask(mesa, 0.02),
    )
    for i, (light, dark, base) in enumerate(
        (("#f0b765", "#d08a48", 0.22), ("#f4c273", "#bf7438", 0.50), ("#e8a957", "#b0642f", 0.78))
    ):
        ridge = p.ridge(2 + i, base, 0.08, 1.9 + 0.4 * i)
        steep = smooth_step(torch.sin(p.x * (1.9 + 0.4 * i) + p.r[:, 2 + i] * 20 + 1.3), -0.2, 0.3)
        ripple = 0.12 * torch.sin(ridge * 60 + p.x * 9)
        picture = over(
            picture,
            mix(rgb(light, like=p.x), rgb(dark, like=p.x), (steep * 0.8 + ripple).clamp(0, 1)),
            p.mask(ridge, 0.015),
        )
    return picture


def library(p: Place) -> Tensor:
    picture = p.sky("#6b4226", "#4a2c1a")
    spines = rgb("#8c2f2b", "#2f5d62", "#c08a3e", "#3e4a7a", "#6f7d3c", "#d6c7a1", "#5b3a5e", "#a8563a", like=p.x)
    shelf, row = p.y * 1.9 + p.r[:, 0] * 3, torch.floor(p.y * 1.9 + p.r[:, 0] * 3)
    shelf = shelf - row
    x, _, number = cells(p.x * 9 + row * 3.7, row.expand(len(p.r), -1, -1) * 1.0, p.r[:, 1])
    height = 0.16 + 0.26 * ((number * 5.7) % 1)
    book = torch.maximum((x.abs() - 0.46) / 9, (height - shelf) / 1.9)
    colour = spines[(number * 7.99).long()].permute(0, 3, 1, 2)
    picture = over(picture, "#2b1810", torch.ones_like(shelf) * 0.6)
    round_back = 0.65 + 0.5 * torch.sqrt((1 - (x * 2) ** 2).clamp(min=0.02))
    gold = ((shelf - 0.62).abs() < 0.03).float() * 0.45
    picture = over(picture, over(colour * round_back[:, None], "#e9c46a", gold).clamp(0, 1), p.mask(book, 0.02))
    picture = over(picture, "#8a5a34", p.mask((shelf - 0.96).abs() / 1.9 - 0.03))
    lamp = bump(torch.hypot(p.x - 1.4 * p.r[:, 2] + 0.7, p.y + 0.5), 0.9)
    return (
        picture * (0.55 + 0.65 * lamp[:, None]) + lamp[:, None] * rgb((0.10, 0.06, 0.0), like=p.x)[:, None, None]
    ).clamp(0, 1)


def space(p: Place) -> Tensor:
    cloud, other = p.clouds(4, "nebula") * 0.6 + p.clouds(10, "nebula") * 0.4, p.clouds(5, "dust")
    picture = mix(rgb("#070a1f", like=p.x), rgb("#4a2a86", like=p.x), smooth_step(cloud, 0.35, 0.8))
    picture = over(picture, "#1f7fa6", smooth_step(other, 0.5, 0.95) * 0.6)
    picture = over(picture, "#e06aa8", smooth_step(cloud * other, 0.30, 0.6) * 0.7)
    for i, (grid, most) in enumerate(((11.0, 0.010), (5.0, 0.020))):
        star, number = p.lights(grid, i, 0.003, most)
        picture = over(picture, "#fffdf0", p.mask(star, 0.02) * (number > 0.35))
    x, y = p.x - 1.3 * p.r[:, 3] + 0.65, p.y + 0.62 - 0.3 * p.r[:, 4]
    radius = 0.20 + 0.10 * p.r[:, 5]
    planet = mix(rgb("#f0a868", like=p.x), rgb("#7a3b5e", like=p.x), smooth_step(x * 0.8 + y, -radius, radius))
    planet = over(planet, "#ffe0b0", smooth_step(torch.sin(y * 40 + x * 6), 0.2, 0.8) * 0.3)
    picture = over(picture, planet, p.mask(circle(x, y, radius)))
    tilted = y + 0.28 * x
    ring = torch.maximum(
        (torch.hypot(x, tilted * 4.2) - radius * 1.65).abs() - radius * 0.16, -circle(x, y, radius) * (tilted < 0)
    )
    return over(picture, "#f6dcae", p.mask(ring, 0.02) * 0.8)


def garden(p: Place) -> Tensor:
    picture = p.sky("#8fd0f0", "#d8f0e8", horizon=0.2)
    hedge = p.y + 0.25 - 0.3 * p.clouds(6, "hedge")
    bush = mix(
        rgb("#6cae4e", like=p.x), rgb("#356f35", like=p.x), (p.clouds(15) * 0.8 + 0.25 * (p.y + 0.3)).clamp(0, 1)
    )
    picture = over(picture, bush, p.mask(-hedge, 0.03))
    petals = rgb("#f26d8d", "#f7b0c8", "#ffd257", "#ffffff", "#b684e0", "#ff8a5c", like=p.x)
    for i, (grid, radius) in enumerate(((6.0, 0.055), (4.2, 0.080), (3.0, 0.12))):
        x, y, number = cells(p.x * grid + p.r[:, i] * 7, p.y * grid + p.r[:, i + 3] * 5, p.r[:, i + 6])
        x, y = x - (number - 0.5) * 0.4, y - ((number * 9.7) % 1 - 0.5) * 0.4
        angle = torch.atan2(y, x) + number * 6
        flower = torch.hypot(x, y) / grid - radius * (0.78 + 0.22 * torch.cos(angle * 5))
        low = smooth_step(p.y, -0.2 + 0.25 * i, 0.1 + 0.25 * i) * (number > 0.25)
        petal = petals[(number * 5.99).long()].permute(0, 3, 1, 2)
        picture = over(picture, petal, p.mask(flower, 0.02) * low)
        picture = over(picture, "#f5c23e", p.mask(torch.hypot(x, y) / grid - radius * 0.3, 0.02) * low)
    return picture


def rain(p: Place) -> Tensor:
    picture = p.sky("#4d5f74", "#76899a", "#93a1a8")
    disc, number = p.lights(1.9, 0, 0.08, 0.20)
    picture = torch.lerp(picture, along_lights(number, p.x), (p.mask(disc, 0.10) * 0.42 * (number > 0.3))[:, None])
    wet = smooth_step(p.y, 0.45, 0.75)
    picture = over(picture, "#3c4a5a", wet * 0.75)
    shine = bump(torch.sin(p.x * 5 + p.r[:, 1] * 9), 0.5) * wet * (0.5 + 0.5 * torch.sin(p.y * 60))
    picture = over(picture, "#ffcf8a", shine * 0.35)
    for i, (across, along_fall) in enumerate(((17.0, 1.6), (10.0, 1.1))):
        x, y, number = cells(
            (p.x + p.y * 0.16) * across,
            p.y * along_fall + torch.sin(torch.floor((p.x + p.y * 0.16) * across) * 7.7) * 3,
            p.r[:, 2 + i],
        )
        drop = torch.maximum((x - (number - 0.5) * 0.5).abs() / across - 0.006, (y.abs() - 0.28 * number) / along_fall)
        picture = over(picture, "#e6f1fa", p.mask(drop, 0.012) * 0.65)
    return picture


def mountains(p: Place) -> Tensor:
    picture = p.sky("#f4a77c", "#f6d2a2", "#cfe0e6", horizon=0.2)
    sun = circle(p.x + 0.7 - 1.4 * p.r[:, 0], p.y + 0.25, 0.16)
    picture = over(picture, "#fff1cf", (bump(sun.clamp(min=0), 0.2) * 0.6 + p.mask(sun, 0.02)).clamp(0, 1))
    for i, (colour, base, height) in enumerate(
        (("#b3a6bd", -0.10, 0.26), ("#7d86a8", 0.12, 0.22), ("#4d6485", 0.36, 0.16))
    ):
        saw = (p.x * (1.1 + 0.5 * i) + p.r[:, 1 + i] * 5) % 1
        peak = (saw - 0.5).abs() * 2  # 1 at a valley, 0 at a peak
        rough = 0.05 * torch.sin(p.x * 23 + i) + 0.03 * torch.sin(p.x * 41)
        slope = base - height * (1 - 2 * peak) + rough - p.y
        shaded_side = smooth_step(saw, 0.47, 0.56) * 0.25
        rock = rgb(colour, like=p.x)
        picture = over(picture, mix(rock, rock * 0.6, shaded_side), p.mask(slope, 0.012))
        cap = torch.maximum(slope, p.y - base + height * 0.62 - rough * 1.6 + 0.04 * torch.sin(p.x * 31))
        picture = over(picture, "#fbf6f4", p.mask(cap, 0.015) * (0.95 - shaded_side))
    meadow = mix(rgb("#6f9a5a", like=p.x), rgb("#3f6b47", like=p.x), p.clouds(7))
    return over(picture, meadow, p.mask(p.ridge(5, 0.62, 0.05, 2.0), 0.02))


def underwater(p: Place) -> Tensor:
    picture = p.sky("#6fd8e0", "#2a9cc4", "#155a96", "#0c2f63")
    rays = smooth_step(
        torch.sin((p.x - p.y * 0.25 + 0.1 * torch.sin(p.y * 3)) * 7 + p.r[:, 0] * 9), 0.2, 1.0
    ) * smooth_step(p.y, 0.5, -1.0)
    picture = over(picture, "#d6fbf5", rays * 0.4)
    ground = p.ridge(1, 0.74, 0.05, 3.0)
    for i, colour in enumerate(("#2f7f7a", "#e0656f", "#f0a04b")):
        count = 3.2 - 0.6 * i
        x, _, number = cells(p.x * count + p.r[:, 2 + i] * 9, torch.full_like(p.x, float(i)), p.r[:, 5 + i])
        height = 0.35 + 0.4 * number
        up = (0.85 - p.y).clamp(min=0)
        blade = torch.maximum(
            (x - 0.10 * torch.sin(up * 9 + number * 9)).abs() / count - 0.05 * (1 - up / height).clamp(min=0),
            up - height,
        )
        picture = over(picture, colour, p.mask(blade, 0.015) * (number > 0.3) * 0.9)
    picture = over(
        picture, mix(rgb("#d8c48f", like=p.x), rgb("#8fa58f", like=p.x), p.clouds(9)), p.mask(ground, 0.02) * 0.9
    )
    x, y, number = cells(p.x * 2.1 + p.r[:, 8] * 5, p.y * 2.6 + p.r[:, 9] * 5, p.r[:, 8])
    facing = torch.where(number > 0.5, 1.0, -1.0)
    body = torch.hypot(x / 0.24, y / 0.13) - 1
    tail = torch.maximum((y.abs() - 0.55 * ((x * facing) - 0.20)), (x * facing) - 0.36) * 4
    fish = torch.minimum(body, torch.maximum(tail, 0.18 - x * facing)) * 0.06
    scales = mix(rgb("#ffb13d", like=p.x), rgb("#fff2cf", like=p.x), (torch.sin(x * 34) > 0.4).float())
    picture = over(picture, scales, p.mask(fish, 0.015) * ((number * 3.3) % 1 > 0.55))
    bubble, number = p.lights(4.0, 10, 0.012, 0.045)
    return over(picture, "#e6ffff", p.mask(bubble.abs() - 0.006, 0.015) * 0.7 * (number > 0.5))


PAINTERS: dict[str, Callable[[Place], Tensor]] = {
    "studio": studio,
    "beach": beach,
    "forest": forest,
    "city": city,
    "snow": snow,
    "desert": desert,
    "library": library,
    "space": space,
    "garden": garden,
    "rain": rain,
    "mountains": mountains,
    "underwater": underwater,
}


def backgrounds(scenes: Scenes, x: Tensor, y: Tensor) -> Tensor:
    """The places of all scenes, (b, 3, h, w); `x` and `y` (1, h, w) run from -1 to 1."""
    size = x.shape[-1]
    picture = torch.empty(len(scenes), 3, size, size, device=x.device)
    chance = uniform(scenes.texture, 0, "background", 12)[..., None, None]
    for kind, name in enumerate(BACKGROUNDS):
        rows = (scenes.background == kind).nonzero()[:, 0]
        if len(rows):
            picture[rows] = PAINTERS[name](Place(x, y, chance[rows], scenes.texture[rows], size))
    return picture
