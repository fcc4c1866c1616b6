"""Write a diffusers SDXL folder as one `.safetensors` file in Stability's key layout, as civitai files have it.

The inverse of what diffusers does in `from_single_file`; only names change, and the layout of three kinds of tensors.
"""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

UNET_STEM = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_PARTS = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}
OPEN_CLIP = {
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
    "text_projection.weight": "text_projection",
    "self_attn": "attn",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "fc1": "c_fc",
    "fc2": "c_proj",
}


def write_single_file(base_folder: Path, path: Path) -> Path:
    """Write the SDXL folder `base_folder` (plain weights, not a variant) as the single file `path`; returns `path`."""
    base_folder, path = Path(base_folder), Path(path)
    config = {name: json.loads((base_folder / name / "config.json").read_text()) for name in ("unet", "vae")}
    unet, vae = (load_file(base_folder / name / "diffusion_pytorch_model.safetensors") for name in ("unet", "vae"))
    text, text_2 = (
        {_text_name(name): tensor for name, tensor in load_file(base_folder / name / "model.safetensors").items()}
        for name in ("text_encoder", "text_encoder_2")
    )
    layers, levels = config["unet"]["layers_per_block"], len(config["vae"]["up_block_types"])
    tensors = (
        {f"model.diffusion_model.{_unet_name(name, layers, unet)}": tensor for name, tensor in unet.items()}
        | {f"first_stage_model.{_vae_name(name, levels)}": _vae_tensor(name, tensor) for name, tensor in vae.items()}
        | {f"conditioner.embedders.0.transformer.{name}": tensor for name, tensor in text.items()}
        | {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in _open_clip(text_2).items()}
    )
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    return path


def _renamed(name: str, table: dict[str, str]) -> str:
    """`name` with every dotted part that stands in `table` replaced."""
    for old, new in table.items():
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, name)
    return name


def _text_name(name: str) -> str:
    """As transformers called it before 5.6 dropped the prefix, and as Stability's layout does."""
    return name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"


def _unet_name(name: str, layers: int, unet: Tensors) -> str:
    """diffusers counts levels and layers in them; Stability counts every resnet and resampler in one row."""
    block = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
    if not block:
        stem = _renamed(name, UNET_STEM)
        return _renamed(stem, UNET_RESNET) if ".resnets." in name else stem
    direction, level, kind, layer, rest = block.groups()
    first = int(level) * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{1 + first + layers}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        place = 2 if f"up_blocks.{level}.attentions.0.norm.weight" in unet else 1
        return f"output_blocks.{first + layers}.{place}.{rest}"
    row = f"input_blocks.{1 + first + int(layer)}" if direction == "down" else f"output_blocks.{first + int(layer)}"
    return f"{row}.0.{_renamed(rest, UNET_RESNET)}" if kind == "resnets" else f"{row}.1.{rest}"


def _vae_name(name: str, levels: int) -> str:
    """Stability counts the decoder's levels from the finest."""
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
    name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
    name = re.sub(r"(down|up)samplers\.0", r"\1sample", name)
    name = re.sub(r"(down|up)\.(\d+)\.resnets", r"\1.\2.block", name)
    return _renamed(name, VAE_PARTS)


def _vae_tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The attention's projections are 1×1 convolutions in Stability's VAE."""
    projection = ".attentions." in name and tensor.ndim == 2
    return tensor[:, :, None, None] if projection else tensor


def _open_clip(encoder: Tensors) -> Tensors:
    """transformers' CLIPTextModelWithProjection as OpenCLIP's text tower: q, k, v in one tensor, projection turned."""
    tensors = {_renamed(name, OPEN_CLIP): tensor for name, tensor in encoder.items()}
    for query in [name for name in tensors if ".q_proj." in name]:
        parts = [tensors.pop(query.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        tensors[query.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    return tensors | {"text_projection": tensors["text_projection"].T}
