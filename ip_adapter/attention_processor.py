"""Text attention + identity attention in one cross-attention layer.

Notation: `b` batch (guidance halves included), `l` latent positions, `t` tokens, `h` heads, `e` width of one head.

Source: Ye et al. 2023, "IP-Adapter", decoupled cross-attention:
    out = W_o (softmax(Q K_text^T / sqrt(e)) V_text + scale * mask * softmax(Q K_id^T / sqrt(e)) V_id)
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import nn

from ip_adapter.identity import Identity


@dataclass(frozen=True)
class Projection:
    """Keys and values of tokens that a layer attends to.

    The tokens are held, so that as long as this is kept no other tensor can pass for them.
    """

    tokens: torch.Tensor  # (b, t, d)
    key: torch.Tensor  # (b, h, t, e)
    value: torch.Tensor  # (b, h, t, e)
    version: int | None = None  # counts what was written into the tokens; None = unknown, so they may have changed

    def is_of(self, tokens: torch.Tensor) -> bool:
        """Whether these are the keys and values of `tokens` as they are now."""
        return self.tokens is tokens and self.version is not None and self.version == version_of(tokens)


@dataclass(eq=False)
class LayerCall:
    """What a layer knows of the running call: whose face, and what it has projected so far."""

    identity: Identity
    projections: dict[str, Projection] = field(default_factory=dict)  # "text", "identity"
    is_written_elsewhere: bool = False  # the projections are taken as they are


class IdentityAttnProcessor(nn.Module):
    """Attention processor of one cross-attention layer. Without an identity it is plain text attention.

    Text and identity are the same at every step, so their keys and values are computed once per call; a LoRA that a
    callback loads or changes on the way reaches them with the next call.

    Args:
        hidden_size: width of the layer, read from the layer itself.
        token_dim: width of the identity tokens.

    Attributes:
        call: the running call, or None.
        slice_size: how many of the batch × heads are computed at once (attention slicing); None = all together.
    """

    def __init__(self, hidden_size: int, token_dim: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(token_dim, hidden_size, bias=False)
        self.to_v_ip = nn.Linear(token_dim, hidden_size, bias=False)
        self.call: LayerCall | None = None
        self.slice_size: int | None = None

    @property
    def identity(self) -> Identity | None:
        """The identity of the running call, or None."""
        return self.call.identity if self.call else None

    def begin(self, identity: Identity) -> None:
        """Use `identity` until `end`; nothing of an earlier one is kept."""
        self.call = LayerCall(identity)

    def end(self) -> None:
        """Forget the identity, and all keys and values."""
        self.call = None

    def forward(
        self,
        attn: nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """hidden_states (b, l, hidden_size) and text (b, t, d) -> (b, l, hidden_size)."""
        residual = hidden_states
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if attention_mask is not None:  # (b h, 1, t) -> (b, h, 1, t)
            attention_mask = attn.prepare_attention_mask(attention_mask, text.shape[1], text.shape[0])
            attention_mask = attention_mask.unflatten(0, (text.shape[0], attn.heads))

        query = _split(attn.to_q(hidden_states), attn.heads)
        projected = self._once("text", text, lambda: self.project_text(attn, text))
        out = self._attend(query, projected.key, projected.value, attention_mask)

        identity = self.identity
        if identity is not None and identity.scale != 0:
            tokens = identity.tokens(hidden_states.shape[0])
            projected = self._once("identity", tokens, lambda: self.project_identity(attn, tokens, hidden_states.dtype))
            identity_out = self._attend(query, projected.key, projected.value)
            region = identity.region_of_sequence(hidden_states.shape[1])
            if region is not None:
                identity_out = identity_out * region.to(identity_out)
            out = out + times(identity_out, identity.strength)

        for layer in attn.to_out:  # projection, dropout
            out = layer(out)
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor

    def project_text(self, attn: nn.Module, text: torch.Tensor) -> Projection:
        """Keys and values of text (b, t, d), by the layer's own projections."""
        return _project(text, text, attn.to_k, attn.to_v, attn.heads)

    def project_identity(self, attn: nn.Module, tokens: torch.Tensor, dtype: torch.dtype) -> Projection:
        """Keys and values in `dtype` of identity tokens (b, t, d)."""
        return _project(tokens, tokens.to(dtype), self.to_k_ip, self.to_v_ip, attn.heads)

    def _once(self, name: str, tokens: torch.Tensor, project: Callable[[], Projection]) -> Projection:
        """What is kept of this call, if it is of these tokens; computed and kept if not.

        Only between `begin` and `end`; never while gradients are recorded, since what is kept has none; and not in
        compiled code, which knows no versions.
        """
        if self.call is not None and self.call.is_written_elsewhere:
            return self.call.projections[name]
        if self.call is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return project()
        kept = self.call.projections.get(name)
        if kept is None or not kept.is_of(tokens):
            kept = self.call.projections[name] = replace(project(), version=version_of(tokens))
        return kept

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(b, h, l, e), (b, h, t, e) twice -> (b, l, h e)."""
        if self.slice_size is None:
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            out = _sliced_attention(query, key, value, mask, self.slice_size)
        return out.transpose(1, 2).flatten(2)


def version_of(t: torch.Tensor) -> int | None:
    """Changes whenever something is written into `t`; None where PyTorch does not count (inference mode)."""
    return None if t.is_inference() else t._version


def times(t: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """t · strength, with strength (1,) in float32: to the last bit what a Python number gives, in every precision.

    That is, the product is made in float32 and rounded once. A CUDA graph reads the strength anew each time.
    """
    if torch.is_grad_enabled() or t.device.type == "mps":  # where a result cannot be rounded as it is written
        return (t * strength).to(t.dtype)
    return torch.mul(t, strength, out=torch.empty_like(t))


def _project(source: torch.Tensor, tokens: torch.Tensor, to_k: nn.Module, to_v: nn.Module, heads: int) -> Projection:
    return Projection(source, _split(to_k(tokens), heads), _split(to_v(tokens), heads))


def _split(t: torch.Tensor, heads: int) -> torch.Tensor:
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)  # b h n e


def _sliced_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, slice_size: int
) -> torch.Tensor:
    """Attention a few of the batch × heads at a time: the same numbers in less memory."""
    batch_and_heads = query.shape[:2]
    query, key, value = (t.flatten(0, 1) for t in (query, key, value))
    if mask is not None:
        mask = mask.flatten(0, 1)
    out = torch.empty_like(query)
    for start in range(0, query.shape[0], slice_size):
        part = slice(start, start + slice_size)
        part_mask = None if mask is None else mask[part]
        out[part] = F.scaled_dot_product_attention(query[part], key[part], value[part], attn_mask=part_mask)
    return out.unflatten(0, batch_and_heads)
