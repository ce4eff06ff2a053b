"""Plans: which nodes run in which slice, and what goes between the slices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from lamella.errors import PlanError, UsageError
from lamella.graph.model import Model, Node, Value
from lamella.graph.reader import load
from lamella.planner.cuts import Cuts, cuts_of
from lamella.planner.flow import Flow, flow_of
from lamella.planner.order import candidate_orders
from lamella.planner.partition import Partition, balanced, under_memory
from lamella.planner.sizes import value_sizes

SCHEMA = "lamella.plan/1"

ENGINE_FLOOR_BYTES = 96 << 20
"""Resident memory of a process that holds Python, NumPy and ONNX Runtime and no model, rounded up (measured)."""


@dataclass(frozen=True)
class Slice:
    """One sub-model.

    Attributes:
        index: Its position in the plan.
        nodes: Indices of its nodes in the model's graph, in the order they run; constant ones may be in others too.
        inputs: Names of the values that it takes, from the caller or from earlier slices.
        outputs: Names of the values that it gives, to the caller or to later slices.
        weights_bytes: Bytes of the weights that it needs, each once.
        activations_bytes: Bytes of activations alive at their worst moment.
        memory_mb: Memory for a process that runs it: engine, weights and activations, in units of 1024 * 1024 bytes.
    """

    index: int
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights_bytes: int
    activations_bytes: int

    @property
    def memory_mb(self) -> int:
        """Memory for a process that runs it, in MB of 1024 * 1024 bytes, rounded up."""
        return -(-(ENGINE_FLOOR_BYTES + self.weights_bytes + self.activations_bytes) // (1 << 20))


@dataclass(frozen=True)
class Plan:
    """The whole decomposition of a model.

    Attributes:
        model: The model.
        slices: Its slices, in an order in which they can run.
        crossing_bytes: Bytes alive across each cut, for the assumed sizes of symbolic dimensions.
        values: The type of every value that anything knows.
    """

    model: Model
    slices: tuple[Slice, ...]
    crossing_bytes: tuple[int, ...]
    values: dict[str, Value]

    def to_json(self) -> dict[str, object]:
        """The plan as `plan.json` has it."""
        return {
            "schema": SCHEMA,
            "model": str(self.model.path.absolute()),
            "structure_sha256": structure_sha256(self.model),
            "slices": [
                {
                    "index": s.index,
                    "inputs": list(s.inputs),
                    "outputs": list(s.outputs),
                    "nodes": len(s.nodes),
                    "weights_bytes": s.weights_bytes,
                    "activations_bytes": s.activations_bytes,
                    "memory_mb": s.memory_mb,
                    "node_indices": list(s.nodes),
                }
                for s in self.slices
            ],
            "crossing_bytes": list(self.crossing_bytes),
        }


def structure_sha256(model: Model) -> str:
    """Digest of everything in a model but its large weights."""
    return hashlib.sha256(model.structure).hexdigest()


def plan(
    model: Model | str | Path,
    *,
    slices: int | Literal["max"] | None = None,
    max_memory_bytes: int | None = None,
    custom_ops: Sequence[str | Path] = (),
) -> Plan:
    """Decide where a model is cut. Reads no weights.

    Args:
        model: A model from `lamella.load`, or its file.
        slices: How many slices, balanced by weights and activations, with few bytes crossing; `"max"` for one at every
            legal cut. One slice if neither this nor `max_memory_bytes` is given.
        max_memory_bytes: As few slices as keep each one's process under this, engine included.
        custom_ops: Shared libraries with custom operators; without them, what those operators make crosses no cut.

    Raises:
        UsageError: Both criteria are given, or a number makes no sense.
        PlanError: No cuts satisfy the criterion; the message says how far it is off.
    """
    if slices is not None and max_memory_bytes is not None:
        raise UsageError("`slices` and `max_memory` exclude each other", hint="give one of them")
    if slices not in (None, "max") and (not isinstance(slices, int) or slices < 1):
        raise UsageError(f"a model cannot be cut into {slices} slices", hint="ask for 1 or more, or for `max`")
    model = model if isinstance(model, Model) else load(model)
    flow = flow_of(model)
    sizes, values = value_sizes(model, custom_ops=custom_ops)
    candidates = [cuts_of(flow, order, sizes, values) for order in candidate_orders(flow)]
    return _plan(flow, _best(candidates, slices, max_memory_bytes), values)


def _best(candidates: Sequence[Cuts], slices: int | str | None, max_memory_bytes: int | None) -> Partition:
    """The best partition of any of these orders; of those after the first, only promising ones are tried."""
    first, found, failures = candidates[0], [], []
    for cuts in candidates:
        more_legal = sum(cuts.legal) > sum(first.legal)
        if cuts is first or more_legal or sum(cuts.crossing) < sum(first.crossing):
            try:
                found.append(_partition(cuts, slices, max_memory_bytes))
            except PlanError as error:
                failures.append(error)
    if not found:
        raise failures[0]
    sign = -1 if slices == "max" else 1
    return min(found, key=lambda p: (sign * len(p.positions), p.crossing_bytes, p.largest_bytes))


def _partition(cuts: Cuts, slices: int | str | None, max_memory_bytes: int | None) -> Partition:
    if max_memory_bytes is not None:
        left = max_memory_bytes - ENGINE_FLOOR_BYTES
        if left <= 0:
            raise PlanError(
                f"a limit of {max_memory_bytes} bytes leaves nothing beside the engine's own {ENGINE_FLOOR_BYTES}",
                hint=f"give `--max-memory` more than {ENGINE_FLOOR_BYTES >> 20} MiB",
            )
        return under_memory(cuts, left)
    if slices == "max":
        return balanced(cuts, len(cuts.positions) + 1)
    return balanced(cuts, int(slices or 1))


def _plan(flow: Flow, partition: Partition, values: dict[str, Value]) -> Plan:
    model, cuts = flow.model, partition.cuts
    edges = (0, *partition.positions, len(cuts.order))
    parts = [cuts.order[a:b] for a, b in pairwise(edges)]
    graph = model.graph
    outputs = {value.name for value in graph.outputs}
    held = tuple(name for name in graph.initializers if name in outputs)
    last_use = {name: index for index, part in enumerate(parts) for i in part for name in graph.nodes[i].uses}
    slices = []
    emitted: set[str] = set()
    for index, nodes in enumerate(_with_constants(flow, parts, outputs)):
        made = {name for i in nodes for name in graph.nodes[i].outputs}
        wanted = {name for name in made if name in outputs or last_use.get(name, -1) > index}
        weights, activations = cuts.needs(edges[index], edges[index + 1])
        inputs, given = boundary(model, [graph.nodes[i] for i in nodes], wanted, flow.constant, outputs - emitted)
        emitted.update(given)
        if index == len(parts) - 1:
            given += held
        slices.append(Slice(index, tuple(nodes), inputs, given, weights, activations))
    crossing = tuple(cuts.crossing[p] for p in partition.positions)
    return Plan(model, tuple(slices), crossing, values)


def _with_constants(flow: Flow, parts: Sequence[Sequence[int]], outputs: set[str]) -> Iterable[list[int]]:
    """The nodes of each slice: its own, each after the constant ones that it is the first of its slice to need."""
    orphans = [i for name in outputs if (i := flow.maker.get(name, -1)) in flow.constant]
    for index, part in enumerate(parts):
        wanted: dict[int, None] = {}
        for node in part:
            wanted.update(dict.fromkeys((*flow.needs[node], node)))
        if index == len(parts) - 1:
            for node in sorted(orphans):
                wanted.update(dict.fromkeys((*flow.needs[node], node)))
        yield list(wanted)


def boundary(
    model: Model, nodes: Sequence[Node], wanted: set[str], constant: frozenset[int], missing_outputs: set[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Inputs and outputs of a slice of `nodes`, in order of first use and of making.

    What constant nodes make goes to no other slice, since every slice has its own; only to the caller, once.
    """
    made: dict[str, int] = {name: node.index for node in nodes for name in node.outputs if name}
    initializers = model.graph.initializers
    used = dict.fromkeys(name for node in nodes for name in node.uses)
    inputs = tuple(name for name in used if name not in made and name not in initializers)
    outputs = tuple(
        name for name, index in made.items() if (name in missing_outputs if index in constant else name in wanted)
    )
    return inputs, outputs
