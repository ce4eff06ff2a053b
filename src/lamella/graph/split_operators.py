"""For each operator that can be computed in parts: along which axes, and what the other inputs have to do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

from lamella.graph.attributes import integer_attribute
from lamella.graph.model import Model, Node, OpId, Value, Weight
from lamella.graph.split_axis import InputCut, Join, SplitAxis
from lamella.tensors import datatype

_FLOATS = {"FP32", "FP64", "FP16", "BF16"}
_INDICES = {datatype("INT32").onnx, datatype("INT64").onnx}
# ONNX Runtime's `Where` takes these on a CPU.
_SELECTABLE = {"FP32", "FP64", "FP16", "UINT8", "INT8", "INT32", "INT64", "UINT32"}


@dataclass(frozen=True)
class Case:
    """A node with the weight that is to be parted.

    Attributes:
        model: The model.
        node: The node.
        weight: The weight.
        position: Which of the node's inputs that is.
        values: The types of the model's values.
    """

    model: Model
    node: Node
    weight: Weight
    position: int
    values: Mapping[str, Value]

    @property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return self.model.opset_imports.get("", 1)

    def attribute(self, name: str, default: int) -> int:
        """The node's attribute of type INT."""
        return integer_attribute(self.model, self.node, name, default)

    def input(self, position: int) -> str:
        """Name of an input; empty where it is left out."""
        return self.node.inputs[position] if position < len(self.node.inputs) else ""

    def shape(self, position: int) -> tuple[int | str | None, ...] | None:
        """Shape of an input, as far as it is known."""
        value = self.values.get(self.input(position))
        return None if value is None or value.type is None else value.type.shape

    def unknown(self, position: int) -> str:
        """The reason where the shape of an input had to be known."""
        return f"the shape of its input `{self.input(position)}` is not known"

    def along(
        self, axis: int, join: Join, others: tuple[InputCut, ...] = (), *, steps: int = 0, output_axis: int = 0
    ) -> SplitAxis:
        """The split along an axis of the weight, in as many steps as it has elements, or fewer."""
        shape, steps = self.weight.shape, steps or self.weight.shape[axis]
        cuts = (InputCut(self.position, axis, shape[axis] // max(1, steps)), *others)
        contiguous = prod(shape[:axis]) == 1
        return SplitAxis(self.node.index, self.weight.name, axis, steps, join, contiguous, cuts, output_axis)

    @property
    def is_summable(self) -> bool:
        """Whether parts may be added; not where an activation comes first."""
        return datatype(self.weight.datatype).name in _FLOATS and not self.node.op[0]


def _gemm(case: Case) -> list[SplitAxis] | str:
    if case.opset < 7:
        return f"the `Gemm` of operator set {case.opset} broadcasts by rules of its own"
    if len(case.weight.shape) != 2:
        return "its weight is no matrix"
    on_right = case.position == 1
    own, other = ("transB", "transA") if on_right else ("transA", "transB")
    # The axis that is summed over: of A the last, of B the first, and the other way round where it is transposed.
    inner = int((case.attribute(own, 0) != 0) == on_right)
    others_inner = int((case.attribute(other, 0) == 0) == on_right)
    bias = _gemm_bias(case, case.weight.shape[1 - inner], from_last=1 if on_right else 2)
    found = [] if isinstance(bias, str) else [case.along(1 - inner, "concat", bias, output_axis=int(on_right))]
    if case.is_summable:
        summed = case.along(inner, "sum", (InputCut(1 - case.position, others_inner, 1),))
        found.append(replace(summed, once=2 if case.input(2) else -1))
    return bias if isinstance(bias, str) and not found else found


def _gemm_bias(case: Case, size: int, *, from_last: int) -> tuple[InputCut, ...] | str:
    """How the bias, which broadcasts to the output, is parted along the output's axis of that `size`."""
    if not case.input(2):
        return ()
    shape = case.shape(2)
    if shape is None:
        return case.unknown(2)
    if len(shape) < from_last or shape[-from_last] == 1:
        return ()
    if shape[-from_last] != size:
        return case.unknown(2)
    return (InputCut(2, len(shape) - from_last, 1),)


def _matmul(case: Case) -> list[SplitAxis] | str:
    shape = case.shape(1 - case.position)
    if shape is None:
        return case.unknown(1 - case.position)
    rank, own = len(shape), len(case.weight.shape)
    if not rank or not own:
        return "one of its inputs is no matrix"
    on_right = case.position == 1
    result = (max(rank, own) if min(rank, own) > 1 else rank + own - 2) - 1  # last axis of the output
    own_inner = max(0, own - 2) if on_right else own - 1
    others_inner = rank - 1 if on_right else max(0, rank - 2)
    found = []
    if own > 1:
        outer = own - 1 if on_right else own - 2
        is_last = on_right or rank == 1
        found.append(case.along(outer, "concat", output_axis=result if is_last else result - 1))
    if case.is_summable:
        found.append(case.along(own_inner, "sum", (InputCut(1 - case.position, others_inner, 1),)))
    return found


def _conv(case: Case) -> list[SplitAxis] | str:
    if len(case.weight.shape) < 3:
        return "its weight has no spatial axes"
    if case.input(3):
        return "it adds another tensor to its result"
    group, channels = case.attribute("group", 1), case.weight.shape[0]
    if group < 1 or channels % group:
        return f"its {channels} output channels do not divide into {group} groups"
    steps = group if group > 1 else max(1, channels)
    data = [InputCut(0, 1, case.weight.shape[1])] if group > 1 else []
    bias = [InputCut(2, 0, channels // steps)] if case.input(2) else []
    return [case.along(0, "concat", (*data, *bias), steps=steps, output_axis=1)]


def _gather(case: Case) -> list[SplitAxis] | str:
    rank = len(case.weight.shape)
    if not rank or case.attribute("axis", 0) not in (0, -rank):
        return "it picks along an inner axis of its weight"
    name = datatype(case.weight.datatype).name
    if name not in _SELECTABLE or case.opset < 9:
        return f"no engine selects among parts of {name} in operator set {case.opset}"
    indices = case.values.get(case.input(1))
    if indices is None or indices.type is None or indices.type.shape is None or indices.type.datatype not in _INDICES:
        return case.unknown(1)
    return [case.along(0, "select")]


Analysis = Callable[[Case], list[SplitAxis] | str]
OPERATORS: dict[OpId, tuple[tuple[int, ...], Analysis]] = {
    ("", "Gemm", ""): ((0, 1), _gemm),
    ("", "MatMul", ""): ((0, 1), _matmul),
    ("", "Conv", ""): ((1,), _conv),
    ("", "Gather", ""): ((0,), _gather),
    ("com.microsoft", "FusedGemm", ""): ((0, 1), _gemm),
    ("com.microsoft", "FusedConv", ""): ((1,), _conv),
}
"""For each operator that can be computed in parts: which inputs may be the weight, and how."""
