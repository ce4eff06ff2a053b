"""What stands for a node that is computed in parts: nodes, parts of weights, and the types of new values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod

import numpy as np

from lamella.graph.attributes import integer, integers, node_proto
from lamella.graph.model import Model, Value, ValueType, Weight
from lamella.graph.protobuf import encode_int, encode_len
from lamella.graph.references import Range, encode_external
from lamella.graph.schema import Tensor
from lamella.graph.splits import is_parted_in_place
from lamella.graph.value_types import tensor_value
from lamella.tensors import Dimension, datatype

INT64 = 7


@dataclass
class Parts:
    """Collects what a rewrite adds to a model. Names are made up so that nothing in the model has them.

    Attributes:
        model: The model.
        known: The types of its values.
        nodes: Serialised NodeProtos, for the node at hand.
        weights: Serialised TensorProtos of new initializers, by name.
        specs: Datatype and shape of each of these.
        values: The types of new values.
        shares: For each new value, the value that it is a part of, or as large as, and which fraction of it.
        parted: Names of the weights of which parts were taken.
        used: Names of every input of the new nodes.
    """

    model: Model
    known: Mapping[str, Value]
    nodes: list[bytes] = field(default_factory=list)
    weights: dict[str, bytes] = field(default_factory=dict)
    specs: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    shares: dict[str, tuple[str, Fraction]] = field(default_factory=dict)
    parted: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    _names: dict[object, str] = field(default_factory=dict)

    @property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return self.model.opset_imports.get("", 1)

    def add(self, proto: bytes, inputs: Iterable[str]) -> None:
        """Add a node that takes `inputs`."""
        self.nodes.append(proto)
        self.used.update(inputs)

    def node(self, op_type: str, inputs: list[str], output: str, *attributes: bytes) -> str:
        """Add a node of the standard domain; return its output."""
        self.add(node_proto(op_type, inputs, output, *attributes), inputs)
        return output

    def value(self, base: str, source: str, kind: int, shape: tuple[Dimension, ...] | None, share: Fraction) -> str:
        """Name a new value, which takes `share` of the bytes of the value `source`."""
        name = self._free(base)
        self.values[name] = tensor_value(name, kind, shape)
        self.shares[name] = (source, share)
        return name

    def type_of(self, name: str) -> ValueType | None:
        """The type of a value, old or new."""
        value = self.values.get(name) or self.known.get(name)
        return None if value is None else value.type

    def _shape_of(self, name: str) -> tuple[int, tuple[Dimension, ...]]:
        """Datatype and shape of a value whose shape was found known when the node was analysed."""
        kind = self.type_of(name)
        assert kind is not None
        assert kind.shape is not None
        return kind.datatype, kind.shape

    def constant(self, kind: int, *elements: int, rank: int = 1) -> str:
        """Name of a small integer initializer: a vector, or with `rank` 0 a scalar. Each is made once."""
        dtype = datatype(kind).dtype
        key = (kind, elements, rank)
        if key not in self._names:
            name = self._free(f"split.{dtype.name}.{'_'.join(map(str, elements))}{'' if rank else '.scalar'}")
            dims = (len(elements),) if rank else ()
            data = encode_len(Tensor.RAW_DATA, np.array(elements, dtype).astype(dtype.newbyteorder("<")).tobytes())
            self._weight(key, name, kind, dims, data)
        return self._names[key]

    def zero(self, kind: int) -> str:
        """Name of an initializer of shape `[1]` that holds a zero of any datatype."""
        key = (kind, "zero")
        if key not in self._names:
            name = self._free(f"split.{datatype(kind).name.lower()}.zero")
            self._weight(key, name, kind, (1,), encode_len(Tensor.RAW_DATA, bytes(datatype(kind).bits // 8)))
        return self._names[key]

    def part(self, base: str, name: str, axis: int, start: int, end: int, share: Fraction) -> str:
        """The elements `[start, end)` of `name` along `axis`: of a weight by reference, of anything else by `Slice`."""
        weight = self.model.graph.initializers.get(name)
        if weight is not None and is_parted_in_place(self.model, weight):
            return self.part_of_weight(weight, axis, start, end)
        kind, whole = self._shape_of(name)
        output = self.value(base, name, kind, (*whole[:axis], end - start, *whole[axis + 1 :]), share)
        if self.opset < 10:
            ranges = (integers("starts", [start]), integers("ends", [end]), integers("axes", [axis]))
            return self.node("Slice", [name], output, *ranges)
        ends = [self.constant(INT64, number) for number in (start, end, axis)]
        return self.node("Slice", [name, *ends], output)

    def part_of_weight(self, weight: Weight, axis: int, start: int, end: int) -> str:
        """A new initializer whose bytes are among those of a weight; the same part is made once."""
        key = (weight.name, axis, start, end)
        if key not in self._names:
            self.parted.add(weight.name)
            name = self._free(f"{weight.name}.axis{axis}.{start}-{end}")
            dims = (*weight.shape[:axis], end - start, *weight.shape[axis + 1 :])
            self._weight(key, name, weight.datatype, dims, encode_external(part_range(weight, axis, start, end)))
        return self._names[key]

    def concat(self, parts: list[str], axis: int, output: str) -> None:
        """Put parts together along an axis."""
        self.node("Concat", parts, output, integer("axis", axis))

    def unsqueezed(self, name: str, count: int) -> str:
        """`name` with `count` axes of size 1 behind its own."""
        kind, shape = self._shape_of(name)
        axes = list(range(len(shape), len(shape) + count))
        output = self.value(f"{name}.wide", name, kind, (*shape, *[1] * count), Fraction(1))
        if self.opset < 13:
            return self.node("Unsqueeze", [name], output, integers("axes", axes))
        return self.node("Unsqueeze", [name, self.constant(INT64, *axes)], output)

    def _weight(self, key: object, name: str, kind: int, dims: tuple[int, ...], data: bytes) -> None:
        shape = b"".join(encode_int(Tensor.DIMS, dim) for dim in dims)
        self._names[key] = name
        self.specs[name] = (kind, dims)
        self.weights[name] = shape + encode_int(Tensor.DATA_TYPE, kind) + encode_len(Tensor.NAME, name) + data

    def _free(self, name: str) -> str:
        """`name`, numbered where the model contains it already, in whatever place."""
        found, count = name, 1
        while found in self.weights or found in self.values or found.encode() in self.model.structure:
            count += 1
            found = f"{name}.{count}"
        return found


def part_range(weight: Weight, axis: int, start: int, end: int) -> Range:
    """Where the elements `[start, end)` of a weight along `axis` lie: one run of bytes, or several at a stride."""
    whole = weight.range
    assert whole is not None
    inner = prod(weight.shape[axis + 1 :]) * datatype(weight.datatype).bits // 8
    outer = prod(weight.shape[:axis])
    offset, piece = whole.offset + start * inner, (end - start) * inner
    if outer == 1:
        return Range(whole.location, offset, piece)
    return Range(whole.location, offset, outer * piece, piece=piece, stride=weight.shape[axis] * inner)
