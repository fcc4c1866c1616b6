"""Small SDXL-shaped models whose every weight is a pure function of its name.

`reference.npz` was computed on exactly these, with the published InstantID implementation, so the same numbers can be
asked for on any machine and any version of the libraries.
"""

import zlib

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, EulerDiscreteScheduler, UNet2DConditionModel

TEXT_DIM = 64  # width of text and identity tokens; 2048 in SDXL
POOLED_DIM = 32  # 1280 in SDXL
TIME_IDS = 6
TIME_DIM = 8

DENOISER = {
    "in_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "block_out_channels": (8, 16, 16),
    "layers_per_block": 2,
    "cross_attention_dim": TEXT_DIM,
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (1, 2, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIME_DIM,
    "projection_class_embeddings_input_dim": TIME_IDS * TIME_DIM + POOLED_DIM,
    "norm_num_groups": 4,
}


def standard_normal(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """float32 standard normal numbers fixed by `name`; numpy's RandomState streams never change."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(stream.standard_normal(shape).astype("float32"))


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A weight fixed by its name: matrices scaled by their fan-in, norm weights near 1, small biases."""
    z = standard_normal(name, shape)
    if len(shape) >= 2:
        return z / float(np.prod(shape[1:])) ** 0.5
    return 0.1 * z + (1.0 if name.endswith(".weight") else 0.0)


def named_weights(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
    """`module` in eval mode with every parameter set to `weight(prefix + its name)`."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(weight(prefix + name, tuple(parameter.shape)))
    return module.eval()


def tiny_unet() -> UNet2DConditionModel:
    up = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
    return named_weights(UNet2DConditionModel(sample_size=16, out_channels=4, up_block_types=up, **DENOISER), "unet.")


def tiny_controlnet(which: str) -> ControlNetModel:
    """`which` names the weights: "identity" or "pose"."""
    net = ControlNetModel(conditioning_embedding_out_channels=(4, 8, 8, 16), **DENOISER)
    return named_weights(net, f"controlnet.{which}.")


def tiny_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=[4, 8, 8, 8],
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        scaling_factor=0.13025,
        force_upcast=False,
    )
    return named_weights(vae, "vae.")


def tiny_scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )


def resampler_shapes(dim: int, depth: int, inner: int, output: int, queries: int = 16, ff_mult: int = 4) -> dict:
    """Key -> shape of a published Resampler's state dict."""
    shapes = {
        "latents": (1, queries, dim),
        "proj_in.weight": (dim, 512),
        "proj_in.bias": (dim,),
        "proj_out.weight": (output, dim),
        "proj_out.bias": (output,),
        "norm_out.weight": (output,),
        "norm_out.bias": (output,),
    }
    for i in range(depth):
        norms = {f"layers.{i}.0.{norm}.{part}": (dim,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        shapes |= norms | {
            f"layers.{i}.0.to_q.weight": (inner, dim),
            f"layers.{i}.0.to_kv.weight": (2 * inner, dim),
            f"layers.{i}.0.to_out.weight": (dim, inner),
            f"layers.{i}.1.0.weight": (dim,),
            f"layers.{i}.1.0.bias": (dim,),
            f"layers.{i}.1.1.weight": (ff_mult * dim, dim),
            f"layers.{i}.1.3.weight": (dim, ff_mult * dim),
        }
    return shapes


def adapter_tensors(unet: UNet2DConditionModel, seed: str = "") -> dict[str, dict[str, torch.Tensor]]:
    """An adapter for `unet` in the published layout: a Resampler 128 wide (2 heads of 64) and identity layers.

    Args:
        seed: another word gives another adapter; "" is the reference's.
    """
    shapes = resampler_shapes(dim=128, depth=2, inner=128, output=TEXT_DIM)
    layers = {}
    for index, name in enumerate(unet.attn_processors):  # self-attention counts too: odd numbers remain
        if name.endswith("attn2.processor"):
            hidden = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
            for key in (f"{index}.to_k_ip.weight", f"{index}.to_v_ip.weight"):
                layers[key] = weight(f"ip_adapter.{seed}{key}", (hidden, TEXT_DIM))
    return {
        "image_proj": {key: weight(f"image_proj.{seed}{key}", shape) for key, shape in shapes.items()},
        "ip_adapter": layers,
    }
