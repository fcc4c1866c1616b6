"""Small tables on the device."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.cache
def constant(values: tuple, device: torch.device) -> Tensor:
    """`values` as float32, brought there once: to bring them again would wait for everything that is queued."""
    return torch.tensor(values, dtype=torch.float32, device=device)
