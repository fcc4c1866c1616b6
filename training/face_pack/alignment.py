"""A face turned upright and brought to the size that recognisers read, for whole batches on any device.

The same numbers give the same crop as insightface's `norm_crop`: pixels are counted there from the middle of the first
one, and what lies outside the picture is black.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.face_world.constants import constant

CROP = 112  # pixels, side of an aligned crop
# Where ArcFace wants the eyes, the tip of the nose and the corners of the mouth in it.
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


def similarity(points: Tensor, wanted: Tensor) -> Tensor:
    """The rotations, scalings and shifts that bring `points` (b, n, 2) nearest to `wanted` (n, 2), (b, 2, 3).

    Source: Umeyama 1991, "Least-squares estimation of transformation parameters"; in the plane it has a closed form.
    """
    centre, middle = points.mean(1, keepdim=True), wanted.mean(0)
    x, y = (points - centre).unbind(-1)  # (b, n)
    u, v = (wanted - middle).unbind(-1)
    spread = (x * x + y * y).sum(1).clamp(min=1e-12)
    along, across = (x * u + y * v).sum(1) / spread, (x * v - y * u).sum(1) / spread
    turn = torch.stack([along, -across, across, along], 1).view(-1, 2, 2)
    return torch.cat([turn, middle[:, None] - turned(centre, turn).transpose(1, 2)], 2)


def inverse(matrices: Tensor) -> Tensor:
    """The way back of similarities (b, 2, 3)."""
    turn, shift = matrices[..., :2], matrices[..., 2:]
    back = turn.transpose(1, 2) / turn.square().sum((1, 2), keepdim=True).mul(0.5).clamp(min=1e-12)
    return torch.cat([back, -turned(shift.transpose(1, 2), back).transpose(1, 2)], 2)


def moved(points: Tensor, matrices: Tensor) -> Tensor:
    """Points (b, n, 2) after similarities (b, 2, 3)."""
    return turned(points, matrices[..., :2]) + matrices[..., 2][:, None]


def turned(points: Tensor, turns: Tensor) -> Tensor:
    """Points (b, n, 2) after turns (b, 2, 2). A matrix product would be rounded to ten bits on newer cards: pixels
    would miss each other."""
    x, y = points[..., :1], points[..., 1:]
    return x * turns[:, None, :, 0] + y * turns[:, None, :, 1]


def sampled(pictures: Tensor, matrices: Tensor, size: int) -> Tensor:
    """Square pictures (b, c, size, size) that show at their pixel p what `pictures` (b, c, h, w) show at matrix · p.

    Between pixels it is bilinear, outside black.
    """
    height, width = pictures.shape[-2:]
    steps = torch.arange(size, device=pictures.device, dtype=torch.float32)
    target = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(1, -1, 2)
    source = moved(target.expand(len(pictures), -1, -1), matrices)
    places = ((2 * source + 1) / constant((width, height), pictures.device) - 1).view(-1, size, size, 2)
    return F.grid_sample(pictures, places.to(pictures.dtype), mode="bilinear", align_corners=False)


def aligned(pictures: Tensor, key_points: Tensor) -> Tensor:
    """The faces of `pictures` (b, 3, h, w) at `key_points` (b, 5, 2), upright, (b, 3, 112, 112), in their range."""
    wanted = constant(TEMPLATE, pictures.device)
    return sampled(pictures, inverse(similarity(key_points.float(), wanted)), CROP)
