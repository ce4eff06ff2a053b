"""A slice as bytes: the model's own bytes for nodes, weights and types, joined under a new graph.

Nothing is decoded and encoded again, so whatever a node carries (attributes, metadata, fields newer than this code)
is in its slice to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable

from lamella.errors import PlanError
from lamella.graph.model import Model
from lamella.graph.protobuf import encode_len
from lamella.graph.schema import Graph as GraphField
from lamella.graph.schema import Model as ModelField
from lamella.graph.stored import Span
from lamella.planner.plan import Plan, Slice


def assemble(plan: Plan, part: Slice) -> bytes:
    """The ModelProto of one slice; its weights are the references of the model's structure.

    Raises:
        PlanError: A value that crosses into the slice has no known type.
    """
    model, structure = plan.model, plan.model.structure
    graph = model.graph
    nodes = [graph.nodes[index] for index in part.nodes]
    weights = _weights(model, part)
    present = {name for node in nodes for name in (*node.uses, *node.outputs)}
    inner = present - set(part.inputs) - set(part.outputs)
    overridable = [value.name for value in graph.inputs if value.name in weights]
    spans: list[Span] = [node.span for node in nodes]
    spans += [graph.initializers[name].span for name in weights]
    spans += [span for name, span in graph.annotations.items() if name in present]
    body = [
        *(structure[start:end] for start, end in spans),
        encode_len(GraphField.NAME, f"{graph.name or 'graph'}_slice_{part.index}"),
        graph.header,
        *(encode_len(GraphField.INPUT, _proto(plan, name)) for name in (*part.inputs, *overridable)),
        *(encode_len(GraphField.OUTPUT, _proto(plan, name)) for name in part.outputs),
        *(encode_len(GraphField.VALUE_INFO, graph.values[name].proto) for name in graph.values if name in inner),
    ]
    functions = (model.functions[op].span for op in model.functions_called(nodes))
    pieces = [model.header, *(structure[start:end] for start, end in functions)]
    return b"".join((*pieces, encode_len(ModelField.GRAPH, b"".join(body))))


def _weights(model: Model, part: Slice) -> list[str]:
    """Names of the initializers that a slice uses or gives, each once."""
    initializers = model.graph.initializers
    names: Iterable[str] = (*(n for i in part.nodes for n in model.graph.nodes[i].uses), *part.outputs)
    return list(dict.fromkeys(name for name in names if name in initializers))


def _proto(plan: Plan, name: str) -> bytes:
    value = plan.values.get(name)
    if value is None or not value.proto:
        raise PlanError(
            f"the type of `{name}` is not known, so it cannot go from one slice to another",
            hint="ask for fewer slices, or name the library with the model's custom operators with `--custom-ops`",
        )
    return value.proto
