"""A torch network as nodes of an ONNX graph: those few layers that the face pack is made of."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from instantid.onnx_graph import OnnxGraph
from training.face_pack.layers import folded


def append_network(graph: OnnxGraph, network: nn.Module, given: str) -> Any:
    """Add `network`, batch norms folded and weights in half precision, reading `given`.

    Returns: the names of its outputs, nested as the network returns them.
    Raises: NotImplementedError for a layer that is not known here.
    """
    traced = fx.symbolic_trace(folded(network))
    known: dict[str, str] = {}

    def stored(tensor: torch.Tensor) -> str:
        """Weights that are used several times are kept once."""
        key = str(tensor.data_ptr())
        if key not in known:
            known[key] = graph.half(tensor.detach().cpu().numpy())
        return known[key]

    class Writer(fx.Interpreter):
        """Runs the traced network on names instead of tensors."""

        def call_module(self, target: str, args: tuple, kwargs: dict) -> Any:
            layer = self.fetch_attr(target)
            if type(layer) not in LAYERS:
                raise NotImplementedError(f"no ONNX form is known for {layer}")
            return LAYERS[type(layer)](graph, layer, args[0], stored)

        def call_function(self, target: Callable, args: tuple, kwargs: dict) -> Any:
            if target not in FUNCTIONS:
                raise NotImplementedError(f"no ONNX form is known for {target}")
            return FUNCTIONS[target](graph, *args, **kwargs)

        def call_method(self, target: str, args: tuple, kwargs: dict) -> Any:
            if (target, *args[1:]) == ("flatten", 1):
                return graph.add("Flatten", args[0], axis=1)
            if (target, *args[1:]) == ("sum", (2, 3)):
                return graph.add("ReduceSum", args[0], [2, 3], keepdims=0)
            raise NotImplementedError(f"no ONNX form is known for .{target}{args[1:]}")

        def get_attr(self, target: str, args: tuple, kwargs: dict) -> Any:
            return stored(self.fetch_attr(target))

    return Writer(traced).run(given)


def _convolution(graph: OnnxGraph, layer: nn.Conv2d, x: str, stored: Callable) -> str:
    weights = [stored(weight) for weight in (layer.weight, layer.bias) if weight is not None]
    sides = {"kernel_shape": [*layer.kernel_size], "strides": [*layer.stride], "pads": [*layer.padding] * 2}
    sides |= {"dilations": [*layer.dilation]} if max(layer.dilation) > 1 else {}
    return graph.add("Conv", x, *weights, group=layer.groups, **sides)


def _linear(graph: OnnxGraph, layer: nn.Linear, x: str, stored: Callable) -> str:
    weights = [stored(weight) for weight in (layer.weight, layer.bias) if weight is not None]
    return graph.add("Gemm", x, *weights, transB=1)


def _prelu(graph: OnnxGraph, layer: nn.PReLU, x: str, stored: Callable) -> str:
    return graph.add("PRelu", x, layer.weight.detach().cpu().numpy().reshape(-1, 1, 1))


def _enlarged(graph: OnnxGraph, x: str, size: None, scale_factor: float, mode: str, **rest: object) -> str:
    if (scale_factor, mode) != (2.0, "nearest"):
        raise NotImplementedError(f"no ONNX form is known for interpolation by {scale_factor}, {mode}")
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.add("Resize", x, "", np.array([1, 1, 2, 2]), **nearest)


LAYERS: dict[type[nn.Module], Callable[[OnnxGraph, Any, str, Callable], str]] = {
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.PReLU: _prelu,
    nn.ReLU: lambda graph, layer, x, stored: graph.add("Relu", x),
    nn.SiLU: lambda graph, layer, x, stored: graph.add("Mul", x, graph.add("Sigmoid", x)),
    nn.Identity: lambda graph, layer, x, stored: x,
    nn.AdaptiveAvgPool2d: lambda graph, layer, x, stored: graph.add("GlobalAveragePool", x),
    nn.Flatten: lambda graph, layer, x, stored: graph.add("Flatten", x, axis=1),
}
FUNCTIONS: dict[Callable, Callable[..., str]] = {
    operator.add: lambda graph, x, y: graph.add("Add", x, y),
    operator.mul: lambda graph, x, y: graph.add("Mul", x, y),
    F.interpolate: _enlarged,
}
