"""What callers pass, in whatever form, made into the tensors that identity attention uses."""

import logging
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ip_adapter.errors import UserError

logger = logging.getLogger(__name__)


def as_embeddings(image_embeds: Any, prompts: int, width: int) -> torch.Tensor:
    """Whatever form the embeddings came in -> (prompts, s, width), float32."""
    if image_embeds is None:
        raise UserError(
            "identity.no_embedding",
            "image_embeds is missing: pass the face embedding, shape ({width},), from face.embedding.",
            width=width,
        )
    if isinstance(image_embeds, list | tuple):
        image_embeds = torch.stack(
            [torch.as_tensor(np.asarray(e) if not torch.is_tensor(e) else e) for e in image_embeds]
        )
    embeddings = torch.as_tensor(image_embeds).detach().float()
    shape = tuple(embeddings.shape)
    if embeddings.ndim == 1:
        embeddings = embeddings[None]
    if embeddings.ndim == 2:
        embeddings = embeddings[:, None]
    if embeddings.ndim != 3 or embeddings.shape[-1] != width or embeddings.shape[0] not in (1, prompts):
        raise UserError(
            "identity.embedding_shape",
            "image_embeds has shape {shape}; needed is ({width},) or ({prompts}, {width}), one face per prompt. For "
            "several photos of one person pass the mean of their embeddings.",
            shape=shape,
            width=width,
            prompts=prompts,
        )
    if not torch.isfinite(embeddings).all():
        raise UserError(
            "identity.embedding_not_finite",
            "image_embeds holds numbers that are not finite. Analyse the face photo again.",
        )
    if embeddings.norm(dim=-1).max() < 2:
        logger.warning("image_embeds has length about 1: InstantID needs face.embedding, not face.normed_embedding.")
    return embeddings.expand(prompts, -1, -1)


def as_region(control_mask: Any, height: int, width: int) -> torch.Tensor:
    """A mask in any form -> (1, 1, height, width) in 0 … 1, from its first channel."""
    if hasattr(control_mask, "convert"):  # a PIL picture of any mode
        control_mask = np.array(control_mask.convert("RGB"))
    mask = torch.as_tensor(control_mask)
    shape = tuple(mask.shape)
    if mask.ndim == 4 and mask.shape[0] == 1:
        mask = mask[0]
    if mask.ndim == 3:  # channels first if the first side is small enough to be channels, else last
        mask = mask[0] if mask.shape[0] <= 4 else mask[..., 0]
    if mask.ndim != 2:
        raise UserError(
            "identity.mask_shape",
            "control_mask has shape {shape}; needed is a picture, (height, width) or (height, width, 3).",
            shape=shape,
        )
    mask = mask.float() / 255 if mask.dtype == torch.uint8 else mask.float()
    mask = mask[None, None].clamp(0, 1)
    if mask.shape[-2:] != (height, width):
        mask = F.interpolate(mask, size=(height, width), mode="nearest")
    return mask
