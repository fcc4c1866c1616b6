"""The networks of the small bundle before training: SDXL's kinds at a hundredth of the size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from instantid.random_bundle import WORDS
from instantid.small_base import END, PROMPT_TOKENS, text_config, vocabulary_of
from training.face_world import vocabulary

FACTOR = 8  # pixels of a latent


@dataclass(frozen=True)
class Sizes:
    """Every size of the bundle. Its files may have 45 MB together, and a picture 4 seconds on two processor cores."""

    side: int = 128  # pixels of a picture
    groups: int = 8  # of all group norms
    latent_channels: int = 8  # SDXL has 4: a face 32 pixels high is then 4 × 4 latents, too few for a likeness
    vae_channels: tuple[int, ...] = (32, 64, 96, 112)
    unet_channels: tuple[int, ...] = (80, 112)  # attention on both levels: faces are small here
    unet_heads: tuple[int, ...] = (5, 7)
    unet_layers: int = 2
    text_widths: tuple[int, int] = (96, 128)
    text_heads: tuple[int, int] = (6, 8)
    text_layers: tuple[int, int] = (2, 3)  # SDXL reads the last layer but one
    pooled_width: int = 96
    time_width: int = 16  # of each of the six size numbers
    conditioning_channels: tuple[int, ...] = (16, 24, 48, 96)
    resampler_dim: int = 240  # can be read with 16 heads, and wrongly with 20
    resampler_depth: int = 3
    resampler_heads: int = 16

    @property
    def latent_side(self) -> int:
        return self.side // FACTOR


def new_vae(sizes: Sizes) -> AutoencoderKL:
    """An autoencoder whose latents are to be of mean 0 and deviation 1: no scaling factor is needed."""
    levels = len(sizes.vae_channels)
    return AutoencoderKL(
        sample_size=sizes.side,
        block_out_channels=sizes.vae_channels,
        layers_per_block=1,
        latent_channels=sizes.latent_channels,
        norm_num_groups=sizes.groups,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        scaling_factor=1.0,
        force_upcast=False,
    )


def new_unet(sizes: Sizes) -> UNet2DConditionModel:
    """A UNet of SDXL's conditioning: text, pooled text and sizes."""
    levels = len(sizes.unet_channels)
    return UNet2DConditionModel(
        sample_size=sizes.latent_side,
        in_channels=sizes.latent_channels,
        out_channels=sizes.latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=sizes.unet_channels,
        layers_per_block=sizes.unet_layers,
        attention_head_dim=sizes.unet_heads,  # diffusers' name for the number of heads
        cross_attention_dim=sum(sizes.text_widths),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=sizes.time_width,
        projection_class_embeddings_input_dim=6 * sizes.time_width + sizes.pooled_width,
        norm_num_groups=sizes.groups,
    )


def new_text_encoders(sizes: Sizes) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Both text encoders over `words()`."""
    known, _ = vocabulary_of(words())
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    activations = ("quick_gelu", "gelu")
    columns = zip(kinds, activations, sizes.text_widths, sizes.text_heads, sizes.text_layers)
    return tuple(
        kind(
            text_config(
                known,
                kind,
                END,
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                hidden_act=activation,
                projection_dim=sizes.pooled_width,
            )
        )
        for kind, activation, width, heads, layers in columns
    )


def words() -> tuple[str, ...]:
    """The words of one token each: those of captions, and those that the app's own styles and prompts hold."""
    return tuple(sorted({*vocabulary(), *WORDS}))


def identity_sizes(sizes: Sizes) -> Mapping[str, Any]:
    """How large IdentityNet's eye and the Resampler are, as `training.identity_model.new_identity` takes it."""
    return {
        "heads": sizes.resampler_heads,
        "dim": sizes.resampler_dim,
        "depth": sizes.resampler_depth,
        "conditioning_channels": sizes.conditioning_channels,
    }


def encoded(first: nn.Module, second: nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Text (b, 77, d) and pooled text (b, p) of token ids (b, 77), as SDXL's pipeline encodes them."""
    if ids.shape[-1] != PROMPT_TOKENS:
        raise ValueError(f"{ids.shape[-1]} tokens instead of {PROMPT_TOKENS}")
    one, two = (encoder(ids, output_hidden_states=True) for encoder in (first, second))
    return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds
