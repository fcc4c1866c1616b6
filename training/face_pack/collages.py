"""What the detector learns from: faces of all sizes, alone or in rows, framed, cut close, or not there at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.face_pack.alignment import inverse, moved, sampled, turned
from training.face_pack.detector_loss import Faces
from training.face_pack.dice import Dice
from training.face_pack.pool import Drawing, Pool
from training.face_pack.spoiling import recoloured, spoiled
from training.face_world.constants import constant

LEAST_FACE = 12.0  # pixels, height in the collage
MOST_FACE = 1.2  # of a cell's side: tight crops
MOST_ENLARGED = 8.0
MOST_TILT = 0.3  # radians, added to the tilt of the head
WHOLE = 0.45  # share of the cells that show a whole picture
EMPTY = 0.12  # share of the cells that show nobody
BLACK = 0.4  # share of the frames that are black, as insightface's


@dataclass(frozen=True)
class Layout:
    """So many collages of side×side pixels, each of grid×grid cells."""

    side: int
    grid: int
    batch: int


def collages(pool: Pool, layout: Layout, dice: Dice) -> tuple[Tensor, Faces]:
    """Pictures (batch, 3, side, side) in 0 … 1, and where the faces are."""
    grid, cell = layout.grid, layout.side // layout.grid
    count = layout.batch * grid**2
    drawing = pool.draw(count, dice)
    matrices = placed(drawing, cell, pool.size.side, dice)
    # The frame is what the opaque fourth channel does not cover.
    opaque = torch.cat([spoiled(drawing.pictures, dice, 1.0), torch.ones_like(drawing.pictures[:, :1])], 1)
    seen = sampled(opaque, inverse(_between_middles(matrices)), cell)
    full = dice.uniform(count) >= EMPTY
    seen = seen * full[:, None, None, None]
    cells = seen[:, :3] + (1 - seen[:, 3:]) * frames(count, cell, dice)

    pictures = cells.view(layout.batch, grid, grid, 3, cell, cell).permute(0, 3, 1, 4, 2, 5)
    pictures = pictures.reshape(layout.batch, 3, layout.side, layout.side)
    corners = torch.stack(torch.meshgrid(*[torch.arange(grid, device=pool.device) * cell] * 2, indexing="xy"), -1)
    corners = corners.view(1, grid**2, 2).expand(layout.batch, -1, -1).reshape(count, 1, 2)
    boxes = (_boxes(drawing.boxes, matrices).clamp(0, cell).view(count, 2, 2) + corners).view(layout.batch, -1, 4)
    points = (moved(drawing.key_points, matrices) + corners).view(layout.batch, -1, 5, 2)
    return recoloured(pictures, dice, 0.4).clamp(0, 1), Faces(boxes, points, full.view(layout.batch, -1))


def placed(drawing: Drawing, cell: int, side: int, dice: Dice) -> Tensor:
    """How pictures lie in their cells, (b, 2, 3) from corner to corner: whole, or moved so that the face has any size
    and its middle is in sight."""
    b = len(drawing.pictures)
    middles = (drawing.boxes[:, :2] + drawing.boxes[:, 2:]) / 2
    heights = drawing.boxes[:, 3] - drawing.boxes[:, 1]
    shares = dice.uniform(b)
    least = min(LEAST_FACE, cell / 4)
    wanted = least * (MOST_FACE * cell / least) ** shares
    scale = (wanted / heights).clamp(max=MOST_ENLARGED)
    angle = MOST_TILT * (dice.uniform(b, least=-1) + dice.uniform(b, least=-1)) / 2
    margin = (0.45 * heights * scale).clamp(max=cell / 2)[:, None]
    target = margin + (cell - 2 * margin) * dice.uniform(b, 2)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
    shift = target[:, None] - turned(middles[:, None], turn)
    near = torch.cat([turn, shift.transpose(1, 2)], 2)
    whole = constant(((1, 0, 0), (0, 1, 0)), middles.device) * (cell / side)
    return torch.where((dice.uniform(b) < WHOLE)[:, None, None], whole, near)


def frames(count: int, side: int, dice: Dice) -> Tensor:
    """What lies around pictures and where nobody is: black, one colour, a gradient, noise; (b, 3, side, side)."""
    across = torch.linspace(-0.5, 0.5, side, device=dice.device)
    slope = dice.seldom(0.4, count, 3, 1, 1) * across + dice.seldom(0.4, count, 3, 1, 1) * across[:, None]
    grain = dice.normal(count, 3, side, side) * (0.3 * dice.seldom(0.3, count, 1, 1, 1))
    coloured = (dice.uniform(count, 3, 1, 1) + slope + grain).clamp(0, 1)
    return coloured * (dice.uniform(count, 1, 1, 1) >= BLACK)


def _between_middles(matrices: Tensor) -> Tensor:
    """From coordinates that count from a picture's corner to those that count from its first pixel's middle."""
    turn, shift = matrices[..., :2], matrices[..., 2]
    return torch.cat([turn, (shift + turn.sum(-1) * 0.5 - 0.5)[..., None]], 2)


def _boxes(boxes: Tensor, matrices: Tensor) -> Tensor:
    """Upright boxes (b, 4) around what was moved; their sides are scaled and do not grow with the tilt."""
    scale = torch.linalg.vector_norm(matrices[:, :, 0], dim=1)[:, None]
    middles = moved(((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None], matrices)[:, 0]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    return torch.cat([middles - half, middles + half], 1)
