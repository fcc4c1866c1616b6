"""The detector: a small SCRFD. Strides 8, 16 and 32, two anchors in each cell, five key points.

Notation: `b` pictures; `A` anchors in the order of SCRFD's outputs: stride by stride, row by row, two to a cell.

Source: Guo et al. 2021, "Sample and Computation Redistribution for Efficient Face Detection".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.face_pack.layers import Residual, relu, unit

STRIDES = (8, 16, 32)
ANCHOR_SIZES = (2, 4)  # in strides: each anchor answers for faces of about this size
WIDTHS = (24, 48, 96, 128)  # of the maps at strides 4, 8, 16 and 32
NECK = 64
HEAD_DEPTH = 3
FAR = (2, 4)  # dilations of further blocks at stride 32: a face that fills a picture of 640 is seen as a whole
OUTPUTS = {"score": 1, "bbox": 4, "kps": 10}  # numbers for each anchor
LIKELY = -4.6  # score of a new network: one anchor in a hundred holds a face


class Detector(nn.Module):
    """(b, 3, H, W) RGB in -1 … 1, sides multiples of 32 -> nine maps: scores, boxes, key points at each stride."""

    def __init__(self) -> None:
        super().__init__()
        quarter, eighth, sixteenth, last = WIDTHS
        self.stem = nn.Sequential(*unit(3, 16, 3, 2), nn.ReLU(), Residual(16, quarter, 2, relu))
        self.levels = nn.ModuleList(
            nn.Sequential(Residual(inner, outer, 2, relu), Residual(outer, outer, 1, relu))
            for inner, outer in ((quarter, eighth), (eighth, sixteenth), (sixteenth, last))
        )
        self.levels[-1].extend(Residual(last, last, 1, relu, dilation) for dilation in FAR)
        self.lateral = nn.ModuleList(unit(width, NECK, 1) for width in WIDTHS[1:])
        # One for each stride: the statistics of a batch norm that all share would be right for none of them.
        self.heads = nn.ModuleList(
            nn.Sequential(*(part for _ in range(HEAD_DEPTH) for part in (*unit(NECK, NECK), nn.ReLU())))
            for _ in STRIDES
        )
        self.answers = nn.ModuleDict(
            {name: nn.Conv2d(NECK, len(ANCHOR_SIZES) * count, 1) for name, count in OUTPUTS.items()}
        )
        nn.init.constant_(self.answers["score"].bias, LIKELY)
        nn.init.constant_(self.answers["bbox"].bias, 1.0)
        for name, count in OUTPUTS.items():
            # Half an anchor's size is the unit in which the network speaks of places; SCRFD's is the stride.
            sizes = torch.tensor(ANCHOR_SIZES, dtype=torch.float32) / 2
            self.register_buffer(f"{name}_unit", sizes.repeat_interleave(count).view(1, -1, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Three maps (b, 2, h, w) of scores before the sigmoid, three (b, 8, h, w) of distances in strides from the
        cell's corner to left, top, right and bottom, three (b, 20, h, w) of key points in the same measure."""
        maps = []
        x = self.stem(pictures)
        for level, lateral in zip(self.levels, self.lateral):
            x = level(x)
            maps.append(lateral(x))
        for i in (1, 0):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], scale_factor=2.0, mode="nearest")
        heads = [head(x) for head, x in zip(self.heads, maps)]
        scores = [self.answers["score"](x) for x in heads]
        boxes = [self.answers["bbox"](x) * self.bbox_unit for x in heads]
        points = [self.answers["kps"](x) * self.kps_unit for x in heads]
        return (*scores, *boxes, *points)


@dataclass(frozen=True)
class Anchors:
    """Where all anchors of a picture are."""

    centres: Tensor  # (A, 2) pixels
    strides: Tensor  # (A,) pixels
    sizes: Tensor  # (A,) pixels


@functools.lru_cache(maxsize=32)
def anchors(height: int, width: int, device: torch.device | str = "cpu") -> Anchors:
    """Those of pictures of this size; kept, because training asks for a few sizes again and again."""
    centres, strides, sizes = [], [], []
    for stride in STRIDES:
        rows, columns = (torch.arange(0, side, stride, device=device) for side in (height, width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        places = torch.stack([x, y], -1).view(-1, 1, 2).expand(-1, len(ANCHOR_SIZES), 2).reshape(-1, 2)
        centres.append(places.float())
        strides.append(torch.full((len(places),), float(stride), device=device))
        sizes.append(stride * torch.tensor(ANCHOR_SIZES, device=device).float().repeat(len(places) // 2))
    return Anchors(torch.cat(centres), torch.cat(strides), torch.cat(sizes))


@dataclass(frozen=True)
class Answers:
    """What the network says at each anchor."""

    scores: Tensor  # (b, A) before the sigmoid
    boxes: Tensor  # (b, A, 4) x0 y0 x1 y1 in pixels
    key_points: Tensor  # (b, A, 5, 2) in pixels


def decoded(maps: tuple[Tensor, ...], at: Anchors) -> Answers:
    """The nine maps as places in the picture, in float32; as insightface reads them."""
    scores, distances, points = (
        torch.cat([x.float().permute(0, 2, 3, 1).reshape(len(x), -1, width) for x in maps[3 * i : 3 * i + 3]], 1)
        for i, width in enumerate(OUTPUTS.values())
    )
    distances, points = distances * at.strides[:, None], points * at.strides[:, None]
    boxes = torch.cat([at.centres - distances[..., :2], at.centres + distances[..., 2:]], -1)
    return Answers(scores[..., 0], boxes, points.unflatten(-1, (5, 2)) + at.centres[:, None])
