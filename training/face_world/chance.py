"""Random numbers as a function of what they are for: no state, so any one of them can be drawn again alone.

An integer hash gives the same bits on every device, which torch's generators do not.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from instantid.messages import user_error

Number = TypeVar("Number", int, Tensor)

LOW_32 = 0xFFFFFFFF
MOST_INDEX = 2**40


def uniform(indices: Tensor, seed: int, purpose: str, count: int) -> Tensor:
    """Numbers in [0, 1), float32 (b, count), for `indices` (b,); other seeds and purposes give others."""
    stream = _mixed(zlib.crc32(f"{seed} {purpose}".encode()))
    rows = _mixed(_mixed(indices.long() ^ stream) + (indices.long() >> 32))  # (b,)
    return (_mixed(rows[:, None] + _columns(count, indices.device)) >> 8).float() / 2**24


@functools.lru_cache(maxsize=64)
def _columns(count: int, device: torch.device) -> Tensor:
    """What tells the numbers of one index apart, (count,)."""
    return _mixed(torch.arange(1, count + 1, device=device) * 0x9E3779B1)


def as_indices(indices: Iterable[int] | Tensor) -> Tensor:
    """`indices` as int64 (b,). Raises: UserError for an empty list, a negative one or one of 2**40 and above."""
    if not isinstance(indices, Tensor):
        indices = torch.tensor(list(indices), dtype=torch.long)
    if indices.ndim != 1 or indices.numel() == 0 or indices.is_floating_point():
        raise user_error("face_world.indices", shape=tuple(indices.shape), kind=str(indices.dtype))
    if indices.min() < 0 or indices.max() >= MOST_INDEX:
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise user_error("face_world.index", index=int(wrong), most=MOST_INDEX - 1)
    return indices.long()


def smooth_noise(indices: Tensor, purpose: str, cells: int, size: int) -> Tensor:
    """Clouds in 0 … 1, (b, size, size), with `cells` bumps along a side; the same clouds at every size."""
    grid = uniform(indices, 0, f"{purpose} {cells}", cells * cells).view(-1, 1, cells, cells)
    return F.interpolate(grid, (size, size), mode="bilinear" if cells > size // 2 else "bicubic")[:, 0].clamp(0, 1)


def _mixed(x: Number) -> Number:
    """32 bits of `x` shuffled so that neighbours share nothing (lowbias32 of Wellons' hash-prospector)."""
    x = x & LOW_32
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & LOW_32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & LOW_32
    return x ^ (x >> 16)
