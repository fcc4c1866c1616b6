"""What small SDXL bases have in common: tokenizers, text encoders, schedule, index."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
PROMPT_TOKENS = 77
LAST = "</w>"  # marks the end of a word


def vocabulary_of(words: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """CLIP's byte-level vocabulary in small: every byte, every byte at the end of a word, and each of `words` whole.

    Args: words: of lower-case ASCII letters, or single signs.
    Returns: token -> id, and the merges in the order of their rank.
    """
    alphabet = sorted(ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *(letter + LAST for letter in alphabet)])
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = _merged([*word[:-1], word[-1] + LAST], ranks)
        # New merges rank last: words that are whole already never come to them.
        while len(pieces) > 1:
            ranks.setdefault((pieces[0], pieces[1]), len(ranks))
            tokens[pieces[0] + pieces[1]] = None
            pieces[:2] = [pieces[0] + pieces[1]]
    names = [*tokens, BEGIN, END]
    return {token: i for i, token in enumerate(names)}, [" ".join(pair) for pair in ranks]


def _merged(pieces: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding (Sennrich et al. 2016): the pair of the lowest rank is joined, until there is none."""
    while pairs := [pair for pair in itertools.pairwise(pieces) if pair in ranks]:
        first, second = min(pairs, key=ranks.__getitem__)
        joined: list[str] = []
        for piece in pieces:
            if joined and joined[-1] == first and piece == second:
                joined[-1] = first + second
            else:
                joined.append(piece)
        pieces = joined
    return pieces


def write_tokenizer(folder: Path, vocabulary: dict[str, int], merges: list[str], padding: str) -> None:
    """A CLIP tokenizer in the files that every version of transformers reads."""
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": padding}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": PROMPT_TOKENS, "do_lower_case": True, **special}
    write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", special)


def text_config(vocabulary: Mapping[str, int], kind: type, padding: str, **sizes: Any) -> CLIPTextConfig:
    """The configuration of a text encoder of class `kind` over this vocabulary."""
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=vocabulary[BEGIN],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[padding],
        architectures=[kind.__name__],
        **sizes,
    )


def published_name(name: str) -> str:
    """transformers 5.6 dropped this prefix from CLIPTextModel; every version reads it."""
    return name if name.startswith("text_") else f"text_model.{name}"


def write_text_encoder(folder: Path, config: CLIPTextConfig, weights: Mapping[str, torch.Tensor]) -> None:
    """A text encoder as SDXL was published; `weights` under their published names."""
    config.save_pretrained(folder)
    save_file(dict(weights), folder / "model.safetensors", metadata={"format": "pt"})


def sdxl_scheduler() -> EulerDiscreteScheduler:
    """The noise schedule that SDXL was trained with, walked as SDXL's own pipeline walks it."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    )


def model_index(force_zeros_for_empty_prompt: bool = True) -> dict[str, Any]:
    """What `model_index.json` of an SDXL base says.

    Args: force_zeros_for_empty_prompt: whether no negative prompt at all means zeros, or the empty text.
    """
    return {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": diffusers.__version__,
        "force_zeros_for_empty_prompt": force_zeros_for_empty_prompt,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`content` in two-space JSON, its folder made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
