"""Where a head is in a picture, and which point of the face each pixel shows.

Head units: the head's own upright axes, x to the right of the picture and y down, the face's centre at the origin and
its chin about +1. The front of the head is taken as an ellipsoid; turning it by yaw and pitch moves and foreshortens
what is drawn on it. Because an ellipsoid in its own units is a sphere, the way from a pixel to the face (to draw) and
from the face to a pixel (key points) are the same rotation, and agree exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_world.scene import Scenes
from training.face_world.traits import value

FACE_HEIGHT = 1.85  # chin to hairline
TURN = 0.6  # an eye would leave a flat face at the full angle; noses and ears tell the rest
HALF_HEIGHT = 1.4  # of the ellipsoid
NOSE_HEIGHT = 0.26  # how far the tip of the nose stands out
# (yaw share, along x): how the outline follows a turn.
CHIN_SHIFT = 0.22


@dataclass(frozen=True)
class View:
    """The coordinates of b pictures of h×w pixels. Fields (b, h, w) and values (b, 1, 1)."""

    x: Tensor  # head units, upright with the head
    y: Tensor
    u: Tensor  # on the face, as if seen from the front
    v: Tensor
    normal: tuple[Tensor, Tensor, Tensor]  # of the ellipsoid at each pixel: right, down, towards the viewer
    body_x: Tensor  # head units, upright with the body, from the base of the neck
    body_y: Tensor
    pixel: Tensor  # side of a pixel in head units
    turn: Turn


@dataclass(frozen=True)
class Turn:
    """A head turned by yaw and pitch, without its place in the picture; all values (b, 1, 1)."""

    half_width: Tensor  # of the ellipsoid
    cos_yaw: Tensor
    sin_yaw: Tensor
    cos_pitch: Tensor
    sin_pitch: Tensor

    def shown(self, u: Tensor, v: Tensor, height: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Where in head units the point (u, v) of the face is seen; `height` is how far it stands out."""
        a, b = u / self.half_width, v / HALF_HEIGHT
        c = (1 - a * a - b * b).clamp(min=0).sqrt() + height
        a, c = a * self.cos_yaw + c * self.sin_yaw, c * self.cos_yaw - a * self.sin_yaw
        return a * self.half_width, (b * self.cos_pitch + c * self.sin_pitch) * HALF_HEIGHT

    def face_at(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The point (u, v) of the face seen at (x, y), and the surface's normal there."""
        a, b = x / self.half_width, y / HALF_HEIGHT
        normal = (a, b, (1 - a * a - b * b).clamp(min=0).sqrt())
        b, c = b * self.cos_pitch - normal[2] * self.sin_pitch, normal[2] * self.cos_pitch + b * self.sin_pitch
        return (a * self.cos_yaw - c * self.sin_yaw) * self.half_width, b * HALF_HEIGHT, normal


def turned(persons: Tensor, scenes: Scenes) -> Turn:
    """The turn of each head."""
    yaw, pitch = (scenes.yaw * TURN)[:, None, None], (scenes.pitch * TURN)[:, None, None]
    return Turn(value(persons, "face_width") * 1.3, yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin())


def pixel_middles(size: int, device: torch.device) -> Tensor:
    """Where the middles of the pixels are along a side that is 1 long, (size,)."""
    return (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size


def view(persons: Tensor, scenes: Scenes, size: int) -> View:
    """The coordinates of every pixel."""
    turn = turned(persons, scenes)
    steps = pixel_middles(size, persons.device)
    unit = (scenes.scale / FACE_HEIGHT)[:, None, None]  # one head unit, as a share of the picture's side
    right = (steps[None, None, :] - scenes.centre[:, 0, None, None]) / unit  # (b, 1, w)
    down = (steps[None, :, None] - scenes.centre[:, 1, None, None]) / unit  # (b, h, 1)
    cos, sin = scenes.roll.cos()[:, None, None], scenes.roll.sin()[:, None, None]
    x, y = right * cos + down * sin, down * cos - right * sin
    u, v, normal = turn.face_at(x, y)
    # The neck starts below the ears, and the body leans a fifth as far as the head.
    neck_x, neck_y = -0.75 * sin - 0.10 * turn.sin_yaw, 0.75 * cos
    cos, sin = (scenes.roll * 0.2).cos()[:, None, None], (scenes.roll * 0.2).sin()[:, None, None]
    right, down = right - neck_x, down - neck_y
    return View(
        x=x,
        y=y,
        u=u,
        v=v,
        normal=normal,
        body_x=right * cos + down * sin,
        body_y=down * cos - right * sin,
        pixel=1 / (size * unit),
        turn=turn,
    )


def in_pixels(points: list[tuple[Tensor, Tensor]], scenes: Scenes, size: int) -> Tensor:
    """Points in head units, each a pair of values, as pixels: (b, len(points), 2). The corner of a picture is 0."""
    x, y = (torch.cat([point[axis] for point in points], 1)[..., 0] for axis in (0, 1))  # (b, points)
    cos, sin = scenes.roll.cos()[:, None], scenes.roll.sin()[:, None]
    turned_points = torch.stack([x * cos - y * sin, x * sin + y * cos], -1)
    return (scenes.centre[:, None] + turned_points * (scenes.scale / FACE_HEIGHT)[:, None, None]) * size


def face_box(persons: Tensor, scenes: Scenes, size: int) -> Tensor:
    """The upright rectangle around each face from chin to hairline, cut at the picture, (b, 4): x0 y0 x1 y1."""
    chin = value(persons, "face_height")[:, 0, 0]
    middle, half_height = (chin - 0.8) / 2, (chin + 0.8) / 2
    half_width = value(persons, "face_width")[:, 0, 0]
    cos, sin = scenes.roll.cos(), scenes.roll.sin()
    half = torch.stack(
        [torch.hypot(half_width * cos, half_height * sin), torch.hypot(half_width * sin, half_height * cos)], 1
    )
    centre = torch.stack([-middle * sin, middle * cos], 1)
    unit = (scenes.scale / FACE_HEIGHT)[:, None]
    corners = torch.cat([scenes.centre + (centre - half) * unit, scenes.centre + (centre + half) * unit], 1)
    return (corners * size).clamp(0, size)
