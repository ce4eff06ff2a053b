"""Plans: which nodes run in which slice, and what goes between the slices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lamella.errors import PlanError, UsageError
from lamella.graph.model import Model, Node, Value
from lamella.graph.reader import load
from lamella.graph.splits import Split
from lamella.planner.cuts import Cuts
from lamella.planner.flow import Flow
from lamella.planner.orders import Orders, orders_of
from lamella.planner.partition import Partition, balanced, under_memory
from lamella.planner.sizes import value_sizes
from lamella.planner.splits import split_to_fit

if TYPE_CHECKING:
    from lamella.planner.cost import ColdStart
    from lamella.planner.estimate import Estimate
    from lamella.planner.goal import Objective
    from lamella.planner.profile import Profile
    from lamella.platforms.base import Architecture, Platform

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
        assigned_memory_mb: Memory of its function, where it was planned for a platform.
        estimated_ms: Its share of a warm request, likewise.
        estimated_usd: Likewise, what that costs.
    """

    index: int
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights_bytes: int
    activations_bytes: int
    assigned_memory_mb: int | None = None
    estimated_ms: float | None = None
    estimated_usd: float | None = None

    @property
    def memory_mb(self) -> int:
        """Memory for a process that runs it: as planned, else what engine, weights and activations take, rounded up.

        In MB of 1024 * 1024 bytes.
        """
        if self.assigned_memory_mb is not None:
            return self.assigned_memory_mb
        return -(-(ENGINE_FLOOR_BYTES + self.weights_bytes + self.activations_bytes) // (1 << 20))


@dataclass(frozen=True)
class Plan:
    """The whole decomposition of a model.

    Attributes:
        model: The model.
        slices: Its slices, in an order in which they can run.
        crossing_bytes: Bytes alive across each cut, for the assumed sizes of symbolic dimensions.
        values: The type of every value that anything knows.
        splits: Nodes of the original that `model` computes in parts.
        original: The model before these splits; None where there are none.
        platform: The platform that it was planned for, by name.
        platform_profile: The variant of it, by name.
        architecture: Of the functions there.
        estimate: What it costs there; not kept in `plan.json`.
    """

    model: Model
    slices: tuple[Slice, ...]
    crossing_bytes: tuple[int, ...]
    values: dict[str, Value]
    splits: tuple[Split, ...] = ()
    original: Model | None = None
    platform: str | None = None
    platform_profile: str | None = None
    architecture: str | None = None
    estimate: Estimate | None = None

    @property
    def whole(self) -> Model:
        """The model that was planned, as it was given: what slices are compared with."""
        return self.original or self.model

    @property
    def after(self) -> tuple[tuple[int, ...], ...]:
        """For each slice, the slices that it takes values from: it can run as soon as these have."""
        maker = {name: part.index for part in self.slices for name in part.outputs}
        return tuple(
            tuple(sorted({maker[name] for name in part.inputs if maker.get(name, part.index) < part.index}))
            for part in self.slices
        )

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """The slices in as few stages as possible: those of a stage need only earlier stages, and run side by side."""
        stage: list[int] = []
        for sources in self.after:
            stage.append(1 + max((stage[index] for index in sources), default=-1))
        return tuple(tuple(i for i, s in enumerate(stage) if s == number) for number in range(max(stage) + 1))

    def to_json(self) -> dict[str, object]:
        """The plan as `plan.json` has it."""
        return {
            "schema": SCHEMA,
            "model": str(self.whole.path.absolute()),
            "structure_sha256": structure_sha256(self.whole),
            "platform": self.platform,
            "platform_profile": self.platform_profile,
            "architecture": self.architecture,
            "splits": [asdict(split) for split in self.splits],
            "slices": [
                {
                    "index": s.index,
                    "inputs": list(s.inputs),
                    "outputs": list(s.outputs),
                    "nodes": len(s.nodes),
                    "weights_bytes": s.weights_bytes,
                    "activations_bytes": s.activations_bytes,
                    "memory_mb": s.memory_mb,
                    "estimated_ms": s.estimated_ms,
                    "estimated_usd": s.estimated_usd,
                    "node_indices": list(s.nodes),
                }
                for s in self.slices
            ],
            "crossing_bytes": list(self.crossing_bytes),
        }


def structure_sha256(model: Model) -> str:
    """Digest of everything in a model but its large weights."""
    return hashlib.sha256(model.structure).hexdigest()


def plan(  # noqa: PLR0913  # one argument for each thing that can be asked of a plan
    model: Model | str | Path,
    *,
    slices: int | Literal["max"] | None = None,
    max_memory_bytes: int | None = None,
    platform: Platform | str | None = None,
    objective: Objective | None = None,
    slo_ms: float | None = None,
    max_cost_usd: float | None = None,
    cold: ColdStart | None = None,
    architecture: Architecture | None = None,
    profile: Profile | str | Path | None = None,
    dims: Mapping[str, int] | None = None,
    custom_ops: Sequence[str | Path] = (),
) -> Plan:
    """Decide where a model is cut. Reads no weights.

    Without a platform, either `slices` or `max_memory_bytes` says how. With one, cuts and memory sizes are chosen
    together, exactly, so that the objective is the best that the platform's limits and the other bounds allow; all
    bounds may be given then. The plan may be one slice.

    Args:
        model: A model from `lamella.load`, or its file.
        slices: How many slices, balanced by weights and activations, with few bytes crossing; `"max"` for one at every
            legal cut. With a platform: the number that the plan is to have.
        max_memory_bytes: As few slices as keep each one's process under this, engine included. A node that is alone too
            large for that is computed in parts, where it can be (`Plan.splits`). With a platform: the largest function.
        platform: Where it will run: a name (`lamella platforms`), a `.toml` file, or a `Platform`.
        objective: What is to be least: `"latency"` (the default) or `"cost"` of a request, or `"memory"` of the largest
            function and then the cost.
        slo_ms: The longest that a request may take, in milliseconds.
        max_cost_usd: The most that a request may cost, in USD.
        cold: Count the request that finds no instances: `"sequential"`, each started when its slice's turn comes, or
            `"parallel"`, all started with the request. By default the instances are there.
        architecture: Of the functions; by default the platform's first.
        profile: Measured times of the model's operators (`lamella plan --profile`), or their file; by default they are
            estimated from operator statistics.
        dims: Sizes of symbolic dimensions, by name; the others are assumed.
        custom_ops: Shared libraries with custom operators; without them, what those operators make crosses no cut.

    Raises:
        UsageError: Two criteria are given, or a number makes no sense.
        PlanError: No cuts satisfy the criteria; the message says how far they are off.
    """
    if slices not in (None, "max") and (not isinstance(slices, int) or slices < 1):
        raise UsageError(f"a model cannot be cut into {slices} slices", hint="ask for 1 or more, or for `max`")
    model = model if isinstance(model, Model) else load(model)
    if platform is not None:
        if slices == "max":
            raise UsageError("`max` slices and a platform exclude each other", hint="give one of them")
        from lamella.planner.planning import goal_of, planning

        goal = goal_of(objective, slo_ms, max_cost_usd, max_memory_bytes, slices, cold)
        return planning(model, platform, architecture, profile, dims=dims, custom_ops=custom_ops).plan(goal)
    given = {"objective": objective, "slo_ms": slo_ms, "max_cost_usd": max_cost_usd, "cold": cold, "profile": profile}
    lacking = [name for name, value in {**given, "architecture": architecture}.items() if value is not None]
    if lacking:
        raise UsageError(f"`{lacking[0]}` means something on a platform only", hint="name one with `platform`")
    if slices is not None and max_memory_bytes is not None:
        raise UsageError("`slices` and `max_memory` exclude each other", hint="give one of them")
    orders = orders_of(model, *value_sizes(model, custom_ops=custom_ops, dims=dims))
    left = None if max_memory_bytes is None else _left(max_memory_bytes)
    if left is not None:
        orders = split_to_fit(orders, left)
    return plan_of(orders, _best(orders.candidates, slices, left))


def _best(candidates: Sequence[Cuts], slices: int | str | None, limit_bytes: int | None) -> Partition:
    """The best partition of any of these orders; of those after the first, only promising ones are tried."""
    first, found, failures = candidates[0], [], []
    for cuts in candidates:
        more_legal = sum(cuts.legal) > sum(first.legal)
        if cuts is first or more_legal or sum(cuts.crossing) < sum(first.crossing):
            try:
                found.append(_partition(cuts, slices, limit_bytes))
            except PlanError as error:
                failures.append(error)
    if not found:
        raise failures[0]
    sign = -1 if slices == "max" else 1
    return min(found, key=lambda p: (sign * len(p.positions), p.crossing_bytes, p.largest_bytes))


def _left(max_memory_bytes: int) -> int:
    """What a limit leaves for weights and activations."""
    left = max_memory_bytes - ENGINE_FLOOR_BYTES
    if left <= 0:
        raise PlanError(
            f"a limit of {max_memory_bytes} bytes leaves nothing beside the engine's own {ENGINE_FLOOR_BYTES}",
            hint=f"give `--max-memory` more than {ENGINE_FLOOR_BYTES >> 20} MiB",
        )
    return left


def _partition(cuts: Cuts, slices: int | str | None, limit_bytes: int | None) -> Partition:
    if limit_bytes is not None:
        return under_memory(cuts, limit_bytes)
    if slices == "max":
        return balanced(cuts, len(cuts.positions) + 1)
    return balanced(cuts, int(slices or 1))


def plan_of(orders: Orders, partition: Partition) -> Plan:
    """The plan that cuts one of the orders at the chosen positions."""
    model, flow, cuts = orders.model, orders.flow, partition.cuts
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
    original = orders.original if orders.splits else None
    return Plan(model, tuple(slices), crossing, orders.values, orders.splits, original)


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
