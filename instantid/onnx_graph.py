"""ONNX files written node by node."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Old enough for onnxruntime 1.18, new enough for what is used here.
OPSET = 13
IR_VERSION = 8


class OnnxGraph:
    """An ONNX graph that grows node by node; arrays, lists and numbers among the inputs become constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operation: str, *inputs: object, name: str | None = None, **attributes: object) -> str:
        """Append a node; returns the name of its output."""
        name = name or f"node{len(self.nodes)}_{operation.lower()}"
        names = [given if isinstance(given, str) else self._constant(given) for given in inputs]
        self.nodes.append(helper.make_node(operation, names, [name], name=name, **attributes))
        return name

    def half(self, values: np.ndarray) -> str:
        """A constant kept in half precision, which takes half the room in the file; returns it as float32."""
        return self.add("Cast", self._stored(values.astype(np.float16)), to=TensorProto.FLOAT)

    def _constant(self, value: object) -> str:
        """Lists are places and shapes (int64), everything else is float32."""
        return self._stored(np.asarray(value, dtype=np.int64 if isinstance(value, list) else np.float32))

    def _stored(self, array: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def model(
        self,
        name: str,
        given: tuple[str, tuple],
        wanted: Sequence[tuple[str, tuple]],
        metadata: Mapping[str, object] | None = None,
    ) -> onnx.ModelProto:
        """The finished, checked model.

        Args:
            given: name and shape of the input; None or a name in a shape is an open size.
            wanted: the same of each output.
            metadata: things that are kept in the file as JSON, each under its name.
        """
        inputs, *outputs = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in (given, *wanted))
        graph = helper.make_graph(self.nodes, name, [inputs], outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="instantid")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, {key: json.dumps(value) for key, value in (metadata or {}).items()})
        onnx.checker.check_model(model)
        return model
