"""Weights kept in 8 bits and computed with in full: half the memory for large layers on small cards.

Each row of a weight is divided by its own largest value and rounded to int8; before each use it is multiplied back into
the precision that the layer computes in (one kernel, and the copy is gone after the layer). PyTorch's parametrizations
do the bookkeeping, so a layer stays what it was to everyone else.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

LARGEST = 127  # of int8, symmetric
SMALLEST_LAYER = 2**16  # elements; below that nothing is gained


class Int8(nn.Module):
    """weight (rows, …) in `dtype` ⇄ int8 of the same shape and one scale per row."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, rounded: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return rounded * scale

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = weight.detach().float()
        largest = rows.flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
        scale = (largest / LARGEST).reshape(-1, *[1] * (weight.ndim - 1))
        return (rows / scale).round().to(torch.int8), scale.to(self.dtype)


@torch.no_grad()
def keep_in_int8(model: nn.Module) -> int:
    """Keeps the weights of the large linear and convolution layers of `model` in int8; returns how many elements.

    Norms, embeddings, biases, small layers and the identity's own layers stay as they are.
    """
    kept = 0
    for name, layer in list(model.named_modules()):
        is_large = isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.numel() >= SMALLEST_LAYER
        if is_large and ".processor." not in name:
            layer.weight.requires_grad_(False)
            parametrize.register_parametrization(layer, "weight", Int8(layer.weight.dtype), unsafe=True)
            kept += layer.parametrizations.weight.original0.numel()
    return kept
