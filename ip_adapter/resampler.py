"""The Resampler: a face embedding becomes the identity tokens that SDXL's cross-attention reads.

A perceiver: learned queries attend to the projected embedding and to themselves, `depth` times.

Notation: `b` batch, `s` embeddings per picture (1 for InstantID), `q` queries = identity tokens, `d` model width,
`h` heads, `e` width of one head, `o` output width (SDXL's text width, 2048).

Source: Alayrac et al. 2022, "Flamingo", perceiver resampler; Ye et al. 2023, "IP-Adapter"; Wang et al. 2024,
"InstantID".
"""

import torch
from torch import nn

from ip_adapter.errors import UserError

DEFAULT_HEADS = 16


def width_of_one_head(dim: int, heads: int) -> int:
    """`dim // heads`.

    Raises: UserError (a ValueError) when `dim` cannot be divided, naming the nearest head counts that can.
    """
    if heads < 1 or dim % heads:
        possible = [n for n in range(1, dim + 1) if dim % n == 0]
        below = [n for n in possible if n < heads][-1:]
        above = [n for n in possible if n > heads][:1]
        nearest = " or ".join(str(n) for n in below + above)
        raise UserError(
            "resampler.heads",
            "dim ({dim}) must be divisible by heads ({heads}): use {nearest} heads",
            dim=dim,
            heads=heads,
            nearest=nearest,
        )
    return dim // heads


class PerceiverAttention(nn.Module):
    """Queries attend to the embedding and to themselves. No biases in the projections."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        inner = heads * dim_head
        self.heads = heads
        self.dim_head = dim_head
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, inner * 2, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, x: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """x (b, s, d) and latents (b, q, d) -> (b, q, d), without the residual."""
        x, latents = self.norm1(x), self.norm2(latents)
        key, value = self.to_kv(torch.cat([x, latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (self._split(t) for t in (self.to_q(latents), key, value))

        # Half of the usual scale on each side: the same product, and no overflow before it in half precision.
        scale = self.dim_head**-0.25
        weights = (query * scale) @ (key * scale).transpose(-2, -1)  # b h q (s+q)
        weights = weights.float().softmax(dim=-1).type_as(value)
        out = (weights @ value).transpose(1, 2).flatten(2)  # b q (h e)
        return self.to_out(out)

    def _split(self, t: torch.Tensor) -> torch.Tensor:
        return t.unflatten(-1, (self.heads, self.dim_head)).transpose(1, 2)  # b h n e


def feed_forward(dim: int, mult: int) -> nn.Sequential:
    """Pre-norm feed-forward of width `dim * mult`, no biases; state-dict keys 0, 1, 3 as published."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, dim * mult, bias=False),
        nn.GELU(),
        nn.Linear(dim * mult, dim, bias=False),
    )


class Resampler(nn.Module):
    """Face embedding -> identity tokens.

    Args:
        dim: model width `d`.
        depth: number of attention + feed-forward blocks.
        heads: attention heads; 16 unless something says otherwise.
        dim_head: width of one head; None means `dim // heads`. A checkpoint stores only `heads × dim_head`, so a
            wrong pair loads without complaint and computes something else: see `docs/resampler.md`.
        num_queries: identity tokens.
        embedding_dim: width of the face embedding (512 for ArcFace).
        output_dim: width of the tokens (2048 for SDXL).
        ff_mult: width of the feed-forward, as a multiple of `dim`.

    Raises: UserError (a ValueError) when `dim_head` is None and `dim` is not divisible by `heads`.
    """

    def __init__(
        self,
        dim: int = 2048,
        depth: int = 4,
        heads: int = DEFAULT_HEADS,
        dim_head: int | None = None,
        num_queries: int = 16,
        embedding_dim: int = 512,
        output_dim: int = 2048,
        ff_mult: int = 4,
    ) -> None:
        super().__init__()
        if dim_head is None:
            dim_head = width_of_one_head(dim, heads)
        self.heads = heads
        self.dim_head = dim_head
        self.embedding_dim = embedding_dim
        self.latents = nn.Parameter(torch.randn(1, num_queries, dim) / dim**0.5)
        self.proj_in = nn.Linear(embedding_dim, dim)
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, heads, dim_head), feed_forward(dim, ff_mult)]) for _ in range(depth)
        )

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings (b, s, embedding_dim) -> identity tokens (b, q, output_dim)."""
        latents = self.latents.expand(embeddings.shape[0], -1, -1)
        x = self.proj_in(embeddings)
        for attention, feed_forward_block in self.layers:
            latents = attention(x, latents) + latents
            latents = feed_forward_block(latents) + latents
        return self.norm_out(self.proj_out(latents))
