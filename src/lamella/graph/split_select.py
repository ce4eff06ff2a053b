"""A `Gather` from a table of which every part holds some rows.

Each part gets indices of its own rows, and says which those were; for the others it picks its first row, which the
selection at the end ignores. Nothing is computed with rows, so that every datatype comes through as it is,
not-a-number included. No part needs anything of another one.
"""

from __future__ import annotations

from fractions import Fraction

from lamella.graph.attributes import renamed
from lamella.graph.model import Node
from lamella.graph.split_parts import Parts
from lamella.graph.splits import SplitAxis
from lamella.tensors import datatype

_BOOL = datatype("BOOL").onnx


def select(parts: Parts, node: Node, axis: SplitAxis, count: int) -> None:
    """Write the parts of a `Gather` along axis 0, and the selection among them.

    Indices may be negative. Those outside the table are refused, as they are by the whole: by the first or last part.
    """
    table, output = parts.model.graph.initializers[axis.weight], node.outputs[0]
    kind = parts.type_of(output)
    shape = None if kind is None else kind.shape
    gathered, masks = [], []
    for index, (start, end) in enumerate(axis.bounds(count)):
        name = parts.value(f"{output}.part{index}", output, table.datatype, shape, Fraction(1))
        indices = _Indices(parts, node, name)
        rows = indices.within(start, end, is_first=index == 0, is_last=index == count - 1)
        inputs = [parts.part_of_weight(table, 0, start, end), rows]
        parts.add(renamed(parts.model, node, inputs, name), inputs)
        gathered.append(name)
        masks.append(indices.from_row(start, rank=len(table.shape)) if index else "")
    chosen = gathered[0]
    for index in range(1, count):
        name = output
        if index < count - 1:
            name = parts.value(f"{output}.to_part{index}", output, table.datatype, shape, Fraction(1))
        # What was chosen so far comes last: so every part, depth-first, comes before the first choice and needs none.
        chosen = parts.node("Where", [masks[index], gathered[index], chosen], name)


class _Indices:
    """Arithmetic on the indices of one part."""

    def __init__(self, parts: Parts, node: Node, base: str) -> None:
        kind = parts.type_of(node.inputs[1])
        assert kind is not None, "the analysis asked for the type of the indices"
        self._parts, self._given, self._base, self._kind = parts, node.inputs[1], base, kind
        rows = parts.model.graph.initializers[node.inputs[0]].shape[0]
        raised = self._node("Add", self._given, rows)
        self._from_zero = self._where(self._compared("Less", self._given, 0), raised, self._given)

    def within(self, start: int, end: int, *, is_first: bool, is_last: bool) -> str:
        """The indices of the rows `[start, end)` in a table of just these; 0 for all other rows of the whole table."""
        rows = self._from_zero if is_first else self._node("Sub", self._from_zero, start)
        if not is_last:
            rows = self._where(self._compared("Less", rows, end - start), rows, self._number(0))
        beyond = end - start if is_first else 0  # nothing lies before the first row of all: the first part refuses it
        return self._where(self._compared("Less", rows, 0), self._number(beyond), rows)

    def from_row(self, start: int, *, rank: int) -> str:
        """Where the index is `start` or above, as broad as rows of a table of that rank."""
        mask = self._compared("Greater", self._from_zero, start - 1)
        return self._parts.unsqueezed(mask, rank - 1) if rank > 1 else mask

    def _number(self, value: int) -> str:
        return self._parts.constant(self._kind.datatype, value, rank=0)

    def _compared(self, op_type: str, name: str, bound: int) -> str:
        share = Fraction(8, datatype(self._kind.datatype).bits)
        return self._node(op_type, name, bound, kind=_BOOL, share=share)

    def _where(self, mask: str, chosen: str, otherwise: str) -> str:
        return self._parts.node("Where", [mask, chosen, otherwise], self._value("where", self._kind.datatype))

    def _node(self, op_type: str, name: str, number: int, *, kind: int = 0, share: Fraction = Fraction(1)) -> str:
        output = self._value(op_type.lower(), kind or self._kind.datatype, share)
        return self._parts.node(op_type, [name, self._number(number)], output)

    def _value(self, name: str, kind: int, share: Fraction = Fraction(1)) -> str:
        return self._parts.value(f"{self._base}.{name}", self._given, kind, self._kind.shape, share)
