"""A network's way forward and back as two CUDA graphs, in bfloat16.

Small networks are computed sooner than Python can launch their kernels: a step of the small bundle's base is some two
thousand of them. A graph is launched whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call

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
        generator = torch.cuda.default_generators[inputs[0].device.index or 0]
        before, own = generator.clone_state(), self.network.forward
        try:
            examples = tuple(given.detach().clone() for given in inputs)
            call = torch.cuda.make_graphed_callables(self.network, examples, allow_unused_input=True)
        except RuntimeError as error:
            generator.graphsafe_set_state(before)  # a capture that broke off would leave it waiting for its end
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
