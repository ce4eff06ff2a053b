"""Builds the graph of a model whose weights do not exist yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from modelfile import Weight
from onnx import TensorProto, helper

OPSET, IR_VERSION = 18, 10

# Primes that are no other size here; the sequence is shorter than every position table.
_SYMBOL_SIZES = {"batch": 7919, "sequence": 509}


@dataclass
class Network:
    """A graph being built: nodes, the weights they use, inputs and outputs."""

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    declared: list[onnx.ValueInfoProto] = field(default_factory=list)

    def input(self, name: str, datatype: int, shape: Sequence[int | str]) -> str:
        """Declare a graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, datatype, shape))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Declare a float32 graph output, and give the value its name."""
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        for node in self.nodes:
            node.input[:] = [name if v == value else v for v in node.input]
            node.output[:] = [name if v == value else v for v in node.output]

    def weight(self, name: str, shape: Sequence[int], *, scale: float = 0.02, mean: float = 0.0) -> str:
        """A random float32 weight."""
        self.weights.append(Weight(name, tuple(shape), scale=scale, mean=mean))
        return name

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """A weight with given values; made once, however often it is asked for."""
        if all(weight.name != name for weight in self.weights):
            self.weights.append(Weight(name, values.shape, values=values))
        return name

    def ints(self, *values: int) -> str:
        """A vector of int64."""
        return self.constant(f"ints_{'_'.join(map(str, values))}".replace("-", "minus"), np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(f"float_{value:g}", np.array(value, np.float32))

    def node(self, operator: str, *inputs: str, **attributes: int | float | list[int]) -> str:
        """Add a node with one output, and return that output's name."""
        output = f"{operator.lower()}_{len(self.nodes)}"
        node = helper.make_node(operator, list(inputs), [output], name=f"node_{output}")
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return output

    def declare(self, value: str, datatype: int, shape: Sequence[int | str]) -> str:
        """Give a value the shape that inference does not find: a slice as long as another value."""
        self.declared.append(helper.make_tensor_value_info(value, datatype, shape))
        return value

    def model(self) -> onnx.ModelProto:
        """The model without its initializers, every value with type and shape."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs)
        graph.value_info.extend(self._value_info())
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name="lamella-benchmarks")

    def _value_info(self) -> list[onnx.ValueInfoProto]:
        """Infer shapes with the symbols given sizes that nothing else has, and put the symbols back.

        Inference with symbols makes a new one at every `Slice`; exporters know that it is the same length.
        """
        inferred = onnx.shape_inference.infer_shapes(self._with_sizes(), strict_mode=True, data_prop=True)
        symbols = {size: symbol for symbol, size in _SYMBOL_SIZES.items()}
        for value in inferred.graph.value_info:
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_value in symbols:
                    dim.dim_param = symbols[dim.dim_value]
        return list(inferred.graph.value_info)

    def _with_sizes(self) -> onnx.ModelProto:
        """The model with its symbols bound, and with the random weights as inputs, so that they need no data."""
        weights = [w for w in self.weights if w.values is None]
        inputs = [*self.inputs, *(helper.make_tensor_value_info(w.name, w.onnx_type, w.shape) for w in weights)]
        tensors = [onnx.numpy_helper.from_array(w.values, w.name) for w in self.weights if w.values is not None]
        graph = helper.make_graph(self.nodes, self.name, inputs, self.outputs, tensors, value_info=self.declared)
        model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
        for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_value = _SYMBOL_SIZES[dim.dim_param]
        return model
