"""Legal cuts, what crosses them, and what a run of nodes needs in memory.

Position `p` in an order of `n` nodes lies before node `p`: positions 1 to n - 1 are possible cuts. A cut is legal if
only dense tensors cross it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lamella.graph.model import Value
from lamella.planner.flow import Flow

# Engines compute these within the convolution, matrix product or normalisation whose result they take.
_FUSED = {
    *("Add", "Div", "Mul", "Pow", "Sqrt", "Sub", "Sum"),
    *("BiasGelu", "Clip", "Elu", "Erf", "FastGelu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish"),
    *("PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh"),
    *("BatchNormalization", "Cast", "QuantizeLinear"),
}


@dataclass(frozen=True)
class Cuts:
    """One order of a model's nodes, with everything that choosing cuts in it needs.

    Attributes:
        order: Indices of the placed nodes, in the order they run.
        crossing: Bytes that cross position p; length n + 1, zero at both ends.
        splits: Whether position p parts a node from the one that engines fuse into it; length n + 1.
        legal: Whether only tensors of known datatype cross position p; length n + 1.
        alive: Bytes of activations alive while node p of the order runs; length n.
        weights: For each node of the order, (name, bytes) of the weights that it needs.
    """

    order: tuple[int, ...]
    crossing: Sequence[int]
    splits: Sequence[bool]
    legal: Sequence[bool]
    alive: Sequence[int]
    weights: Sequence[tuple[tuple[str, int], ...]]

    @property
    def positions(self) -> list[int]:
        """The legal cuts."""
        return [p for p in range(1, len(self.order)) if self.legal[p]]

    def cost(self, position: int) -> float:
        """What a cut there costs: the bytes that cross it; of equal ones, one that splits no fusion is cheaper."""
        return self.crossing[position] + 0.5 * self.splits[position]

    def needs(self, start: int, end: int) -> tuple[int, int]:
        """Bytes of weights, each once, and of activations at their worst, of the nodes `[start, end)` of the order."""
        unique = {name: size for pairs in self.weights[start:end] for name, size in pairs}
        return sum(unique.values()), max(self.alive[start:end], default=0)


def cuts_of(flow: Flow, order: tuple[int, ...], sizes: Mapping[str, int], values: Mapping[str, Value]) -> Cuts:
    """Compute what crosses each position of `order`, and what is alive at each node.

    A value is alive from the node that makes it to the last that uses it; model inputs from the first that uses them.
    Model inputs and outputs travel straight between the caller and the slice, so they cross no cut.
    """
    nodes, count = flow.model.graph.nodes, len(order)
    maker = flow.maker
    made: dict[str, int] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, index in enumerate(order):
        for name in _runtime_uses(flow, index, maker):
            first.setdefault(name, position)
            last[name] = position
        for name in nodes[index].outputs:
            if name:
                made[name] = position
    crossing, blocked, alive = [0] * (count + 2), [0] * (count + 2), [0] * (count + 1)
    for name in made.keys() | last.keys():
        start = made.get(name, first.get(name, 0))
        end = last.get(name, start)
        size = sizes.get(name, 0)
        alive[start] += size
        alive[end + 1] -= size
        if name in made and end > start:
            crossing[start + 1] += size
            crossing[end + 1] -= size
            kind = values[name].type if name in values else None
            if kind is None or not kind.is_tensor:
                blocked[start + 1] += 1
                blocked[end + 1] -= 1
    return Cuts(
        order,
        _running_sum(crossing)[: count + 1],
        [_splits(flow, order, position) for position in range(count + 1)],
        [total == 0 for total in _running_sum(blocked)[: count + 1]],
        _running_sum(alive)[:count],
        _weights(flow, order, sizes),
    )


def _splits(flow: Flow, order: tuple[int, ...], position: int) -> bool:
    """Whether the node behind a cut is an element-wise one that continues what the node before it made."""
    if not 0 < position < len(order):
        return False
    before, behind = (flow.model.graph.nodes[index] for index in order[position - 1 : position + 1])
    return behind.op[1] in _FUSED and not set(before.outputs).isdisjoint(behind.inputs)


def _runtime_uses(flow: Flow, index: int, maker: Mapping[str, int]) -> Iterable[str]:
    """Values that must be sent to a node: neither weights nor what constant nodes make."""
    initializers = flow.model.graph.initializers
    for name in flow.model.graph.nodes[index].uses:
        if name not in initializers and maker.get(name, -1) not in flow.constant:
            yield name


def _running_sum(changes: Sequence[int]) -> list[int]:
    total, out = 0, []
    for change in changes:
        total += change
        out.append(total)
    return out


def _weights(flow: Flow, order: Iterable[int], sizes: Mapping[str, int]) -> list[tuple[tuple[str, int], ...]]:
    """Weights of each node: initializers by name; what nodes and functions hold inside, by a key of their own."""
    graph, functions = flow.model.graph, flow.model.functions
    size = {name: weight.nbytes for name, weight in graph.initializers.items()}
    inside = {node.index: sum(w.nbytes for w in node.weights) for node in graph.nodes if node.weights}
    for index in flow.constant - inside.keys():
        inside[index] = sum(sizes.get(name, 0) for name in graph.nodes[index].outputs)
    bodies = {op: sum(w.nbytes for w in function.weights) for op, function in functions.items() if function.weights}
    found = []
    for index in order:
        pairs = [(name, size[name]) for name in flow.weight_names[index]]
        pairs += [(f"\0node {i}", inside[i]) for i in (*flow.needs[index], index) if i in inside]
        if bodies:
            called = flow.model.functions_called([graph.nodes[i] for i in (*flow.needs[index], index)])
            pairs += [(f"\0function {op}", bodies[op]) for op in called if op in bodies]
        found.append(tuple(pairs))
    return found
