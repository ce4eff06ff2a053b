"""The graph as the planner sees it: which nodes are placed, which are repeated, and what flows between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush

from lamella.errors import MalformedModelError
from lamella.graph.model import Model, Node

# Nodes that give another answer each time, or hold state: never repeated in two slices.
_RANDOM = {
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


_MOST_REPEATED = 100  # constant nodes behind another; more are placed like any other, or plans grow with their square


@dataclass(frozen=True)
class Flow:
    """A model's nodes, split into those that depend on its inputs and those that do not.

    Attributes:
        model: The model.
        placed: Indices of the nodes that belong to exactly one slice, in a topological order. Those that no output
            needs are left out: a slice of them alone would give nothing, which ONNX Runtime refuses.
        constant: Indices of the nodes that depend on weights alone (`Constant`, `DequantizeLinear` of a weight): every
            slice that needs one gets its own.
    """

    model: Model
    placed: tuple[int, ...]
    constant: frozenset[int]

    @cached_property
    def maker(self) -> dict[str, int]:
        """Index of the node that makes a value."""
        return {name: node.index for node in self.model.graph.nodes for name in node.outputs if name}

    @cached_property
    def needs(self) -> dict[int, tuple[int, ...]]:
        """For each node, the constant nodes behind it, in file order."""
        found: dict[int, tuple[int, ...]] = {}
        for index in (*self._constant_in_order, *self.placed):
            direct = [self.maker[name] for name in self.model.graph.nodes[index].uses if name in self.maker]
            closure = {i for d in direct if d in self.constant for i in (d, *found[d])}
            found[index] = tuple(sorted(closure, key=self._rank.__getitem__))
        return found

    @cached_property
    def _constant_in_order(self) -> tuple[int, ...]:
        return tuple(index for index in topological_order(self.model) if index in self.constant)

    @cached_property
    def _rank(self) -> dict[int, int]:
        return {index: rank for rank, index in enumerate(self._constant_in_order)}

    @cached_property
    def weight_names(self) -> dict[int, tuple[str, ...]]:
        """For each placed node, the initializers that it and the constant nodes behind it use."""
        nodes, initializers = self.model.graph.nodes, self.model.graph.initializers
        return {
            index: tuple(
                dict.fromkeys(
                    name for i in (*self.needs[index], index) for name in nodes[i].uses if name in initializers
                )
            )
            for index in self.placed
        }


def flow_of(model: Model) -> Flow:
    """Split a model's nodes into placed and constant ones.

    Raises:
        MalformedModelError: The nodes depend on each other in a circle.
    """
    order = _needed(model, topological_order(model))
    nodes = model.graph.nodes
    overridable = {value.name for value in model.optional_inputs}
    known = {name for name in model.graph.initializers if name not in overridable}
    constant: set[int] = set()
    behind: dict[str, int] = {}  # for each value that a constant node makes, at most so many nodes
    for index in order:
        node = nodes[index]
        if _is_repeatable(node) and all(name in known for name in node.uses):
            count = 1 + sum(behind.get(name, 0) for name in node.uses)
            if count <= _MOST_REPEATED:
                constant.add(index)
                known.update(node.outputs)
                behind.update(dict.fromkeys(node.outputs, count))
    if len(constant) == len(order):
        constant = set()
    return Flow(model, tuple(i for i in order if i not in constant), frozenset(constant))


def _needed(model: Model, order: list[int]) -> list[int]:
    """The nodes of `order` that an output of the model depends on; all of them where none does."""
    wanted = {value.name for value in model.graph.outputs}
    kept: list[int] = []
    for index in reversed(order):
        node = model.graph.nodes[index]
        if not wanted.isdisjoint(node.outputs):
            wanted.update(node.uses)
            kept.append(index)
    return kept[::-1] or order


def _is_repeatable(node: Node) -> bool:
    return not node.calls and node.op[0] in ("", "com.microsoft") and node.op[1] not in _RANDOM


def topological_order(model: Model) -> list[int]:
    """Node indices so that each comes after what it uses: file order, wherever that is one already.

    Raises:
        MalformedModelError: The nodes depend on each other in a circle.
    """
    nodes = model.graph.nodes
    maker = {name: node.index for node in nodes for name in node.outputs if name}
    missing = [0] * len(nodes)
    users: list[list[int]] = [[] for _ in nodes]
    for node in nodes:
        for source in {maker[name] for name in node.uses if name in maker}:
            missing[node.index] += 1
            users[source].append(node.index)
    ready = [index for index, count in enumerate(missing) if count == 0]
    order: list[int] = []
    while ready:
        index = heappop(ready)
        order.append(index)
        for user in users[index]:
            missing[user] -= 1
            if missing[user] == 0:
                heappush(ready, user)
    if len(order) < len(nodes):
        stuck = next(node for node in nodes if missing[node.index])
        raise MalformedModelError(
            f"{stuck.label} depends on itself, through up to {len(nodes) - len(order)} nodes",
            hint="export the model again",
        )
    return order
