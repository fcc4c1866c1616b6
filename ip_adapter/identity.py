"""The identity of one call: which tokens, how strong, and where in the picture."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from ip_adapter.errors import StateError


@dataclass(frozen=True, eq=False)  # compared by `is`: a new call is a new identity
class Identity:
    """Put on the attention processors and IdentityNet for one call and taken off afterwards.

    Notation: `n` pictures, `t` identity tokens, `d` token width, `H`×`W` output size in pixels.
    """

    conditional: torch.Tensor  # (n, t, d)
    unconditional: torch.Tensor | None  # (n, t, d): the zero embedding through the Resampler; None without guidance
    scale: float  # strength of identity attention
    region: torch.Tensor | None = None  # (1, 1, H, W) in 0 … 1, 1 = the identity acts here; None = everywhere
    latent_size: tuple[int, int] | None = None  # height, width of the latents; needed with a region
    strength: torch.Tensor | None = None  # (1,) float32: `scale` where the layers read it; None = made of `scale`
    _batches: dict[int, torch.Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.strength is None:
            strength = torch.full((1,), self.scale, dtype=torch.float32, device=self.conditional.device)
            object.__setattr__(self, "strength", strength)

    def tokens(self, batch: int) -> torch.Tensor:
        """The tokens (batch, t, d) of a batch of latents: all unconditional then all conditional, or conditional only.

        Guidance doubles the batch, guess mode and guidance that has ended do not: the batch itself says which it is.
        The same tensor each time, so that what was made of it can be told by it.
        """
        if batch not in self._batches:
            self._batches[batch] = self._of_batch(batch)
        return self._batches[batch]

    def _of_batch(self, batch: int) -> torch.Tensor:
        n = self.conditional.shape[0]
        if batch == n:
            return self.conditional
        if batch == 2 * n and self.unconditional is not None:
            return torch.cat([self.unconditional, self.conditional])
        raise StateError(
            "identity.batch",
            "The UNet was given {batch} latents, but this call has identities for {n} pictures: pass one face "
            "embedding, or one per prompt.",
            batch=batch,
            n=n,
        )

    def region_at(self, height: int, width: int) -> torch.Tensor | None:
        """The region (1, 1, height, width) for a residual of that size."""
        return None if self.region is None else F.interpolate(self.region, size=(height, width), mode="bilinear")

    def region_of_sequence(self, length: int) -> torch.Tensor | None:
        """The region (1, length, 1) for a sequence of latent positions, whatever the UNet's level."""
        if self.region is None:
            return None
        size = _size_of_sequence(self.latent_size, length)
        return F.interpolate(self.region, size=size, mode="nearest").reshape(1, length, 1)


def _size_of_sequence(latent_size: tuple[int, int], length: int) -> tuple[int, int]:
    """Height and width of the UNet level that has `length` positions; each level halves, rounding up."""
    height, width = latent_size
    while height * width > length:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != length:
        raise ValueError(f"no level of latents {latent_size} has {length} positions")
    return height, width
