"""Finds the node that does not keep the rows of a batch apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lamella.checking.subject import Subject
from lamella.engines.base import EngineOptions
from lamella.engines.onnxruntime import OnnxRuntimeEngine
from lamella.errors import LamellaError
from lamella.graph.loadable import loadable
from lamella.graph.model import Model, Node, Value
from lamella.graph.protobuf import LEN, encode_len, fields
from lamella.graph.schema import Graph as GraphField
from lamella.graph.schema import Model as ModelField
from lamella.planner.flow import topological_order
from lamella.slicing.differences import difference
from lamella.tensors import Array


def baked_node(part: Subject, alone: Mapping[str, Array], rows: Mapping[str, Array]) -> str | None:
    """Label of the node that bakes the batch in, or None where none can be told.

    Runs the model without optimisation on one row and on more, with every inner tensor as an output, and looks for the
    first node whose result for the first row is another one. Where more rows do not run, the longest beginning of the
    model that does is looked for, and blamed is the node behind it, or a reshape before it that moved the rows off the
    first axis.

    Args:
        part: The model.
        alone: A request of one row.
        rows: The same with further rows behind it.
    """
    order = topological_order(part.model)
    single = _values(part, order, alone)
    if single is None:
        return None
    several, count = _longest(part, order, rows)
    nodes = part.model.graph.nodes
    for index in order[:count]:
        node = nodes[index]
        if any(
            _mixes(name, single[name], several[name]) for name in node.outputs if name in single and name in several
        ):
            return node.label
    if count == len(order):
        return None
    failed = nodes[order[count]]
    moved = _moved([nodes[index] for index in order[:count]], failed, {**single, **alone}, {**several, **rows})
    return (moved or failed).label


def _longest(part: Subject, order: Sequence[int], request: Mapping[str, Array]) -> tuple[dict[str, Array], int]:
    """The values of the most nodes, from the first on, that run on a request, and how many these are: bisection."""
    whole = _values(part, order, request)
    if whole is not None:
        return whole, len(order)
    low, high, found = 0, len(order), dict[str, Array]()
    while high - low > 1:
        middle = (low + high) // 2
        values = _values(part, order[:middle], request)
        if values is None:
            high = middle
        else:
            low, found = middle, values
    return found, low


def _values(part: Subject, order: Sequence[int], request: Mapping[str, Array]) -> dict[str, Array] | None:
    """What these nodes make of a request; None where they do not run."""
    known, graph = part.values[1], part.model.graph
    made = [name for index in order for name in graph.nodes[index].outputs if name in known]
    tensors = [known[name] for name in made if (kind := known[name].type) is not None and kind.is_tensor]
    data, folder = _cropped(part.model, {graph.nodes[index].span for index in order}, tensors)
    options = EngineOptions(optimization="none", low_memory=True, custom_ops=part.custom_ops)
    engine = OnnxRuntimeEngine()
    try:
        session = engine.load(data, options, folder=folder)
        found = session.infer(request)
        return {name: engine.to_array(item) for name, item in found.items()}
    except LamellaError:
        return None


def _cropped(model: Model, spans: set[tuple[int, int]], outputs: Sequence[Value]) -> tuple[bytes, Path]:
    """The model with these nodes and outputs alone, and the folder that its references start from."""
    data = model.structure
    pieces: list[bytes] = []
    for number, wire, tag_start, body, stop in fields(data, 0, len(data)):
        if number == ModelField.GRAPH and wire == LEN:
            pieces.append(encode_len(number, _graph(data, (body, stop), spans, outputs)))
        else:
            pieces.append(data[tag_start:stop])
    return loadable(model, b"".join(pieces))


def _graph(data: bytes, body: tuple[int, int], spans: set[tuple[int, int]], outputs: Sequence[Value]) -> bytes:
    kept = [
        data[start:end]
        for number, _, start, _, end in fields(data, *body)
        if number not in (GraphField.OUTPUT, GraphField.VALUE_INFO)
        and (number != GraphField.NODE or (start, end) in spans)
    ]
    return b"".join((*kept, *(encode_len(GraphField.OUTPUT, value.proto) for value in outputs)))


def _mixes(name: str, single: Array, several: Array) -> bool:
    """Whether the first row of `several` is not `single`.

    Integers are not compared: those that are not data are sizes, which grow with the rows as they should.
    """
    if single.dtype.kind not in "fV" or single.size == 0:
        return False
    if single.ndim != several.ndim:
        return True
    grown = [axis for axis, (one, more) in enumerate(zip(single.shape, several.shape, strict=True)) if one != more]
    if len(grown) > 1 or (grown and several.shape[grown[0]] % single.shape[grown[0]]):
        return True
    first = several if not grown else np.take(several, range(single.shape[grown[0]]), grown[0])
    return not difference(name, single, first).ok


def _moved(
    before: Sequence[Node], failed: Node, single: Mapping[str, Array], several: Mapping[str, Array]
) -> Node | None:
    """The last reshape that `failed` depends on, and behind which the first axis no longer holds the rows."""
    wanted = set(failed.uses)
    for node in reversed(before):
        if wanted.isdisjoint(node.outputs):
            continue
        wanted.update(node.uses)
        if node.op[1] in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") and node.inputs:
            source, made = node.inputs[0], node.outputs[0]
            if _leads(source, single, several) and not _leads(made, single, several):
                return node
    return None


def _leads(name: str, single: Mapping[str, Array], several: Mapping[str, Array]) -> bool:
    """Whether the first axis of a value grows with the rows."""
    if name not in single or name not in several:
        return False
    one, more = single[name].shape, several[name].shape
    return bool(one) and bool(more) and one[0] != more[0]
