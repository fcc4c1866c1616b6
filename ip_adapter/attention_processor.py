"""Text attention + identity attention in one cross-attention layer.

Notation: `b` batch (guidance halves included), `l` latent positions, `t` tokens, `h` heads, `e` width of one head.

Source: Ye et al. 2023, "IP-Adapter", decoupled cross-attention:
    out = W_o (softmax(Q K_text^T / sqrt(e)) V_text + scale * mask * softmax(Q K_id^T / sqrt(e)) V_id)
"""

import torch
import torch.nn.functional as F
from torch import nn

from ip_adapter.identity import Identity


class IdentityAttnProcessor(nn.Module):
    """Attention processor of one cross-attention layer. Without an identity it is plain text attention.

    Args:
        hidden_size: width of the layer, read from the layer itself.
        token_dim: width of the identity tokens.

    Attributes:
        identity: the identity of the running call, or None.
        slice_size: how many of the batch × heads are computed at once (attention slicing); None = all together.
    """

    def __init__(self, hidden_size: int, token_dim: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(token_dim, hidden_size, bias=False)
        self.to_v_ip = nn.Linear(token_dim, hidden_size, bias=False)
        self.identity: Identity | None = None
        self.slice_size: int | None = None
        self._projected: tuple[int, torch.Tensor, torch.Tensor] | None = None

    def begin(self, identity: Identity) -> None:
        """Use `identity` until `end`; nothing of an earlier one is kept."""
        self.end()
        self.identity = identity

    def end(self) -> None:
        """Forget the identity and its keys and values."""
        self.identity = None
        self._projected = None

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
        key, value = (_split(projection(text), attn.heads) for projection in (attn.to_k, attn.to_v))
        out = self._attend(query, key, value, attention_mask)

        identity = self.identity
        if identity is not None and identity.scale != 0:
            key, value = self._identity_keys_and_values(hidden_states, attn.heads)
            identity_out = self._attend(query, key, value)
            region = identity.region_of_sequence(hidden_states.shape[1])
            if region is not None:
                identity_out = identity_out * region.to(identity_out)
            out = out + identity.scale * identity_out

        for layer in attn.to_out:  # projection, dropout
            out = layer(out)
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor

    def _identity_keys_and_values(self, hidden_states: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (b, h, t, e): the same at every step, so computed once per call and batch size."""
        batch = hidden_states.shape[0]
        if self._projected is None or self._projected[0] != batch:
            tokens = self.identity.tokens(batch).to(hidden_states)
            key, value = (_split(projection(tokens), heads) for projection in (self.to_k_ip, self.to_v_ip))
            self._projected = (batch, key, value)
        _, key, value = self._projected
        return key, value

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
