"""The rewrite: a model in which some nodes are computed in parts, each with a part of a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lamella.errors import PlanError
from lamella.graph.attributes import renamed
from lamella.graph.inference import infer_values
from lamella.graph.model import Model, Node, Value
from lamella.graph.protobuf import LEN, encode_len, fields
from lamella.graph.reader import read
from lamella.graph.scanner import Structure
from lamella.graph.schema import Graph as GraphField
from lamella.graph.schema import Model as ModelField
from lamella.graph.split_parts import Parts
from lamella.graph.split_select import select
from lamella.graph.splits import MOST_PARTS, Split, SplitAxis, split_axes
from lamella.graph.value_types import read_value, tensor_value

_FIRST_IR_WITH_FREE_INITIALIZERS = 4
_FIRST_GEMM_WITHOUT_BIAS = 11


@dataclass(frozen=True)
class SplitModel:
    """A model with some of its nodes computed in parts. It gives what the original gives.

    Attributes:
        model: An ordinary model. Its structure is new; its weights are ranges of the original's files.
        origin: For each of its nodes, the index of the original's node that it is, or stands for in part.
        values: The type of every value that anything knows, old and new.
        shares: For each new value, an old value, or an earlier new one, and the fraction of its bytes that it takes.
    """

    model: Model
    origin: tuple[int, ...]
    values: dict[str, Value]
    shares: dict[str, tuple[str, Fraction]]


def split(model: Model, splits: Sequence[Split], values: Mapping[str, Value] | None = None) -> SplitModel:
    """Compute nodes in parts, each with a part of a weight. Reads no weights, and writes nothing.

    Where the same part of a weight is needed twice, both nodes get the same one. A weight stays whole, too, where
    something else uses it. Splits along the axis that is summed over change the order of additions; all others
    compute what the whole computes, element by element.

    Args:
        model: The model.
        splits: At most one a node.
        values: The types of the model's values, if they are known already (`infer_values`).

    Raises:
        PlanError: A node cannot be split like this; the message says why.
    """
    known = infer_values(model) if values is None else values
    parts = Parts(model, known)
    replaced: dict[int, list[bytes]] = {}
    for wanted in splits:
        axis = _axis(model, wanted, known)
        if wanted.node in replaced:
            raise PlanError(f"node {wanted.node} is split twice", hint="plan the model again")
        parts.nodes = []
        _write(parts, model.graph.nodes[wanted.node], axis, wanted.parts)
        replaced[wanted.node] = parts.nodes
    data = _Rewrite(model, parts, replaced).structure()
    origin = [i for node in model.graph.nodes for i in [node.index] * len(replaced.get(node.index, [b""]))]
    new = {name: tensor_value(name, *spec) for name, spec in parts.specs.items()}
    rewritten = read(model.path, Structure(data, model.files)) if splits else model
    return SplitModel(rewritten, tuple(origin), {**known, **new, **parts.values}, parts.shares)


def _axis(model: Model, wanted: Split, values: Mapping[str, Value]) -> SplitAxis:
    nodes = model.graph.nodes
    if not 0 <= wanted.node < len(nodes):
        raise PlanError(f"node {wanted.node} of {len(nodes)} cannot be split", hint="plan the model again")
    node = nodes[wanted.node]
    found = split_axes(model, node, values)
    if isinstance(found, str):
        raise PlanError(f"{node.label} cannot be split: {found}", hint="plan the model again")
    for axis in found:
        if (axis.weight, axis.axis) == (wanted.weight, wanted.axis) and 2 <= wanted.parts <= min(
            axis.steps, MOST_PARTS
        ):
            return axis
    raise PlanError(
        f"{node.label} cannot be split along axis {wanted.axis} of `{wanted.weight}` into {wanted.parts} parts",
        hint=f"possible is {' or '.join(f'{axis.label} in 2 to {min(axis.steps, MOST_PARTS)}' for axis in found)}",
    )


def _write(parts: Parts, node: Node, axis: SplitAxis, count: int) -> None:
    if axis.join == "select":
        select(parts, node, axis, count)
        return
    output, weight = node.outputs[0], parts.model.graph.initializers[axis.weight]
    kind = parts.type_of(output)
    shape = None if kind is None else kind.shape
    own = next(cut for cut in axis.cuts if node.inputs[cut.position] == axis.weight)
    made = []
    for index, (start, end) in enumerate(axis.bounds(count)):
        inputs = _inputs(parts, node, axis, index, (start, end))
        share, part_shape = Fraction(1), shape
        if axis.join == "concat":
            share = Fraction(end - start, axis.steps)
            size = (end - start) * own.step
            if shape is not None:
                part_shape = (*shape[: axis.output_axis], size, *shape[axis.output_axis + 1 :])
        name = parts.value(f"{output}.part{index}", output, weight.datatype, part_shape, share)
        is_grouped = node.op[1] in ("Conv", "FusedConv") and any(cut.position == 0 for cut in axis.cuts)
        parts.add(renamed(parts.model, node, inputs, name, **({"group": end - start} if is_grouped else {})), inputs)
        made.append(name)
    if axis.join == "concat":
        parts.concat(made, axis.output_axis, output)
    else:
        parts.node("Sum", made, output)


def _inputs(parts: Parts, node: Node, axis: SplitAxis, index: int, steps: tuple[int, int]) -> list[str]:
    inputs, share = list(node.inputs), Fraction(steps[1] - steps[0], axis.steps)
    for cut in axis.cuts:
        start, end = steps[0] * cut.step, steps[1] * cut.step
        name = f"{node.outputs[0]}.in{cut.position}.{index}"
        inputs[cut.position] = parts.part(name, inputs[cut.position], cut.axis, start, end, share)
    if index and axis.once >= 0:  # added once, with the first part
        kind = parts.model.graph.initializers[axis.weight].datatype
        inputs[axis.once] = "" if parts.opset >= _FIRST_GEMM_WITHOUT_BIAS else parts.zero(kind)
    while inputs and not inputs[-1]:
        inputs.pop()
    return inputs


@dataclass(frozen=True)
class _Rewrite:
    """The structure of a model with the parts in it; every field that is not replaced is the same bytes."""

    model: Model
    parts: Parts
    replaced: Mapping[int, list[bytes]]

    def structure(self) -> bytes:
        data, pieces = self.model.structure, []
        for number, wire, tag, start, end in fields(data, 0, len(data)):
            if number == ModelField.GRAPH and wire == LEN:
                pieces.append(encode_len(number, self._graph(start, end)))
            else:
                pieces.append(data[tag:end])
        return b"".join(pieces)

    def _graph(self, start: int, end: int) -> bytes:
        data, graph, dropped = self.model.structure, self.model.graph, self._dropped()
        spans = {node.span: self.replaced[node.index] for node in graph.nodes if node.index in self.replaced}
        spans |= {graph.initializers[name].span: [] for name in dropped}
        pieces = []
        for number, wire, tag, value, stop in fields(data, start, end):
            if (tag, stop) in spans:
                pieces += [encode_len(GraphField.NODE, proto) for proto in spans[tag, stop]]
            elif not (number == GraphField.INPUT and wire == LEN and read_value(data, value, stop).name in dropped):
                pieces.append(data[tag:stop])
        parts = self.parts
        pieces += [encode_len(GraphField.INITIALIZER, proto) for proto in parts.weights.values()]
        pieces += [encode_len(GraphField.VALUE_INFO, value.proto) for value in parts.values.values()]
        if self.model.ir_version < _FIRST_IR_WITH_FREE_INITIALIZERS:
            inputs = [tensor_value(name, *spec) for name, spec in parts.specs.items()]
            pieces += [encode_len(GraphField.INPUT, value.proto) for value in inputs]
        return b"".join(pieces)

    def _dropped(self) -> set[str]:
        """The weights that only parts are used of."""
        graph = self.model.graph
        used = {name for node in graph.nodes if node.index not in self.replaced for name in node.uses}
        used |= self.parts.used | {value.name for value in graph.outputs}
        return self.parts.parted - used
