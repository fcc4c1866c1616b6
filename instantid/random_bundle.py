"""A whole bundle with small random weights: every part of InstantID at toy size, written in seconds.

Pictures made with it are noise; the machinery is real: the same loader, the same face analyser, the same pipeline as
with the published weights. `python -m instantid.random_bundle FOLDER` writes one.

Every number is a function of the seed and of the tensor's published name, so that old and new versions of the
libraries write the same weights.
"""

import argparse
import json
import re
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from instantid.messages import explain, system_language, user_error
from instantid.small_base import (
    END,
    model_index,
    published_name,
    sdxl_scheduler,
    text_config,
    vocabulary_of,
    write_json,
    write_text_encoder,
    write_tokenizer,
)
from instantid.styles import DEFAULT_NEGATIVE_PROMPT, STYLES
from ip_adapter.checkpoint import write_checkpoint
from ip_adapter.errors import InstantIDError
from ip_adapter.layers import cross_attention
from ip_adapter.resampler import Resampler

DESCRIPTION = {
    "es": "Pesos aleatorios: las imágenes son ruido, la maquinaria es real",
    "en": "Random weights: the pictures are noise, the machinery is real",
}
LAYOUT = 4  # raise it when the same seed no longer gives the same files: bundles written before are then replaced

TEXT_WIDTHS = (24, 40)  # hidden sizes of the two text encoders (768 and 1280 in SDXL)
CROSS_ATTENTION_WIDTH = sum(TEXT_WIDTHS)  # 2048 in SDXL
POOLED_WIDTH = 20  # 1280 in SDXL
TIME_WIDTH = 8  # of each of the six size numbers, 256 in SDXL
KEY_POINT_GAIN = 1.75  # SiLU halves small signals: without it little of the key points survives IdentityNet's 8 layers

# What the UNet and IdentityNet share: SDXL's three levels, the first without attention, heads 8 wide.
LEVELS: dict[str, Any] = {
    "in_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "block_out_channels": (8, 16, 24),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (1, 2, 3),  # diffusers' name for the number of heads
    "cross_attention_dim": CROSS_ATTENTION_WIDTH,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIME_WIDTH,
    "projection_class_embeddings_input_dim": 6 * TIME_WIDTH + POOLED_WIDTH,
    "norm_num_groups": 4,
}
RESAMPLER = {"dim": 128, "depth": 2, "heads": 16, "dim_head": 8, "num_queries": 16}

# One token each; other words are spelled. With them the default prompts stay within 77 tokens, as in SDXL.
_DEFAULT_TEXTS = " ".join([DEFAULT_NEGATIVE_PROMPT, *(style.prompt + style.negative for style in STYLES.values())])
WORDS = (
    *("person", "face", "portrait", "photo", "the", "una", "retrato", "persona", "cara", "snow", "nieve"),
    *sorted(set(re.findall("[a-z]+", _DEFAULT_TEXTS))),
)


def write_random_bundle(folder: Path, *, seed: int = 0, native_size: int = 128, dtype: str = "float32") -> Path:
    """Write `base/`, `ControlNetModel/`, `ip-adapter.bin`, `antelopev2/` and `bundle.json` into `folder`.

    A bundle that is already there with the same seed, size and precision is left alone, another random bundle is
    replaced. The folder appears whole or not at all.

    Args:
        seed: 0 … 2**32 - 1.
        native_size: side in pixels of the pictures that the base model says it makes; a multiple of 8.
        dtype: "float32", "float16" or "bfloat16", the precision of the stored weights; the face models stay float32.

    Returns: `folder`.
    Raises: UserError if `folder` holds something that is not a random bundle.
    """
    folder = Path(folder)
    made = {"weights": "random", "layout": LAYOUT, "seed": seed, "native_size": native_size, "dtype": dtype}
    made["words"] = zlib.crc32(" ".join(WORDS).encode())
    card = {"name": "random", "description": DESCRIPTION, **made}
    there = _read_card(folder)
    if there == card:
        return folder
    if folder.exists() and there.get("weights") != "random" and (folder.is_file() or any(folder.iterdir())):
        raise user_error("weights.random_bundle_folder_taken", folder=folder)

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as workshop:
        new = Path(workshop, "new")
        _write_parts(new, seed, native_size, getattr(torch, dtype))
        (new / "README.md").write_text(f"# Random bundle\n\n{DESCRIPTION['en']}.\n", encoding="utf-8")
        write_json(new / "bundle.json", card)
        if folder.exists():
            folder.rename(Path(workshop, "old"))
        new.rename(folder)
    return folder


def _write_parts(folder: Path, seed: int, native_size: int, dtype: torch.dtype) -> None:
    from instantid.random_face_pack import write_random_face_pack  # here: it needs onnx, which training does not

    base = folder / "base"
    unet = UNet2DConditionModel(
        sample_size=native_size // 8,
        out_channels=4,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        **LEVELS,
    )
    vae = AutoencoderKL(
        sample_size=native_size,
        block_out_channels=(4, 8, 8, 12),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025,
    )
    # Published IdentityNets are trained. A new one has zero convolutions at its outputs and would say nothing.
    identitynet = ControlNetModel(conditioning_embedding_out_channels=(4, 8, 12, 16), **LEVELS)
    for model, name, place in (
        (unet, "unet", base / "unet"),
        (vae, "vae", base / "vae"),
        (identitynet, "identitynet", folder / "ControlNetModel"),
    ):
        model.load_state_dict(_random_weights(model, name, seed, dtype), assign=True)
        model.save_pretrained(place)

    sdxl_scheduler().save_pretrained(base / "scheduler")
    _write_text_part(base, seed, dtype)
    write_json(base / "model_index.json", model_index())

    resampler = Resampler(output_dim=CROSS_ATTENTION_WIDTH, **RESAMPLER)
    write_checkpoint(
        folder / "ip-adapter.bin",
        _random_weights(resampler, "image_proj", seed, dtype),
        {
            name: random_weight(f"ip_adapter.{name}", (attn.to_q.out_features, attn.to_k.in_features), seed).to(dtype)
            for index, attn in cross_attention(unet).values()
            for name in (f"{index}.to_k_ip.weight", f"{index}.to_v_ip.weight")
        },
        heads=RESAMPLER["heads"],
        dim_head=RESAMPLER["dim_head"],
    )
    write_random_face_pack(folder / "antelopev2", seed)


def random_weight(name: str, shape: Iterable[int], seed: int) -> torch.Tensor:
    """float32 tensor fixed by `name` and `seed`: matrices scaled by fan-in, norms near 1, small biases.

    numpy's MT19937 streams are the same in all its versions.
    """
    shape = tuple(shape)
    z = np.random.RandomState([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if len(shape) > 1:
        z *= (KEY_POINT_GAIN if "controlnet_cond_embedding" in name else 1) / np.prod(shape[1:]) ** 0.5
    else:
        z = 0.1 * z + (1 if name.endswith(".weight") else 0)
    return torch.from_numpy(z.astype(np.float32))


def _random_weights(module: torch.nn.Module, prefix: str, seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A state dict of `module` filled with `random_weight`s."""
    return {name: random_weight(f"{prefix}.{name}", p.shape, seed).to(dtype) for name, p in module.named_parameters()}


def _write_text_part(base: Path, seed: int, dtype: torch.dtype) -> None:
    """Both tokenizers and text encoders, under the names that transformers used when SDXL was published."""
    vocabulary, merges = vocabulary_of(WORDS)
    encoders = (
        ("", CLIPTextModel, TEXT_WIDTHS[0], 3, 36, "quick_gelu", END),
        ("_2", CLIPTextModelWithProjection, TEXT_WIDTHS[1], 5, 56, "gelu", "!"),
    )
    for suffix, kind, width, heads, inner_width, activation, padding in encoders:
        write_tokenizer(base / f"tokenizer{suffix}", vocabulary, merges, padding)
        config = text_config(
            vocabulary,
            kind,
            padding,
            hidden_size=width,
            intermediate_size=inner_width,
            num_hidden_layers=2,
            num_attention_heads=heads,
            hidden_act=activation,
            projection_dim=POOLED_WIDTH,
        )
        with torch.device("meta"):
            shapes = {published_name(name): tensor.shape for name, tensor in kind(config).named_parameters()}
        weights = {
            name: random_weight(f"text_encoder{suffix}.{name}", shape, seed).to(dtype) for name, shape in shapes.items()
        }
        write_text_encoder(base / f"text_encoder{suffix}", config, weights)


def _read_card(folder: Path) -> dict[str, Any]:
    card = folder / "bundle.json"
    return json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m instantid.random_bundle", description=DESCRIPTION["en"])
    parser.add_argument("folder", type=Path)
    try:
        print(write_random_bundle(parser.parse_args().folder))
    except InstantIDError as error:
        parser.error(explain(error, system_language()))


if __name__ == "__main__":
    main()
