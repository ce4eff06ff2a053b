"""Which nodes can be computed in parts, each with a part of the weight, and how the parts become the whole again.

| node | along | the parts are |
|---|---|---|
| `Gemm`, `MatMul` with a weight on either side | the weight's outer axis | concatenated: the same sums |
| the same, of floats | the axis that is summed over | added: in another order than in the whole |
| `Conv` | output channels, or whole groups of them | concatenated |
| `Gather` from a weight, along axis 0 | its rows | selected from, by index |

What ONNX Runtime makes of a `Gemm` or `Conv` and the activation behind it is split in the same way, but never added.

A part of a weight is a range of the bytes of the whole. Along the first axis (of those longer than 1) it is one run of
bytes, which slices refer to where it lies; along another it comes in pieces, which slicing copies into one run.
"""

from __future__ import annotations

from collections.abc import Mapping

from lamella.graph.model import Model, Node, Value, Weight
from lamella.graph.split_axis import MOST_PARTS, Split, SplitAxis
from lamella.graph.split_operators import OPERATORS, Case
from lamella.tensors import datatype

__all__ = ["MOST_PARTS", "Split", "SplitAxis", "is_parted_in_place", "split_axes", "splittable"]


def splittable(model: Model, node: Node, values: Mapping[str, Value]) -> SplitAxis | str:
    """The best way to compute a node in parts, or why there is none. Reads no weights.

    Parts that are concatenated and lie in one run each are best: the same sums, and nothing is copied. Where the outer
    axis has no such parts, the axis that is summed over may have them. Then the fewer bytes between slices decide.
    Parts to be added all give the whole output and share the input; parts to be concatenated do it the other way round.
    So a weight with more outputs than inputs is copied in pieces, once; any other is split along its inputs, in place.

    Args:
        model: The model.
        node: One of its nodes.
        values: The types of its values (`infer_values`).
    """
    found = split_axes(model, node, values)
    if isinstance(found, str):
        return found
    outer, inner = found[0], found[-1]
    in_place = inner.contiguous and not outer.contiguous
    return inner if in_place and inner.steps >= outer.steps else outer


def split_axes(model: Model, node: Node, values: Mapping[str, Value]) -> list[SplitAxis] | str:
    """Every way to compute a node in parts, those with the same sums first, or why there is none."""
    known = OPERATORS.get(node.op)
    if known is None:
        return f"it is unknown how parts of a `{node.op[1]}` would become the whole"
    positions, analyse = known
    initializers = model.graph.initializers
    stored = [p for p in positions if p < len(node.inputs) and node.inputs[p] in initializers]
    if not stored:
        return "it computes with no weight as it is stored: that may be dequantised or transposed first"
    position = max(stored, key=lambda p: initializers[node.inputs[p]].nbytes)
    weight = initializers[node.inputs[position]]
    reason = _kept_whole(model, node, weight)
    if reason is not None:
        return f"its weight `{weight.name}` {reason}"
    found = analyse(Case(model, node, weight, position, values))
    if isinstance(found, str):
        return found
    usable = [axis for axis in found if axis.steps > 1]
    return usable or f"its weight `{weight.name}` of shape {list(weight.shape)} has no axis that can be parted"


def is_parted_in_place(model: Model, weight: Weight) -> bool:
    """Whether parts of a weight are ranges of its bytes, and mean what they did in the whole."""
    place, bits = weight.range, datatype(weight.datatype).bits
    overridable = any(value.name == weight.name for value in model.optional_inputs)
    return not (weight.sparse or overridable or place is None or not place.is_plain or bits < 8)


def _kept_whole(model: Model, node: Node, weight: Weight) -> str | None:
    """Why a weight cannot be parted, or None where it can."""
    place, name = weight.range, weight.name
    reasons = (
        (weight.sparse, "is sparse"),
        (place is None, "is too small"),
        (any(v.name == name for v in model.graph.outputs), "is an output of the model too, and stays whole"),
        (any(v.name == name for v in model.optional_inputs), "may be overridden by the caller, with a whole one"),
        (place is not None and place.coding is not None, "is stored in numbers of varying length, not as raw data"),
        (not is_parted_in_place(model, weight), f"has several {datatype(weight.datatype).name} to a byte"),
        (node.inputs.count(name) > 1, "is taken twice by the same node"),
    )
    return next((reason for applies, reason in reasons if applies), None)
