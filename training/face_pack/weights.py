"""Trained weights as .safetensors: written whole or not at all, loaded strictly."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file, save_file
from torch import nn

from instantid.messages import user_error

Network = TypeVar("Network", bound=nn.Module)


def save_weights(network: nn.Module, path: Path) -> None:
    """Every parameter and buffer, on the CPU."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    save_file({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}, partial)
    partial.replace(path)


def load_weights(network: Network, path: Path) -> Network:
    """`network` with the weights of `path`. Raises: UserError if the file is missing, broken or another network's."""
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:  # safetensors, torch and the file system have their own
        raise user_error("face_pack.weights", file=path, network=type(network).__name__, reason=error) from error
    return network
