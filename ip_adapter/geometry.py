"""The one place that decides how a Resampler checkpoint is read: how many heads, how wide.

A state dict shows every size but one: attention weights hold only `heads × dim_head`, so the same file can be read as
20 heads of 64 or 16 heads of 80. The wrong reading loads without complaint and gives other tokens. In order of trust:
what the caller says, what the file says, the published rule of heads 64 wide.
"""

import logging
from dataclasses import dataclass

from ip_adapter.checkpoint import AdapterCheckpoint
from ip_adapter.errors import UserError
from ip_adapter.resampler import Resampler, width_of_one_head

logger = logging.getLogger(__name__)

PUBLISHED_DIM_HEAD = 64


@dataclass(frozen=True)
class ResamplerGeometry:
    """Every size of a Resampler, and why its heads are read so."""

    dim: int
    depth: int
    heads: int
    dim_head: int
    num_queries: int
    embedding_dim: int
    output_dim: int
    ff_mult: int
    reason: str

    def build(self) -> Resampler:
        """A Resampler of this geometry, weights not yet loaded."""
        return Resampler(
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            dim_head=self.dim_head,
            num_queries=self.num_queries,
            embedding_dim=self.embedding_dim,
            output_dim=self.output_dim,
            ff_mult=self.ff_mult,
        )


def read_geometry(
    checkpoint: AdapterCheckpoint, heads: int | None = None, dim_head: int | None = None
) -> ResamplerGeometry:
    """The geometry of a checkpoint's Resampler, with the reason; the decision is logged.

    Args:
        heads, dim_head: the caller's word, either or both.

    Raises: UserError if tensors are missing, or if the heads asked for do not fit the stored width.
    """
    weights = checkpoint.image_proj
    try:
        _, num_queries, dim = weights["latents"].shape
        depth = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("layers."))
        inner = weights["layers.0.0.to_q.weight"].shape[0]
        ff_mult = weights["layers.0.1.1.weight"].shape[0] // dim
        embedding_dim = weights["proj_in.weight"].shape[1]
        output_dim = weights["proj_out.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise UserError(
            "adapter.resampler_incomplete",
            "The Resampler in {path} is incomplete ({detail}). Delete the file and download it again.",
            path=checkpoint.path,
            detail=error,
        ) from error
    heads, dim_head, reason = _decide_heads(checkpoint, inner, heads, dim_head)
    if heads * dim_head != inner:
        raise UserError(
            "adapter.heads_do_not_fit",
            "{heads} heads of width {dim_head} make {product}, but the Resampler in {path} is {inner} wide. "
            "Leave heads and dim_head out to read it as its makers did.",
            heads=heads,
            dim_head=dim_head,
            product=heads * dim_head,
            inner=inner,
            path=checkpoint.path,
        )
    logger.info("Resampler of %s: %d heads × %d, because %s", checkpoint.path.name, heads, dim_head, reason)
    return ResamplerGeometry(dim, depth, heads, dim_head, num_queries, embedding_dim, output_dim, ff_mult, reason)


def _decide_heads(
    checkpoint: AdapterCheckpoint, inner: int, heads: int | None, dim_head: int | None
) -> tuple[int, int, str]:
    if heads or dim_head:
        if not heads:
            heads = width_of_one_head(inner, dim_head)
        return heads, dim_head or width_of_one_head(inner, heads), "the caller asked for it"
    if checkpoint.geometry:
        return checkpoint.geometry["heads"], checkpoint.geometry["dim_head"], "the file says so"
    if inner % PUBLISHED_DIM_HEAD:
        raise UserError(
            "adapter.heads_unknown",
            "The Resampler in {path} is {inner} wide, which is no multiple of {rule}, and the file does not say how "
            "many heads it has. Pass heads=… as it was trained.",
            path=checkpoint.path,
            inner=inner,
            rule=PUBLISHED_DIM_HEAD,
        )
    return inner // PUBLISHED_DIM_HEAD, PUBLISHED_DIM_HEAD, "published adapters have heads 64 wide"
