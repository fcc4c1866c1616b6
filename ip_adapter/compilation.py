"""Blocks of UNet and IdentityNet as compiled code: normalisation, activation and additions in few kernels.

The blocks are compiled, not the networks: a network repeats a few kinds of block many times, so there is little to
compile, and what was compiled for one block serves all that are like it. Everything between the blocks stays in the
layout that the card computes convolutions in. Sums are rounded in other places than in plain steps, so pictures differ
a little.

Notation: `b` batch, `c` channels, `h w` size in latent positions.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch._dynamo
from diffusers import Transformer2DModel

from ip_adapter.forwards import replaced_forward

# Kinds of block, by the name of their class; one inside another is compiled with it.
BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D", "GroupNorm")
TRANSFORMER_ARGUMENTS = ("hidden_states", "encoder_hidden_states", "return_dict")
# How often code may be compiled anew for other shapes and settings. PyTorch gives up after 8, and a UNet has more.
RECOMPILATIONS = {
    name: limit
    for name, limit in (("recompile_limit", 256), ("accumulated_recompile_limit", 4096))
    if hasattr(torch._dynamo.config, name)
}


class CompiledBlocks:
    """The compiled blocks of one pipeline.

    Args:
        backend: of torch.compile.

    Attributes:
        failure: why nothing can be compiled here, or None; then all runs plainly.
    """

    def __init__(self, backend: str | Callable = "inductor") -> None:
        self.failure: str | None = None
        self._backend = backend
        self._code: dict[Callable, Callable] = {}  # function -> compiled
        self._laid_out: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()

    @contextmanager
    def running(self, *nets: torch.nn.Module) -> Iterator[None]:
        """Inside, the blocks of `nets` answer by compiled code."""
        with ExitStack() as ended:
            for net in nets:
                if net not in self._laid_out:
                    net.to(memory_format=torch.channels_last)
                    self._laid_out.add(net)
                for block in _parts(net):
                    instead = self._transformer if isinstance(block, Transformer2DModel) else self._block
                    ended.enter_context(replaced_forward(block, instead(block)))
                ended.enter_context(replaced_forward(net, self._attempt))
            yield

    def release(self) -> None:
        """Forget all code, and lay the weights out as they were."""
        self._code.clear()
        for net in self._laid_out:
            net.to(memory_format=torch.contiguous_format)
        self._laid_out.clear()

    def _compiled(self, function: Callable) -> Callable:
        if function not in self._code:
            self._code[function] = torch.compile(function, backend=self._backend, fullgraph=True, dynamic=False)
        return self._code[function]

    def _block(self, block: torch.nn.Module) -> Callable:
        def answer(plain: Callable, arguments: dict[str, Any]) -> Any:
            if self.failure:
                return plain(**arguments)
            return self._compiled(type(block).forward)(block, **arguments)

        return answer

    def _transformer(self, net: Transformer2DModel) -> Callable:
        """What is before and after its blocks, without the copies that diffusers makes into another layout."""

        def answer(plain: Callable, arguments: dict[str, Any]) -> Any:
            others = [value for name, value in arguments.items() if name not in TRANSFORMER_ARGUMENTS]
            if self.failure or arguments.get("return_dict", True) or any(value is not None for value in others):
                return plain(**arguments)
            picture = arguments["hidden_states"]
            sequence = self._compiled(_to_sequence)(net, picture)
            for block in net.transformer_blocks:
                sequence = block(sequence, encoder_hidden_states=arguments["encoder_hidden_states"])
            return (self._compiled(_to_picture)(net, sequence, picture),)

        return answer

    def _attempt(self, plain: Callable, arguments: dict[str, Any]) -> Any:
        """A network by its compiled blocks, and plainly from the moment that one cannot be compiled."""
        if not self.failure:
            try:
                with torch._dynamo.config.patch(**RECOMPILATIONS):
                    return plain(**arguments)
            except torch._dynamo.exc.TorchDynamoException as error:
                self.failure = " ".join(str(error).split())
        return plain(**arguments)


def _parts(net: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """What of a network is compiled, but for what something else already runs in its own way, as accelerate does."""
    for child in net.children():
        is_linear = isinstance(child, Transformer2DModel) and child.is_input_continuous and child.use_linear_projection
        if (is_linear or type(child).__name__ in BLOCKS) and "forward" not in vars(child):
            yield child
        if is_linear:
            yield from _parts(child.transformer_blocks)
        elif type(child).__name__ not in BLOCKS:
            yield from _parts(child)


def _to_sequence(net: Transformer2DModel, picture: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) -> what the blocks of `net` take, (b, h w, c)."""
    return net.proj_in(net.norm(picture).flatten(2).transpose(1, 2))


def _to_picture(net: Transformer2DModel, sequence: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """(b, h w, c) -> (b, c, h, w), added to what was there before the blocks."""
    return net.proj_out(sequence).transpose(1, 2).unflatten(2, before.shape[2:]) + before
