"""What models and pictures are expected to take: pure arithmetic, numbers in, GiB out. Knows no torch.

The constants were measured, see docs/memory_guide.md. Memory in GiB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instantid.component_sizes import ComponentSizes

GIB = 2**30
BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
MEGAPIXEL = 1024 * 1024  # of SDXL's square picture

# Measured on an H100 from 512² to 1536²: what working takes beside the weights.
DENOISING_GIB = 0.58  # per megapixel, both halves of guidance, in half precision
TEXT_GIB = 0.05
LARGER_TEXT_ENCODER = 0.85  # its share of both: from RAM they come one after the other
DECODING_GIB = 4.9  # per megapixel, a whole picture in float32
# Side of a VAE tile -> what decoding takes; the picture's size hardly matters then. The largest that fits is taken.
TILES_GIB = {512: 1.3, 384: 0.8, 256: 0.42}
FP8_SHARE = 0.72  # of SDXL's UNet, and of IdentityNet: what is in the layers that are multiplied in 8 bits
# What these were measured with. Work grows with the width of a model, weights with its square: toy models take little.
MEASURED_PARAMETERS = {"unet": 2567e6, "vae": 84e6}
# Per megapixel in half precision: what captured graphs use all the time, and what they keep from others for their work.
GRAPHS_GIB, GRAPHS_POOL_GIB = 0.27, 0.55
WORKSPACE_GIB = 0.05  # cuBLAS
SEQUENTIAL_GIB = 0.05  # one layer at a time


@dataclass(frozen=True)
class Rung:
    """One way to use memory.

    offload: none: all stays on the GPU. idle: what the denoising loop does not need waits in RAM. model, sequential:
        diffusers' own, whole models in turn or layer by layer; model is on no ladder, idle is faster in less memory.
    storage: full. int8-unet: the UNet's large layers in 8 bits. int8: IdentityNet's too. fp8: the linear ones of both,
        which are multiplied so too; on no ladder.
    precision: what is computed in.
    """

    offload: str
    storage: str
    precision: str


@dataclass(frozen=True)
class Picture:
    """What the plan is made for."""

    width: int = 1024
    height: int = 1024

    @property
    def megapixels(self) -> float:
        return self.width * self.height / MEGAPIXEL


def weights_gib(sizes: ComponentSizes, rung: Rung) -> dict[str, float]:
    """What each component takes on this rung; the Resampler is always in float32."""
    width = BYTES[rung.precision]
    linear_in_8_bits = width - FP8_SHARE * (width - 1)
    widths = {
        "unet": {"full": width, "fp8": linear_in_8_bits}.get(rung.storage, 1),
        "identitynet": {"int8": 1, "fp8": linear_in_8_bits}.get(rung.storage, width),
        "text_encoders": width,
        "vae": width,
        "identity_layers": width,
        "resampler": 4,
    }
    return {name: getattr(sizes, name).parameters * bytes_each / GIB for name, bytes_each in widths.items()}


def expected_vram(
    rung: Rung,
    sizes: ComponentSizes,
    picture: Picture,
    tile: int | None,
    vae_precision: str = "float32",
    has_graphs: bool = False,
) -> dict[str, float]:
    """Phase of a picture -> the peak in use of the memory that is computed in: VRAM, or RAM without a GPU of its own.

    Weights that are there in that phase, plus what the phase works with, plus what CUDA graphs use all the time.
    Denoising needs UNet and IdentityNet; what else is there depends on the offload.
    """
    weights = weights_gib(sizes, rung)
    everything = sum(weights.values())
    loop = weights["unet"] + weights["identitynet"]
    wide = BYTES[rung.precision] / 2  # activations are as wide as the weights
    denoising = DENOISING_GIB * picture.megapixels * wide * _width(sizes, "unet")
    text_encoder = weights["text_encoders"] * LARGER_TEXT_ENCODER
    width = BYTES[vae_precision]
    vae = weights["vae"] * width / BYTES[rung.precision] if rung.offload != "sequential" else 0.0
    decoding = (TILES_GIB[tile] if tile else DECODING_GIB * picture.megapixels) * width / 4 * _width(sizes, "vae")
    there = {
        "none": (everything, everything, everything - weights["vae"]),
        "idle": (loop + text_encoder, loop, loop),
        "model": (text_encoder, loop + weights["identity_layers"], weights["identitynet"]),
        "sequential": (SEQUENTIAL_GIB,) * 3,
    }[rung.offload]
    working = (TEXT_GIB, denoising, vae + decoding)
    phases = zip(("text", "denoising", "decoding"), there, working)
    always = WORKSPACE_GIB
    if has_graphs:
        always += GRAPHS_GIB / DENOISING_GIB * denoising
    return {phase: always + resident + work for phase, resident, work in phases}


def graphs_pool(rung: Rung, sizes: ComponentSizes, picture: Picture) -> float:
    """What CUDA graphs keep beside what is in use: memory that nobody else gets."""
    return GRAPHS_POOL_GIB * picture.megapixels * BYTES[rung.precision] / 2 * _width(sizes, "unet")


def _width(sizes: ComponentSizes, name: str) -> float:
    """Of a model, against the one that was measured."""
    return math.sqrt(getattr(sizes, name).parameters / MEASURED_PARAMETERS[name])


def waiting_gib(rung: Rung, weights: dict[str, float]) -> float:
    """Weights in RAM beside a GPU. In idle rungs UNet and IdentityNet never are there."""
    idle = sum(weights[name] for name in ("text_encoders", "vae", "identity_layers", "resampler"))
    return {"none": 0.0, "idle": idle}.get(rung.offload, sum(weights.values()))
