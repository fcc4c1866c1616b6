"""What the networks can do with people they were never trained on, on the device and without further libraries.

These are the quick figures after a stage; `measure` has those that count, through the exported files and insightface.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.face_pack.alignment import aligned
from training.face_pack.detector import Detector, anchors, decoded
from training.face_pack.detector_loss import overlaps
from training.face_pack.pool import LABELS, rendered
from training.face_pack.traits import CLASSES, SIDE, TraitClassifier
from training.face_world import Rendering, scenes, seeds

ENLARGED = 640  # pixels: what insightface makes of a picture before it looks for faces


def held_out(count: int, device: torch.device, turn: int = 0) -> Rendering:
    """`count` people nobody has seen; each `turn` shows them in other scenes."""
    numbers = torch.arange(count)
    return rendered(numbers + turn * count, numbers, SIDE, seeds.FACE_PACK_CHECK, device)


@torch.no_grad()
def top_one(network: nn.Module, device: torch.device, count: int = 256) -> float:
    """The share of people who are most alike to themselves in another scene."""
    network.eval()
    known, asked = (_directions(network, held_out(count, device, turn)) for turn in (0, 1))
    return float(((asked @ known.T).argmax(1) == torch.arange(count, device=device)).float().mean())


@torch.no_grad()
def found(network: Detector, device: torch.device, count: int = 256) -> tuple[float, float]:
    """The share of faces found in enlarged pictures, and the error of their key points in distances of the eyes."""
    network.eval()
    scene = held_out(count, device)
    scale, at = ENLARGED / SIDE, anchors(ENLARGED, ENLARGED, device)
    hits, errors = [], []
    for start in range(0, count, 16):
        part = slice(start, start + 16)
        pictures = F.interpolate(scene.picture[part], (ENLARGED, ENLARGED), mode="bilinear")
        answers = decoded(network(pictures * 2 - 1), at)
        scores, best = answers.scores.sigmoid().max(1)
        row = torch.arange(len(best), device=device)
        fits = overlaps(answers.boxes[row, best] / scale, scene.box[part])[0]
        hits.append((scores >= 0.5) & (fits >= 0.5))
        points = scene.key_points[part]
        away = torch.linalg.vector_norm(answers.key_points[row, best] / scale - points, dim=-1).mean(1)
        errors.append(away / torch.linalg.vector_norm(points[:, 1] - points[:, 0], dim=-1))
    seen = torch.cat(hits)
    error = torch.cat(errors)[seen].mean() if seen.any() else torch.tensor(torch.nan)
    return float(seen.float().mean()), float(error)


@torch.no_grad()
def named(network: TraitClassifier, device: torch.device, count: int = 512) -> dict[str, float]:
    """The share of pictures of which each trait is named rightly."""
    network.eval()
    answers = network(held_out(count, device).picture * 2 - 1)
    shown = scenes(torch.arange(count), seeds.FACE_PACK_CHECK).to(device)
    return {
        name: float((said.argmax(1) == getattr(shown, label)).float().mean())
        for name, label, said in zip(CLASSES, LABELS, answers)
    }


def _directions(network: nn.Module, scene: Rendering) -> Tensor:
    return F.normalize(network(aligned(scene.picture, scene.key_points) * 2 - 1))
