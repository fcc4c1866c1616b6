"""What the detector is to say: which anchors answer for which face, and what wrong answers cost.

Notation: `b` pictures, `A` anchors, `K` places for faces in a picture.

Source: Li et al. 2020, "Generalized Focal Loss"; Rezatofighi et al. 2019, "Generalized Intersection over Union".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.face_pack.detector import Anchors, Answers

NEAR = 0.2  # an anchor may answer for a face whose middle is within this share of the face's size …
LEAST_CELLS, MOST_CELLS = 0.6, 1.5  # … but at least and at most so many strides away
OCTAVES = 0.75  # and whose size is not further from its own
DOUBT = 1.7  # up to so many times that, an anchor is told nothing
BOX_WEIGHT, POINT_WEIGHT = 2.0, 4.0


@dataclass(frozen=True)
class Faces:
    """Up to K faces in each of b pictures."""

    boxes: Tensor  # (b, K, 4) x0 y0 x1 y1 in pixels
    key_points: Tensor  # (b, K, 5, 2)
    there: Tensor  # (b, K) bool: whether there is a face at this place


@dataclass(frozen=True)
class Duty:
    """Which anchor answers for what."""

    positive: Tensor  # (b, A) bool
    face: Tensor  # (b, A) index of its face
    doubtful: Tensor  # (b, A) bool: neither face nor background


def duty(at: Anchors, faces: Faces) -> Duty:
    """Every face gets the anchors near its middle that are about as large as it is."""
    middles = (faces.boxes[..., :2] + faces.boxes[..., 2:]) / 2
    sizes = (faces.boxes[..., 2:] - faces.boxes[..., :2]).clamp(min=1).prod(-1).sqrt()[:, None]  # (b, 1, K)
    away = (at.centres[:, None] - middles[:, None]).abs().amax(-1)  # (b, A, K)
    strides = at.strides[:, None]
    reach = (NEAR * sizes).clamp(LEAST_CELLS * strides, MOST_CELLS * strides)
    octaves = (sizes.clamp(at.sizes.min(), at.sizes.max()) / at.sizes[:, None]).log2().abs()
    there = faces.there[:, None]
    fits = there & (away <= reach) & (octaves <= OCTAVES)
    doubtful = (there & (away <= DOUBT * reach) & (octaves <= DOUBT * OCTAVES)).any(-1)
    nearest = torch.where(fits, away, torch.inf).argmin(-1)
    positive = fits.any(-1)
    return Duty(positive, nearest, doubtful & ~positive)


def detector_loss(answers: Answers, at: Anchors, faces: Faces) -> Tensor:
    """Score, boxes and key points together, for each positive anchor."""
    told = duty(at, faces)
    boxes = faces.boxes.gather(1, told.face[..., None].expand(-1, -1, 4))
    points = faces.key_points.flatten(2).gather(1, told.face[..., None].expand(-1, -1, 10)).unflatten(-1, (5, 2))
    positive = told.positive.float()
    count = positive.sum().clamp(min=1)

    overlap, generalised = overlaps(answers.boxes, boxes)
    # A score of at least one half says that there is a face; the rest says how well its box fits.
    wanted = positive * (0.5 + 0.5 * overlap.detach().clamp(0, 1))
    certain = (answers.scores.sigmoid() - wanted).square() * ~told.doubtful
    score = F.binary_cross_entropy_with_logits(answers.scores, wanted, reduction="none") * certain.detach()
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1).prod(-1).sqrt()
    off = (answers.key_points - points).abs().sum((-1, -2)) / size
    each = BOX_WEIGHT * (1 - generalised) + POINT_WEIGHT * off
    return (score.sum() + (each * positive).sum()) / count


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes (…, 4), and its generalised form that also tells how far apart they are."""
    shared = _area(torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:]))
    around = _area(torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:]))
    union = _area(first[..., :2], first[..., 2:]) + _area(second[..., :2], second[..., 2:]) - shared
    plain = shared / union.clamp(min=1e-6)
    return plain, plain - (around - union) / around.clamp(min=1e-6)


def _area(start: Tensor, end: Tensor) -> Tensor:
    return (end - start).clamp(min=0).prod(-1)
