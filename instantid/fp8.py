"""Matrix products in 8 bits: the large linear layers of transformer blocks, weights and inputs alike.

For cards that multiply 8-bit floating-point numbers twice as fast as 16-bit ones: NVIDIA's from Ada and Hopper on. Each
row of a weight and each row of an input is divided by its own largest value and rounded to float8 (e4m3, three binary
digits); sums are made in float32. The weight takes half the memory, and to everyone else a layer stays what it was.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from instantid.storage import SMALLEST_LAYER, refuse_to_fuse

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
LEFT_OUT = (".processor.", ".attn2.to_k", ".attn2.to_v")  # the identity's, and text: once per picture, few rows
MULTIPLE = 16  # of both sides of a weight: what the products ask for


class Fp8(nn.Module):
    """weight (rows, columns) in `dtype` ⇄ float8 of the same shape and one scale per row, (rows, 1) in float32.

    Both are kept as whole numbers of the same bits: libraries that cast a model to another precision leave those alone.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, rounded: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        rounded, scale = read(rounded, scale)
        return (rounded.float() * scale).to(self.dtype)

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rounded, scale = rounded_rows(weight.detach())
        return rounded.view(torch.int8), scale.view(torch.int32)


class Fp8Linear(nn.Linear):
    """A linear layer whose weight is kept by `Fp8`: its product is made of what is kept."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        kept = self.parametrizations.weight
        weight, scale = read(kept.original0, kept.original1)
        rows, steps = rounded_rows(inputs.flatten(0, -2))
        bias = None if self.bias is None else self.bias.to(torch.bfloat16)
        out = torch._scaled_mm(
            rows, weight.t(), scale_a=steps, scale_b=scale.t(), bias=bias, out_dtype=torch.bfloat16
        )  # with a scale per row the product is only there in bfloat16
        return out.to(inputs.dtype).unflatten(0, inputs.shape[:-1])


def read(rounded: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `Fp8` keeps, as the numbers that it is."""
    return rounded.view(FP8), scale.view(torch.float32)


def rounded_rows(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, columns) -> the same in float8, and (rows, 1) in float32: what one of it stands for."""
    scale = values.abs().amax(1, keepdim=True).float().div_(LARGEST)
    scale = torch.where(scale > 0, scale, 1.0)  # a row of zeros stays one
    return (values / scale).clamp_(-LARGEST, LARGEST).to(FP8), scale


@torch.no_grad()
def multiply_in_fp8(model: nn.Module) -> int:
    """Gives the large linear layers in the transformer blocks of `model` products in float8; returns how many elements.

    LoRAs may be loaded on top; fusing them into such a model raises StateError.
    """
    changed = 0
    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear or ".transformer_blocks." not in name or any(part in name for part in LEFT_OUT):
            continue
        weight = layer.weight
        if weight.numel() >= SMALLEST_LAYER and all(side % MULTIPLE == 0 for side in weight.shape):
            weight.requires_grad_(False)
            layer.__class__ = Fp8Linear
            parametrize.register_parametrization(layer, "weight", Fp8(weight.dtype), unsafe=True)
            changed += weight.numel()
    if changed and hasattr(model, "fuse_lora"):
        model.fuse_lora = refuse_to_fuse
    return changed
