"""The autoencoder: pictures of the face world in an eighth of their size.

Loss: absolute error, faces counting more; absolute error of the differences between neighbours at three scales, which
keeps contours sharp; a little of the Kullback-Leibler divergence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from training.face_world import seeds
from training.graphed import graphed, precision_on
from training.losses import face_places
from training.small_bundle.models import Sizes, new_vae
from training.small_bundle.pool import Examples, Pool
from training.small_bundle.sheet import save_sheet
from training.small_bundle.stage import Budget, Stage
from training.small_bundle.world import drawn

FACE_WEIGHT = 3.0  # of a pixel inside a face's box; 1 outside
CONTOUR_WEIGHT = 0.5
DIVERGENCE_WEIGHT = 1e-4
SCALES = (1, 2, 4)
MEASURED = 2048  # pictures whose latents are brought to mean 0 and deviation 1


def train_vae(
    output: Path,
    sizes: Sizes,
    budget: Budget,
    device: torch.device,
    write: Callable[[str], None] = print,
) -> None:
    """Train, or go on; writes a diffusers folder `output/model` in float32 once the budget is used.

    The latents are then of mean 0 and deviation 1 in each channel: diffusion needs no scaling factor.
    """

    def make(numbers: Tensor) -> Examples:
        rendering = drawn(numbers, sizes.side, seeds.VAE_SCENES, device).rendering
        return {"pictures": as_bytes(rendering.picture), "boxes": rendering.box}

    torch.manual_seed(seeds.VAE_SCENES)
    vae = new_vae(sizes).to(device).train()
    pool = Pool(make, budget.supply, seeds.VAE_SCENES, ahead=device.type == "cuda")
    count = budget.batch_size
    latent_shape, precision = (sizes.latent_channels, sizes.latent_side, sizes.latent_side), precision_on(device)
    generator = torch.Generator(device)
    there_and_back = graphed(ThereAndBack(vae), device, write=write)

    def loss(step: int) -> dict[str, Tensor]:
        examples, _ = pool.pick(step, count)
        pictures = as_floats(examples["pictures"])
        generator.manual_seed(seeds.VAE_SCENES + step)
        noise = torch.randn(count, *latent_shape, generator=generator, device=device)
        again, moments = there_and_back(pictures.to(precision), noise.to(precision))
        posterior = DiagonalGaussianDistribution(moments.float())
        return losses(pictures, again.float(), examples["boxes"], posterior.kl() / posterior.mean[0].numel())

    held_out = drawn(torch.arange(24), sizes.side, seeds.WATCHED, device, seeds.WATCHED).rendering.picture

    @torch.no_grad()
    def look(name: str) -> None:
        again = vae(held_out * 2 - 1, sample_posterior=False).sample.div(2).add(0.5).clamp(0, 1)
        write(f"held-out pictures: {decibels(held_out, again):.2f} dB")
        save_sheet(torch.stack([held_out, again], 1).flatten(0, 1), 8, output / "sheets" / f"{name}.png")

    stage, written = Stage(vae, loss, budget, output), output / "model"
    if stage.train(look, write) or not (written / "diffusion_pytorch_model.safetensors").is_file():
        examples, _ = pool.pick(stage.step, min(MEASURED, budget.supply.first))
        normalise(vae.eval(), as_floats(examples["pictures"]))
        vae.save_pretrained(written)


class ThereAndBack(nn.Module):
    """Pictures (b, 3, h, w) in -1 … 1 and noise like their latents -> the pictures decoded again, and the moments."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pictures: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(pictures).latent_dist
        return self.vae.decode(posterior.mean + posterior.std * noise).sample, posterior.parameters


def losses(pictures: Tensor, again: Tensor, boxes: Tensor, divergence: Tensor) -> dict[str, Tensor]:
    """The loss and its parts, for pictures (b, 3, h, w) in -1 … 1, boxes (b, 4) in pixels, divergence (b,)."""
    error = (again - pictures).abs()
    places = face_places(boxes, pictures.shape[-2:], 1, FACE_WEIGHT)
    difference = again - pictures
    contours = sum(
        part.abs().mean()
        for scale in SCALES
        for part in neighbours(F.avg_pool2d(difference, scale) if scale > 1 else difference)
    )
    pixels, divergence = (error * places).mean(), divergence.mean()
    return {
        "loss": pixels + CONTOUR_WEIGHT * contours + DIVERGENCE_WEIGHT * divergence,
        "pixels": pixels,
        "divergence": divergence,
        "decibels": -10 * difference.detach().div(2).square().mean().log10(),
    }


def neighbours(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Differences from pixel to pixel, across and down."""
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


@torch.no_grad()
def normalise(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Change the layers on both sides of the latents so that those of `pictures` have mean 0 and deviation 1.

    Args: pictures: (n, 3, h, w) in -1 … 1.
    """
    means = torch.cat([vae.encode(some).latent_dist.mean for some in pictures.split(64)])
    mean, deviation = means.mean((0, 2, 3)), means.std((0, 2, 3))  # (c,)
    entry, leave = vae.post_quant_conv, vae.quant_conv  # 1 × 1
    entry.bias += entry.weight[..., 0, 0] @ mean
    entry.weight *= deviation[None, :, None, None]
    scale = torch.cat([deviation, torch.ones_like(deviation)])
    leave.weight /= scale[:, None, None, None]
    leave.bias.copy_((leave.bias - torch.cat([mean, 2 * deviation.log()])) / scale)  # the second half: log variances


def as_bytes(pictures: Tensor) -> Tensor:
    """0 … 1 -> whole numbers 0 … 255."""
    return (pictures * 255).round().to(torch.uint8)


def as_floats(pictures: Tensor) -> Tensor:
    """Whole numbers 0 … 255 -> -1 … 1."""
    return pictures.float() / 127.5 - 1


def decibels(pictures: Tensor, again: Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in 0 … 1."""
    return -10 * (pictures - again).square().mean().log10().item()
