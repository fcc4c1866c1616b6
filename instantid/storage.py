"""Weights kept in 8 bits and computed with in full: half the memory for large layers on small cards.

Each row of a weight is divided by its own largest value and rounded to int8; before each use it is multiplied back into
the precision that the layer computes in (one kernel, and the copy is gone after the layer). PyTorch's parametrizations
do the bookkeeping, so a layer stays what it was to everyone else.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn.utils import parametrize

from instantid.messages import state_error

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
        rows = weight.detach().to(torch.float32, copy=True)  # changed in place below: the GPU is nearly full here
        largest = torch.linalg.vector_norm(rows.flatten(1), ord=torch.inf, dim=1)
        scale = (largest / LARGEST).to(self.dtype).reshape(-1, *[1] * (weight.ndim - 1))
        scale[scale == 0] = 1  # a row of zeros stays one
        # Divided by the scale as it is kept, so that its own rounding costs nothing.
        return rows.div_(scale).round_().clamp_(-LARGEST, LARGEST).to(torch.int8), scale


@torch.no_grad()
def keep_in_int8(model: nn.Module) -> int:
    """Keeps the weights of the large linear and convolution layers of `model` in int8; returns how many elements.

    Norms, embeddings, biases, small layers and the identity's own layers stay as they are, and so does what is in int8
    already. LoRAs may be loaded on top; fusing them into such a model raises StateError.
    """
    kept = 0
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, nn.Linear | nn.Conv2d) or parametrize.is_parametrized(layer, "weight"):
            continue
        weight = layer.weight
        if weight.numel() >= SMALLEST_LAYER and ".processor." not in name:
            weight.requires_grad_(False)
            parametrize.register_parametrization(layer, "weight", Int8(weight.dtype), unsafe=True)
            kept += weight.numel()
    if kept and hasattr(model, "fuse_lora"):
        model.fuse_lora = refuse_to_fuse
    return kept


def refuse_to_fuse(*args: Any, **kwargs: Any) -> NoReturn:
    """In place of a diffusers model's method: it would change a copy that is gone after the layer, without a word."""
    raise state_error("storage.no_fusing")
