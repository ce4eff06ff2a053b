"""Building an ONNX graph whose weights stay in the files they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from lamella.converters.safetensors import StoredTensor
from lamella.errors import UsageError
from lamella.tensors import Array, TensorSpec, datatype

# 17 brought LayerNormalization, and ONNX Runtime took it in 1.12; 26 is the newest that 1.31 takes.
OLDEST_OPSET, NEWEST_OPSET = 17, 26
# The IR version of the onnx release that brought each opset: https://onnx.ai/onnx/intro/concepts.html#opset-version
_IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13}

AttributeValue = int | float | str | Sequence[int]


def checked_opset(opset: int | None) -> int:
    """The opset to write: the one asked for, or the oldest, which most runtimes take.

    Raises:
        UsageError: It is out of range.
    """
    if opset is None:
        return OLDEST_OPSET
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UsageError(
            f"opset {opset} is out of range ({OLDEST_OPSET} to {NEWEST_OPSET})",
            hint=f"leave it out for {OLDEST_OPSET}, which most runtimes take",
        )
    return opset


@dataclass(slots=True)
class GraphWriter:
    """Collects nodes and initializers.

    Attributes:
        opset: Version of the default operator set.
        locations: For each file of weights, its name beside the `.onnx` file.
    """

    opset: int
    locations: Mapping[Path, str]
    _tape: ir.tape.Tape = field(default_factory=ir.tape.Tape)
    _known: dict[str, ir.Value] = field(default_factory=dict)
    _files: set[Path] = field(default_factory=set)

    def op(self, op_type: str, *inputs: ir.Value, name: str, **attributes: AttributeValue) -> ir.Value:
        """Add a node with one output; both get the name."""
        output = ir.val(name)
        return self._tape.op(op_type, inputs, attributes, name=name, output=output)

    def op_once(self, op_type: str, *inputs: ir.Value, name: str, **attributes: AttributeValue) -> ir.Value:
        """Add a node unless the one of this name is there already."""
        if name not in self._known:
            self._known[name] = self.op(op_type, *inputs, name=name, **attributes)
        return self._known[name]

    def constant(self, value: float | Sequence[int] | Sequence[float], name: str) -> ir.Value:
        """Add a small initializer inside the `.onnx` file: int64, or float32 where the values are floats."""
        array: Array = np.asarray(value)
        return self._initializer(name, ir.tensor(array.astype(np.float32 if array.dtype.kind == "f" else np.int64)))

    def weight(self, stored: StoredTensor) -> ir.Value:
        """Add an initializer that refers to a range of its file. Incurs no I/O."""
        self._files.add(stored.file)
        tensor = ir.ExternalTensor(
            self.locations[stored.file],
            stored.offset,
            stored.length,
            ir.DataType(stored.datatype.onnx),
            shape=ir.Shape(stored.shape),
            name=stored.name,
        )
        return self._initializer(stored.name, tensor)

    def as_float(self, value: ir.Value, stored: StoredTensor, *, name: str) -> ir.Value:
        """Cast what came out of a stored weight to float32, unless it is."""
        if stored.datatype.name == "FP32":
            return value
        return self.op_once("Cast", value, name=f"{name}.float", to=ir.DataType.FLOAT.value)

    def save(self, path: Path, *, inputs: Sequence[TensorSpec], outputs: Sequence[tuple[TensorSpec, ir.Value]]) -> None:
        """Write the `.onnx` file.

        Args:
            path: The file; replaced if it exists.
            inputs: The graph's inputs; `input` made their values.
            outputs: The graph's outputs, and the value behind each.
        """
        graph = ir.Graph(
            inputs=[self.input(spec) for spec in inputs],
            outputs=[_typed(value, spec) for spec, value in outputs],
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": self.opset},
            name="main",
        )
        ir.save(ir.Model(graph, ir_version=_IR_VERSIONS[self.opset], producer_name="lamella"), path, format="protobuf")

    @property
    def files(self) -> list[Path]:
        """The files that the weights added so far lie in."""
        return sorted(self._files)

    def input(self, spec: TensorSpec) -> ir.Value:
        """The value of a graph input."""
        if spec.name not in self._known:
            self._known[spec.name] = _typed(ir.val(spec.name), spec)
        return self._known[spec.name]

    def _initializer(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        if name not in self._known:
            self._known[name] = self._tape.initializer(tensor, name)
        return self._known[name]


def _typed(value: ir.Value, spec: TensorSpec) -> ir.Value:
    value.name = spec.name
    value.dtype = ir.DataType(datatype(spec.datatype).onnx)
    value.shape = ir.Shape(spec.shape or ())
    return value
