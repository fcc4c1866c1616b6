"""IdentityNet: an ordinary ControlNet, made to read the identity by two hooks that live as long as one call.

Other ControlNets beside it keep the text. The hooks are torch's own, so they survive offloading.
"""

from collections.abc import Callable
from typing import Any

import torch

from ip_adapter.identity import Identity

SILENCE = (None, None)  # instead of residuals


def feed_tokens(identity: Identity) -> Callable:
    """Forward pre-hook of IdentityNet: it reads identity tokens where other ControlNets read text."""

    halves: dict[torch.Tensor, torch.Tensor] = {}  # key-point pictures -> those of the conditional half

    def hook(net: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        sample = kwargs["sample"] if "sample" in kwargs else args[0]
        batch = sample.shape[0]
        if len(args) > 2:  # (sample, timestep, encoder_hidden_states, …)
            args, kwargs = args[:2], dict(zip(("controlnet_cond", "conditioning_scale"), args[3:])) | kwargs
        pictures = kwargs["controlnet_cond"]
        if pictures.shape[0] > batch:  # guidance has ended; the same tensor each time, as of all that stays the same
            kwargs = kwargs | {"controlnet_cond": halves.setdefault(pictures, pictures[-batch:])}
        return args, kwargs | {"encoder_hidden_states": identity.tokens(batch)}

    return hook


def silent_without_weight(plain: Callable, arguments: dict[str, Any]) -> Any:
    """In place of IdentityNet's forward: in steps where its weight is zero it is not computed at all.

    The UNet adds no residuals then, which is what adding zeros gives.
    """
    is_silent = arguments.get("conditioning_scale", 1.0) == 0 and not arguments.get("return_dict", True)
    return SILENCE if is_silent else plain(**arguments)


def mask_residuals(identity: Identity) -> Callable:
    """Forward hook of IdentityNet: its residuals act only inside the region, each at its own size."""

    def mask(residual: torch.Tensor) -> torch.Tensor:
        return residual * identity.region_at(*residual.shape[-2:]).to(residual)

    def hook(net: torch.nn.Module, args: tuple, output: Any) -> Any:
        if output is SILENCE:
            return output
        down, mid = (output[0], output[1]) if isinstance(output, tuple) else output.to_tuple()
        masked = [mask(residual) for residual in down], mask(mid)
        return masked if isinstance(output, tuple) else type(output)(*masked)

    return hook
