"""From the times of what an engine ran to the nodes of the model as it was before the engine optimised it. Pure.

An engine fuses nodes and changes layouts; each node that it runs stands for one or several of the model. Which ones is
told by its name, where the engine keeps it or derives one from it, and by the values that it still makes under their
own names: the fused node makes what the last of them made. Nodes that have vanished belong to the one that took what
they made. Within such a group the time goes to each by its own work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.graph.model import Model
from lamella.graph.protobuf import LEN, encode_len, fields, len_prefix, text
from lamella.graph.rewrite import rewrite
from lamella.graph.schema import Graph as GraphField
from lamella.graph.schema import Kind
from lamella.graph.schema import Model as ModelField
from lamella.graph.schema import Node as NodeField
from lamella.graph.source import FileSource
from lamella.planner.flow import flow_of, topological_order

_NUMBER = re.compile(r"@(\d+)@")
_LAYOUT_SUFFIX = re.compile(r"_nchwc(_token_\d+)?$")  # ONNX Runtime names these by the value that they make


@dataclass(frozen=True)
class Executed:
    """A node of the graph that the engine runs.

    Attributes:
        name: What the engine calls it.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        ms: Time of one run.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ms: float


def numbered(structure: bytes) -> bytes:
    """A model's structure in which each node of the main graph is named after its index."""
    pieces: list[bytes] = []
    for number, wire, tag, start, end in fields(structure, 0, len(structure)):
        if number != ModelField.GRAPH or wire != LEN:
            pieces.append(structure[tag:end])
            continue
        body = b"".join(_numbered_fields(structure, start, end))
        pieces += [len_prefix(ModelField.GRAPH, len(body)), body]
    return b"".join(pieces)


def _numbered_fields(data: bytes, start: int, end: int) -> Iterator[bytes]:
    index = 0
    for number, wire, tag, begin, finish in fields(data, start, end):
        if number != GraphField.NODE or wire != LEN:
            yield data[tag:finish]
            continue
        kept = [data[t:f] for n, _, t, _, f in fields(data, begin, finish) if n != NodeField.NAME]
        yield encode_len(GraphField.NODE, b"".join((*kept, encode_len(NodeField.NAME, f"@{index}@"))))
        index += 1


def read_executed(path: Path, times_ms: Mapping[str, float]) -> list[Executed]:
    """The nodes of the graph that the engine wrote to `path`, in order, with their times. Its weights are not read."""
    with path.open("rb") as file:
        data = rewrite(
            FileSource(file.fileno(), path.stat().st_size), Kind.MODEL, 0, path.stat().st_size, lambda _: b""
        )
    return [
        _executed(data, begin, finish, times_ms)
        for number, wire, _, start, end in fields(data, 0, len(data))
        if number == ModelField.GRAPH and wire == LEN
        for inner, kind, _, begin, finish in fields(data, start, end)
        if inner == GraphField.NODE and kind == LEN
    ]


def _executed(data: bytes, start: int, end: int, times_ms: Mapping[str, float]) -> Executed:
    found: dict[int, list[str]] = {NodeField.NAME: [""], NodeField.INPUT: [], NodeField.OUTPUT: []}
    for number, wire, _, begin, finish in fields(data, start, end):
        if wire == LEN and number in found:
            found[number].append(text(data, begin, finish))
    name = found[NodeField.NAME][-1]
    return Executed(name, tuple(found[NodeField.INPUT]), tuple(found[NodeField.OUTPUT]), times_ms.get(name, 0.0))


def attributed(model: Model, executed: Sequence[Executed], expected_ms: Sequence[float]) -> list[float]:
    """Milliseconds of each node of the main graph, by its index; they add up to those of `executed`.

    Args:
        model: The model, whose nodes the engine knew by the names that `numbered` gives them.
        executed: What ran, in an order in which it can run.
        expected_ms: What each node would take by itself: how the time of a group is divided.
    """
    flow = flow_of(model)
    groups = _Groups(len(model.graph.nodes))
    owners = _owners(executed, flow.maker, groups)
    _adopt(model, {i for i in owners if i is not None}, flow.constant, groups)
    spent = [0.0] * len(model.graph.nodes)
    lost = 0.0
    for node, owner in zip(executed, owners, strict=True):
        if owner is None:
            lost += node.ms
        else:
            spent[groups.find(owner)] += node.ms
    members: dict[int, list[int]] = {}
    for index in range(len(spent)):
        if index not in flow.constant or spent[groups.find(index)]:
            members.setdefault(groups.find(index), []).append(index)
    shared = [0.0] * len(spent)
    for root, group in members.items():
        whole = sum(expected_ms[i] for i in group)
        for i in group:
            shared[i] = spent[root] * (expected_ms[i] / whole if whole else 1 / len(group))
    placed = sum(shared)
    return [time * (1 + lost / placed) for time in shared] if placed else [lost / max(1, len(shared))] * len(shared)


class _Groups:
    """Disjoint sets of node indices."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, first: int, second: int) -> None:
        self._parent[self.find(first)] = self.find(second)


def _owners(executed: Sequence[Executed], maker: Mapping[str, int], groups: _Groups) -> list[int | None]:
    """For each executed node, one node of the model that it stands for; those that it stands for together are joined.

    One that stands for none, such as a change of layout, belongs to the first that uses what it makes.
    """
    owners: list[int | None] = [None] * len(executed)
    users: dict[str, int] = {}  # for each value, what the first executed node that uses it stands for
    for position in range(len(executed) - 1, -1, -1):
        node = executed[position]
        origins = [int(number) for number in _NUMBER.findall(node.name)]
        origins += [maker[name] for name in (*node.outputs, _LAYOUT_SUFFIX.sub("", node.name)) if name in maker]
        for other in origins[1:]:
            groups.join(other, origins[0])
        owner = origins[0] if origins else next((users[name] for name in node.outputs if name in users), None)
        owners[position] = owner
        if owner is not None:
            users.update(dict.fromkeys(node.inputs, owner))
    return owners


def _adopt(model: Model, present: set[int], constant: frozenset[int], groups: _Groups) -> None:
    """Join each node that has vanished to the first that takes what it makes."""
    nodes = model.graph.nodes
    present = {groups.find(index) for index in present}
    users: dict[str, int] = {}
    for index in reversed(topological_order(model)):
        if groups.find(index) not in present and index not in constant:
            user = next((users[name] for name in nodes[index].outputs if name in users), None)
            if user is not None:
                groups.join(index, user)
        users.update(dict.fromkeys(nodes[index].uses, index))
