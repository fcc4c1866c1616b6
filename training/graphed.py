"""A network's way forward and back as two CUDA graphs, in bfloat16.

Small networks are computed sooner than Python can launch their kernels: a step of the small bundle's base is some two
thousand of them. A graph is launched whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call

from ip_adapter.cuda_graphs import random_numbers_survive

HALF = torch.bfloat16


class HalfPrecision(nn.Module):
    """Computes with bfloat16 copies of a model's weights; what is trained stays the model's, in float32.

    Autocast would keep what norms give in float32 and cast it for every product: twice the memory traffic, which is
    what small networks take their time for.

    Args: kept: beginnings of names whose weights stay in float32.
    """

    def __init__(self, model: nn.Module, kept: Sequence[str] = ()) -> None:
        super().__init__()
        self.model, self.kept = model, tuple(kept)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """What the model gives. Inputs are passed on as they are."""
        weights = {
            name: weight if name.startswith(self.kept) else weight.to(HALF)
            for name, weight in self.model.named_parameters()
        }
        return functional_call(self.model, weights, inputs)


class Graphed:
    """A network that is always called with tensors of the same shapes, on a GPU; the first call captures it.

    Gradients reach the weights as ever, but must not be gathered over several calls: each call overwrites those of the
    one before.

    Attributes: failure: why it cannot be captured, or None; then every call runs kernel by kernel.
    """

    def __init__(self, network: nn.Module, write: Callable[[str], None] = print) -> None:
        self.network, self.write = network, write
        self.failure: str | None = None
        self._call: Callable | None = None

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        if self._call is None:
            self._call = self._captured(inputs)
        return self._call(*inputs)

    def _captured(self, inputs: Sequence[torch.Tensor]) -> Callable:
        own, examples = self.network.forward, tuple(given.detach().clone() for given in inputs)
        try:
            with random_numbers_survive():
                call = torch.cuda.make_graphed_callables(self.network, examples, allow_unused_input=True)
        except RuntimeError as error:
            self.network.forward = own
            self.failure = " ".join(str(error).split())[:200]
            self.write(f"no CUDA graphs: {self.failure}")
            return self.network
        if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):
            # A graph is captured on a stream of its own and replayed on another: meant so, and waited for.
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        return call


def graphed(
    model: nn.Module, device: torch.device, write: Callable[[str], None] = print
) -> Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]:
    """`model` computed in bfloat16 by CUDA graphs; where there is no GPU, the model as it is, in full precision."""
    return Graphed(HalfPrecision(model), write) if device.type == "cuda" else model


def precision_on(device: torch.device) -> torch.dtype:
    """What `graphed` networks take their inputs in."""
    return HALF if device.type == "cuda" else torch.float32
