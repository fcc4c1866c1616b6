"""What is trained, IdentityNet and the adapter, on top of a base that stays as it is.

The trained modules are those of a generation pipeline, so what is trained is what generates.

Notation: `b` batch, `c` channels, `h`×`w` latents, `H`×`W` pixels, `t` tokens, `d` their width.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ModelMixin, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

from instantid.assembly import MODEL_CLASSES, assembled, mapped_model
from instantid.bundle import Bundle
from ip_adapter.attention_processor import IdentityAttnProcessor
from ip_adapter.checkpoint import preferred_file, read_checkpoint, write_checkpoint
from ip_adapter.geometry import read_geometry
from ip_adapter.identity import Identity
from ip_adapter.layers import Layers, build_layers, cross_attention
from ip_adapter.resampler import DEFAULT_HEADS, Resampler
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline

Identification = tuple[ControlNetModel, Resampler, Layers]  # the three parts that are trained


def training_pipeline(
    bundle: Bundle, device: torch.device, dtype: torch.dtype, start: Bundle | None = None, **sizes: Any
) -> StableDiffusionXLInstantIDPipeline:
    """A pipeline whose base is frozen, in `dtype` but for a VAE in float32, and whose identity can be trained.

    Args:
        bundle: of which the base is read.
        start: bundle whose IdentityNet and adapter are trained further; None = new ones, of `sizes` as `new_identity`
            takes them.

    Raises: UserError naming what cannot be read or does not fit.
    """
    base = {name: mapped_model(name, bundle) for name in MODEL_CLASSES}
    base = {name: found.placed(device, torch.float32 if name == "vae" else dtype) for name, found in base.items()}
    for model in base.values():
        model.requires_grad_(False)
    unet = base["unet"]
    identity_net, resampler, layers = existing_identity(unet, start) if start else new_identity(unet, **sizes)
    for part in (identity_net, resampler, *layers.values()):
        part.to(device, torch.float32).requires_grad_(True).train()
    described = bundle.base_config if bundle.base.is_file() else bundle.base
    pipeline = assembled(described, controlnet=identity_net, **base)
    pipeline.use_adapter(resampler, layers, scale=1.0)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def new_identity(
    unet: UNet2DConditionModel,
    *,
    heads: int = DEFAULT_HEADS,
    dim: int = 2048,
    depth: int = 4,
    tokens: int = 16,
    conditioning_channels: Sequence[int] = (16, 32, 96, 256),
    seed: int = 0,
) -> Identification:
    """IdentityNet, Resampler and identity attention to begin with.

    IdentityNet copies the UNet's way down and says nothing at first (zero convolutions). Identity attention starts as
    attention to text: a copy of each layer's text projections. The Resampler is random.

    Args:
        heads, dim, depth, tokens: of the Resampler.
        conditioning_channels: of the convolutions that IdentityNet reads key points with; by default diffusers' own.

    Raises: UserError when `dim` cannot be divided by `heads`.
    """
    with torch.random.fork_rng(devices=[]):  # on the processor: the same numbers whatever the device
        torch.manual_seed(seed)
        identity_net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=tuple(conditioning_channels))
        text_width = unet.config.cross_attention_dim
        resampler = Resampler(dim=dim, depth=depth, heads=heads, num_queries=tokens, output_dim=text_width)
    layers: Layers = {}
    for name, (_, attn) in cross_attention(unet).items():
        with torch.device("meta"):
            layer = IdentityAttnProcessor(attn.to_q.out_features, attn.to_k.in_features)
        state = {"to_k_ip.weight": attn.to_k.weight, "to_v_ip.weight": attn.to_v.weight}
        layer.load_state_dict({key: weight.detach().float().clone() for key, weight in state.items()}, assign=True)
        layers[name] = layer
    return identity_net, resampler, layers


def existing_identity(unet: UNet2DConditionModel, bundle: Bundle) -> Identification:
    """The parts of a bundle that has them, to be trained further, in float32.

    Raises: UserError naming what cannot be read or does not fit the base model.
    """
    checkpoint = read_checkpoint(preferred_file(bundle.adapter))
    geometry = read_geometry(checkpoint)
    resampler = geometry.build()
    resampler.load_state_dict(checkpoint.image_proj)
    identity_net = mapped_model("controlnet", bundle).model
    for parameter in identity_net.parameters():
        parameter.data = parameter.data.to(torch.float32, copy=True)  # it was a view of the file
    layers = build_layers(unet, checkpoint, geometry.output_dim)  # checked, but in the precision of the UNet
    for name, (index, _) in cross_attention(unet).items():
        stored = {key: checkpoint.ip_adapter[f"{index}.{key}"] for key in layers[name].state_dict()}
        state = {key: weight.to(torch.float32, copy=True) for key, weight in stored.items()}
        layers[name].load_state_dict(state, assign=True)
    return identity_net, resampler, layers


class IdentityModel(nn.Module):
    """Predicts as the pipeline does in one denoising step; its parameters are those that are trained, and no others.

    Args:
        pipeline: see `training_pipeline`.
        gradient_checkpointing: compute activations twice instead of keeping them.
    """

    def __init__(self, pipeline: StableDiffusionXLInstantIDPipeline, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.identity_net = pipeline.controlnet
        self.resampler = pipeline.image_proj_model
        self.layers = nn.ModuleList(attn.processor for _, attn in cross_attention(pipeline.unet).values())
        self._frozen = (pipeline.unet,)  # in a tuple, where torch does not look for parameters
        if gradient_checkpointing:
            self.identity_net.enable_gradient_checkpointing()
            pipeline.unet.enable_gradient_checkpointing()
            pipeline.unet.train()  # older diffusers checkpoints only then; there is no dropout in SDXL

    def forward(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        key_points: torch.Tensor,
        text: torch.Tensor,
        pooled_text: torch.Tensor,
        size_ids: torch.Tensor,
    ) -> torch.Tensor:
        """The UNet's prediction (b, c, h, w).

        The identity stays on the layers, for a backward pass that computes activations again: call `end` after it.

        Args:
            noisy: (b, c, h, w) in the precision of the base.
            timesteps: (b,).
            embeddings: (b, 512) raw; zeros = no identity.
            key_points: (b, 3, H, W) in 0 … 1; zeros = no face in the picture.
            text: (b, 77, d), `pooled_text` (b, p), `size_ids` (b, 6): as SDXL has them.
        """
        (unet,) = self._frozen
        with torch.autocast(noisy.device.type, enabled=False):
            tokens = self.resampler(embeddings.float()[:, None])
        identity = Identity(tokens.to(noisy.dtype), None, scale=1.0)
        for layer in self.layers:
            layer.begin(identity)
        added = {"text_embeds": pooled_text, "time_ids": size_ids.to(text.dtype)}
        down, middle = self.identity_net(
            noisy,
            timesteps,
            encoder_hidden_states=identity.conditional,
            controlnet_cond=key_points.to(noisy.dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )
        return unet(
            noisy,
            timesteps,
            encoder_hidden_states=text,
            added_cond_kwargs=added,
            down_block_additional_residuals=[residual.to(noisy.dtype) for residual in down],
            mid_block_additional_residual=middle.to(noisy.dtype),
            return_dict=False,
        )[0]

    def end(self) -> None:
        """Take the identity off the layers."""
        for layer in self.layers:
            layer.end()


def stored(state: Mapping[str, torch.Tensor], dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """Weights as they go into a file."""
    return {name: weight.detach().to("cpu", dtype) for name, weight in state.items()}


def write_model(model: ModelMixin, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """A diffusers model as `save_pretrained` writes it, in another precision. The model stays as it is."""
    model.save_config(folder)
    weights = stored(model.state_dict(), dtype)
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def write_identity(
    pipeline: StableDiffusionXLInstantIDPipeline, folder: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write the trained parts in the published layout: `ControlNetModel/` and `ip-adapter.safetensors`."""
    resampler = pipeline.image_proj_model
    write_model(pipeline.controlnet, folder / "ControlNetModel", dtype)
    layers = {
        f"{index}.{key}": weight
        for index, attn in cross_attention(pipeline.unet).values()
        for key, weight in attn.processor.state_dict().items()
    }
    write_checkpoint(
        folder / "ip-adapter.safetensors",
        stored(resampler.state_dict(), dtype),
        stored(layers, dtype),
        heads=resampler.heads,
        dim_head=resampler.dim_head,
    )


def write_bundle(pipeline: StableDiffusionXLInstantIDPipeline, folder: Path, source: Bundle, steps: int) -> Path:
    """A bundle of the trained parts, to be loaded beside the base: with the face models it was trained for.

    Args:
        source: the bundle that it was trained on.
        steps: of training, for the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_identity(pipeline, folder)
    shutil.copytree(source.face_pack, folder / "antelopev2", dirs_exist_ok=True)
    if source.base_config:
        shutil.copytree(source.base_config, folder / "base_config", dirs_exist_ok=True)
    description = {
        "es": f"Identidad entrenada {steps} pasos sobre {source.base.name}",
        "en": f"Identity trained for {steps} steps on {source.base.name}",
    }
    card = {"name": folder.name, "description": description, "weights": "trained", "steps": steps}
    (folder / "bundle.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder
