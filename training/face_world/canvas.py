"""A canvas that is painted on from back to front, and the shapes to paint.

Notation: `b` pictures of `h`×`w` pixels. A *field* is one number per pixel, (b, h, w); a *value* one per picture,
(b, 1, 1); a colour is (b, 3) or (3,), 0 … 1. A shape is a field of signed distances, negative inside, in the units of
the coordinates it is made from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

AWAY = 9.0  # a distance that no pixel is within


class Canvas:
    """The picture so far, and the lines that a pen would draw on it.

    Attributes:
        picture: (b, 3, h, w), 0 … 1.
        lines: (b, h, w), how much of a drawn contour lies on each pixel, 0 … 1; what is painted over hides it.
        subject: (b, h, w), 1 where the person is and 0 where the background is.
        pixel: (b, 1, 1), the side of a pixel in the units of the shapes.
        pen: (b, 1, 1), half the width of a contour in the same units.
    """

    def __init__(self, picture: Tensor, pixel: Tensor, pen: Tensor) -> None:
        self.picture = picture
        self.lines = torch.zeros_like(picture[:, 0])
        self.subject = torch.zeros_like(picture[:, 0])
        self.pixel = pixel
        self.pen = pen

    def fill(self, shape: Tensor, colour: Tensor, opacity: Tensor | float = 1.0, outline: float = 1.0) -> None:
        """Paints a shape of the person with sharp, antialiased edges; `colour` may also be a (b, 3, h, w) picture."""
        mask = self.coverage(shape)
        if isinstance(opacity, Tensor) or opacity < 1:
            mask.mul_(opacity)
        self.picture.lerp_(as_paint(colour), mask[:, None])
        torch.maximum(self.subject, mask, out=self.subject)
        self.lines.addcmul_(self.lines, mask, value=-1)
        if outline:
            self.draw(shape.abs() - self.pen, outline * (opacity if isinstance(opacity, Tensor) else 1.0))

    def draw(self, line: Tensor, strength: Tensor | float = 1.0) -> None:
        """Adds a shape to the lines only."""
        torch.maximum(self.lines, self.coverage(line).mul_(strength), out=self.lines)

    def tint(self, mask: Tensor, colour: Tensor) -> None:
        """Lays a soft colour over the picture where `mask` (b, h, w), 0 … 1, says."""
        self.picture.lerp_(as_paint(colour), mask[:, None])

    def shade(self, mask: Tensor, factor: Tensor) -> None:
        """Multiplies the picture by a colour where `mask` (b, h, w), 0 … 1, says: shadows and glazes."""
        self.picture.addcmul_(self.picture * mask[:, None], as_paint(factor - 1))

    def coverage(self, shape: Tensor) -> Tensor:
        """How much of each pixel lies inside a shape, 0 … 1."""
        return (shape / self.pixel).neg_().add_(0.5).clamp_(0, 1)

    def __getitem__(self, rows: Tensor) -> Canvas:
        """A copy of some of the pictures."""
        part = Canvas(self.picture[rows], self.pixel[rows], self.pen[rows])
        part.lines, part.subject = self.lines[rows], self.subject[rows]
        return part

    def __setitem__(self, rows: Tensor, part: Canvas) -> None:
        self.picture[rows], self.lines[rows], self.subject[rows] = part.picture, part.lines, part.subject


def paint_where(canvas: Canvas, chosen: Tensor, painter: Callable[..., None], *things: Any) -> None:
    """Lets `painter(canvas, *things)` paint only the pictures that are `chosen`, (b,) of bool."""
    rows = chosen.nonzero()[:, 0]
    if len(rows):
        part = canvas[rows]
        painter(part, *(rows_of(thing, rows) for thing in things))
        canvas[rows] = part


def rows_of(thing: Any, rows: Tensor) -> Any:
    """Some rows of a batch: of a tensor, or of all tensors of a tuple, a table or a dataclass."""
    if isinstance(thing, Tensor):
        return thing[rows]
    if isinstance(thing, tuple):
        return tuple(rows_of(part, rows) for part in thing)
    if isinstance(thing, dict):
        return {name: rows_of(part, rows) for name, part in thing.items()}
    return type(thing)(**{field.name: rows_of(getattr(thing, field.name), rows) for field in fields(thing)})


def as_paint(colour: Tensor) -> Tensor:
    """A colour as something that spreads over (b, 3, h, w)."""
    return colour if colour.ndim == 4 else colour[..., :, None, None] if colour.ndim == 2 else colour[:, None, None]


def mix(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Colours (b, 3, h, w) between two paints, `weight` a field in 0 … 1."""
    return torch.lerp(as_paint(first), as_paint(second), weight[:, None])


def circle(x: Tensor, y: Tensor, radius: Tensor | float) -> Tensor:
    """A disc about the origin."""
    return torch.hypot(x, y) - radius


def ellipse(x: Tensor, y: Tensor, half_width: Tensor | float, half_height: Tensor | float) -> Tensor:
    """An ellipse about the origin; distances are exact at the edge and near enough around it."""
    x, y = x / half_width, y / half_height
    length = torch.hypot(x, y)
    slope = torch.hypot(x / half_width, y / half_height)
    return length * (length - 1) / slope.clamp(min=1e-4)


def rounded(x: Tensor, y: Tensor, power: Tensor | float) -> Tensor:
    """Radius of (x, y) in a superellipse: 1 on its edge; `power` 2 is an ellipse, more is squarer."""
    return (x.abs().clamp(1e-3, 4) ** power + y.abs().clamp(1e-3, 4) ** power) ** (1 / power)


def box(
    x: Tensor, y: Tensor, half_width: Tensor | float, half_height: Tensor | float, radius: Tensor | float
) -> Tensor:
    """A rectangle about the origin with round corners."""
    x, y = x.abs() - (half_width - radius), y.abs() - (half_height - radius)
    return torch.hypot(x.clamp(min=0), y.clamp(min=0)) + torch.maximum(x, y).clamp(max=0) - radius


def joined(first: Tensor, second: Tensor, softness: float) -> Tensor:
    """Both shapes as one, the corner between them filled over `softness`."""
    meeting = (0.5 + 0.5 * (second - first) / softness).clamp(0, 1)
    return torch.lerp(second, first, meeting) - softness * meeting * (1 - meeting)


def both(*shapes: Tensor) -> Tensor:
    """What lies inside all of the shapes."""
    common = shapes[0]
    for shape in shapes[1:]:
        common = torch.maximum(common, shape)
    return common


def smooth_step(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """0 below `low`, 1 above `high` (or the other way round where `low` is the greater), rounded between."""
    t = (x - low).div_(high - low).clamp_(0, 1)
    return (t * -2).add_(3).mul_(t).mul_(t)


def bump(x: Tensor, width: Tensor | float) -> Tensor:
    """A bell of height 1 about 0, a third of it at `width` and nothing beyond twice that."""
    return (x / (2.2 * width)).square_().neg_().add_(1).clamp_(min=0).pow_(5)


def cells(x: Tensor, y: Tensor, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The plane cut into unit squares: place within the square (-0.5 … 0.5, twice), and a number 0 … 1 per square.

    `phase` (b, 1, 1) makes the numbers of one picture differ from another's.
    """
    column, row = torch.floor(x), torch.floor(y)
    # Few digits are kept of the sine, so that machines whose sines differ in the last one agree.
    number = torch.sin(column * 12.9898 + row * 78.233 + phase * 40) * 437.58
    return x - column - 0.5, y - row - 0.5, number - torch.floor(number)
