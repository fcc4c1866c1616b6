"""Pictures side by side in one file."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def save_sheet(pictures: Tensor, columns: int, file: Path) -> None:
    """Write (n, 3, h, w) in 0 … 1 as a PNG, from left to right and top to bottom."""
    file.parent.mkdir(parents=True, exist_ok=True)
    as_pil(torch.cat([torch.cat(list(row), -1) for row in _rows(pictures, columns)], -2)).save(file)


def as_pil(picture: Tensor) -> Image.Image:
    """(3, h, w) in 0 … 1."""
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def _rows(pictures: Tensor, columns: int) -> list[Tensor]:
    missing = -len(pictures) % columns
    return list(torch.cat([pictures, pictures.new_zeros(missing, *pictures.shape[1:])]).split(columns))
