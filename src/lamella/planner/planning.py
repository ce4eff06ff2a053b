"""Plans for a platform: one model, prepared for searches, and what they find as a `Plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import get_args

from lamella.errors import PlanError, UsageError
from lamella.graph.model import Model, Node
from lamella.graph.samples import assumed_dims
from lamella.graph.splits import MOST_PARTS, Split, SplitAxis, splittable
from lamella.planner.accuracy import Comparison, comparisons
from lamella.planner.calibration import calibrated
from lamella.planner.cost import ColdStart, CostModel, Load
from lamella.planner.cuts import Cuts, cuts_of
from lamella.planner.estimate import Estimate, Step, estimate
from lamella.planner.goal import Choice, Found, Goal, Objective
from lamella.planner.orders import Orders, orders_of, with_splits
from lamella.planner.partition import partition_of
from lamella.planner.plan import Plan, plan_of
from lamella.planner.profile import Profile, read_profile
from lamella.planner.residency import held_shares
from lamella.planner.search import pareto, search
from lamella.planner.segments import Segments, SplitLoad
from lamella.planner.sizes import value_sizes
from lamella.planner.splits import split_option
from lamella.planner.timing import node_times
from lamella.planner.trimming import trimmed
from lamella.platforms import load_platform
from lamella.platforms.base import MB, Architecture, Platform

CLOSURE_BYTES: Mapping[Architecture, int] = {"x86_64": 81 * MB, "arm64": 75 * MB}
"""What a package holds beside the model, unpacked: ONNX Runtime 1.31, NumPy 2.5 and what they need, for CPython 3.13.

Measured; `lamella check` measures it for the versions in use.
"""

NEARLY = 0.01
"""The best plan's memory sizes may make its latency or price worse by this share, where that improves the other one.

The last processor of a function makes it hardly faster and much dearer, and no estimate is as exact as that.
"""

_WORTH_SPLITTING_BYTES = 16 * MB
_PARTS = (2, 3, 4, 6, 8, 12, 16)  # and as many as the largest function makes necessary, and more by half or twice


@dataclass(frozen=True)
class Alternative:
    """Another plan for the same goal, to compare with.

    Attributes:
        steps: How many slices follow each other in it.
        estimate: What it costs; None where there is no such plan.
        reason: Why there is none.
    """

    steps: int
    estimate: Estimate | None
    reason: str | None = None


def goal_of(
    objective: Objective | None = None,
    slo_ms: float | None = None,
    max_cost_usd: float | None = None,
    max_memory_bytes: int | None = None,
    slices: int | None = None,
    cold: ColdStart | None = None,
) -> Goal:
    """The goal that these arguments of `plan` ask for.

    Raises:
        UsageError: An argument makes no sense.
    """
    if objective not in (None, *get_args(Objective)):
        raise UsageError(f"there is no objective `{objective}`", hint=f"one of {', '.join(get_args(Objective))}")
    if cold not in (None, *get_args(ColdStart)):
        raise UsageError(f"there is no cold start `{cold}`", hint=f"one of {', '.join(get_args(ColdStart))}")
    for name, bound in (("slo_ms", slo_ms), ("max_cost_usd", max_cost_usd)):
        if bound is not None and not 0 < bound < float("inf"):
            raise UsageError(f"`{name}` is {bound}", hint="give a number above 0")
    most_mb = None if max_memory_bytes is None else max_memory_bytes // MB
    return Goal(objective or "latency", slo_ms, max_cost_usd, most_mb, slices, cold)


def planning(
    model: Model,
    platform: Platform | str,
    architecture: Architecture | None = None,
    profile: Profile | str | Path | None = None,
    *,
    dims: Mapping[str, int] | None = None,
    custom_ops: Sequence[str | Path] = (),
) -> Planning:
    """Prepare a model for searches; platform and profile may be named.

    Raises:
        UsageError: There is no such platform.
        PlanError: The profile is not of this model.
    """
    return Planning(
        model,
        load_platform(platform) if isinstance(platform, str) else platform,
        architecture=architecture,
        profile=read_profile(profile, model) if isinstance(profile, (str, Path)) else profile,
        dims=dims,
        custom_ops=custom_ops,
    )


class Planning:
    """One model on one platform.

    Args:
        model: The model.
        platform: Its limits, prices and speeds.
        architecture: Of the functions; by default the platform's first.
        profile: How long the model's operators take, measured (`measure_profile`); else from operator statistics.
        closure_bytes: What a package holds beside the weights, unpacked.
        dims: Sizes of symbolic dimensions, by name; the others are assumed.
        custom_ops: Shared libraries with custom operators.

    Raises:
        PlanError: The platform has no such architecture.
    """

    def __init__(
        self,
        model: Model,
        platform: Platform,
        *,
        architecture: Architecture | None = None,
        profile: Profile | None = None,
        closure_bytes: int | None = None,
        dims: Mapping[str, int] | None = None,
        custom_ops: Sequence[str | Path] = (),
    ) -> None:
        architecture = architecture or platform.architectures[0]
        if architecture not in platform.architectures:
            raise PlanError(
                f"{platform.title} has no {architecture} functions",
                hint=f"`--architecture` {' or '.join(platform.architectures)}",
            )
        self.model, self.profile, self._custom_ops = model, profile, custom_ops
        self._held = held_shares(model)
        self.dims = assumed_dims([value.spec for value in model.graph.required_inputs], given=dims)
        sizes, values = value_sizes(model, custom_ops=custom_ops, dims=self.dims)
        self._orders = orders_of(model, sizes, values)
        if profile is not None:
            here = platform.name == "local"
            speeds = calibrated(platform.speeds, profile, model, self._profiled_activations(profile), here=here)
            platform = replace(platform, speeds=speeds)
        self._node_ms = node_times(model, values, self.dims, platform.speeds, profile, sizes=sizes)
        self.platform = platform
        self.costs = CostModel(platform, architecture, closure_bytes or CLOSURE_BYTES[architecture])

    @cached_property
    def segments(self) -> tuple[Segments, ...]:
        """The model's orders, ready to be searched, with the nodes that may be split."""
        return tuple(self._segments(cuts, split=True) for cuts in self._orders.candidates)

    @cached_property
    def unsplit(self) -> tuple[Segments, ...]:
        """The same without splits; the same objects where nothing can be split."""
        if not any(segments.splits for segments in self.segments):
            return self.segments
        return tuple(self._segments(cuts, split=False) for cuts in self._orders.candidates)

    def best(self, goal: Goal, among: Sequence[Segments] | None = None) -> tuple[Segments, Found]:
        """The best plan of any order, at sizes that are nearly as good (`NEARLY`) and better by the other criterion.

        Args:
            goal: What is asked of it.
            among: The orders; by default those with splits.

        Raises:
            PlanError: There is none; the hint names the nearest plan that would do.
        """
        found: list[tuple[Segments, Found]] = []
        failures: list[PlanError] = []
        for segments in among or self.segments:
            try:
                found.append((segments, search(segments, self.costs, goal)))
            except PlanError as error:
                failures.append(error)
        if not found:
            raise failures[0]
        segments, exact = min(found, key=lambda pair: _rank(pair[1], goal))
        if goal.objective == "memory":
            return segments, search(segments, self.costs, _cheapest(goal, exact))
        return segments, trimmed(segments, self.costs, exact, goal, NEARLY)

    def plan(self, goal: Goal) -> Plan:
        """The best plan; with splits only where that is better once their parts are put together again.

        Raises:
            PlanError: There is none; the hint names the nearest plan that would do.
        """
        found: list[Plan] = []
        failures: list[PlanError] = []
        for among in (self.unsplit,) if self.unsplit is self.segments else (self.unsplit, self.segments):
            try:
                segments, best = self.best(goal, among)
                found.append(_within(self._plan(segments, best, goal), goal))
            except PlanError as error:
                failures.append(error)
        if not found:
            raise failures[-1]
        return min(found, key=lambda plan: _value(plan, goal))

    def frontier(self, goal: Goal) -> list[Found]:
        """All plans that no other beats in latency and price, of any order, the fastest first.

        Raises:
            PlanError: There is no plan.
        """
        found: list[Found] = []
        failures: list[PlanError] = []
        for segments in self.segments:
            try:
                found += pareto(segments, self.costs, goal)
            except PlanError as error:
                failures.append(error)
        if not found:
            raise failures[0]
        best: list[Found] = []
        for plan in sorted(found, key=lambda plan: (plan.latency_ms, plan.cost_usd)):
            if not best or plan.cost_usd < best[-1].cost_usd:
                best.append(plan)
        return best

    def alternatives(self, goal: Goal, most: int = 3) -> list[Alternative]:
        """The best plans of 1 to `most` slices for the same objective and memory, without the goal's other bounds."""
        free = replace(goal, slo_ms=None, max_cost_usd=None)
        found = []
        for count in range(1, most + 1):
            try:
                found.append(Alternative(count, self._unsplit_first(replace(free, slices=count)).estimate))
            except PlanError as error:
                found.append(Alternative(count, None, error.message))
        return found

    def _unsplit_first(self, goal: Goal) -> Plan:
        try:
            segments, best = self.best(goal, self.unsplit)
        except PlanError:
            segments, best = self.best(goal)
        return self._plan(segments, best, goal)

    def errors(self) -> list[Comparison]:
        """How far estimates of the whole model are off on the profile's machine; nothing without a profile."""
        orders = self._orders
        if self.profile is None:
            return []
        alive = self._profiled_activations(self.profile)
        return comparisons(self.model, self.profile, orders.values, orders.sizes, alive)

    def _profiled_activations(self, profile: Profile) -> int:
        """Bytes of activations at their worst moment, at the sizes that the profile was measured at."""
        orders = self._orders
        if dict(profile.dims) != self.dims:
            orders = orders_of(self.model, *value_sizes(self.model, custom_ops=self._custom_ops, dims=profile.dims))
        return max(orders.candidates[0].alive, default=0)

    def _segments(self, cuts: Cuts, *, split: bool) -> Segments:
        orders = self._orders
        options = {
            position: self._options(orders.model.graph.nodes[index])
            for position, index in enumerate(cuts.order)
            if split and sum(size for _, size in cuts.weights[position]) >= _WORTH_SPLITTING_BYTES
        }
        return Segments(
            orders.flow,
            cuts,
            orders.sizes,
            self._node_ms,
            inline_bytes=self.platform.speeds.inline_bytes,
            splits={position: found for position, found in options.items() if found},
            held=self._held,
        )

    def _options(self, node: Node) -> list[SplitLoad]:
        """The ways to run a node as functions side by side."""
        axis = splittable(self.model, node, self._orders.values)
        if not isinstance(axis, SplitAxis):
            return []
        held = self.platform.speeds.weights_factor * self._held.get(axis.weight, 1.0)
        held *= self.model.graph.initializers[axis.weight].nbytes
        room = max(1.0, (self.platform.limits.memory_max_mb - self.platform.speeds.floor_mb) * MB)
        least = ceil(held / room)
        wanted = {*_PARTS, *range(least, least + 3), least * 3 // 2, least * 2}
        counts = sorted(parts for parts in wanted if 2 <= parts <= min(axis.steps, MOST_PARTS))
        return [SplitLoad(parts, self._part(node, axis, parts)) for parts in counts]

    def _part(self, node: Node, axis: SplitAxis, parts: int) -> Load:
        """What the largest part asks of its function; putting the parts together is counted with it."""
        sizes, model = self._orders.sizes, self.model
        option = split_option(model, axis, parts, sizes)
        taken = [sizes.get(name, 0) for name in node.uses if name not in model.graph.initializers]
        given = option.gathered_bytes // parts
        more = option.gathered_bytes - sizes.get(node.outputs[0], 0)
        inline = self.platform.speeds.inline_bytes
        fetched = [size for size in taken if size > inline]
        return Load(
            compute_ms=self._node_ms[node.index] * float(option.compute_share),
            nodes=1,
            weights_bytes=option.weights_bytes,
            held_bytes=option.weights_bytes * self._held.get(axis.weight, 1.0),
            activations_bytes=option.activations_bytes,
            inline_bytes=sum(size for size in (*taken, given) if size <= inline),
            object_in_bytes=sum(fetched) + more,
            object_out_bytes=given if given > inline else 0,
            objects_in=len(fetched),
            objects_out=int(given > inline),
        )

    def _plan(self, segments: Segments, best: Found, goal: Goal) -> Plan:
        choices = best.choices
        splits = [self._split(segments, choice) for choice in choices if choice.parts > 1]
        orders = with_splits(self._orders, sorted(splits, key=lambda split: split.node))
        cuts, positions = _placed(orders, segments.cuts, choices)
        plan = plan_of(orders, partition_of(cuts, positions))
        if splits:
            segments = Segments(
                orders.flow,
                cuts,
                orders.sizes,
                self._times_of_parts(orders),
                inline_bytes=self.platform.speeds.inline_bytes,
                held=held_shares(orders.model),
            )
        edges = (0, *positions, len(cuts.order))
        groups = [group for group, choice in enumerate(choices) for _ in range(choice.parts)]
        steps = [
            self._step(segments.load(*edges[index : index + 2]), choices[group], group, index, plan.after, groups, goal)
            for index, group in enumerate(groups)
        ]
        found = replace(estimate(self.costs, steps), epsilon=best.epsilon)
        slices = tuple(
            replace(
                part,
                assigned_memory_mb=one.memory_mb,
                estimated_ms=float(one.costs.warm_ms),
                estimated_usd=float(one.costs.warm_usd),
            )
            for part, one in zip(plan.slices, found.slices, strict=True)
        )
        return replace(
            plan,
            slices=slices,
            platform=self.platform.name,
            platform_profile=self.platform.profile,
            architecture=self.costs.architecture,
            estimate=found,
        )

    def _step(
        self,
        load: Load,
        choice: Choice,
        group: int,
        index: int,
        after: Sequence[Sequence[int]],
        groups: Sequence[int],
        goal: Goal,
    ) -> Step:
        """One slice as it will run. One that puts parts together may need more memory than the search knew of."""
        limits = self.platform.limits
        most_mb = limits.memory_max_mb if goal.max_memory_mb is None else goal.max_memory_mb
        least_mb = ceil(float(self.costs.peak_bytes(load)) / MB)
        sizes = [size for size in limits.memory_sizes(least_mb) if size <= most_mb]
        if not sizes:
            raise PlanError(
                f"slice {index}, which puts the parts of a node together, needs {least_mb} MB, above {most_mb} MB",
                hint=f"give `--max-memory {least_mb}MiB` or more, or a smaller `--dim`",
            )
        siblings = tuple(other for other in after[index] if groups[other] == group)
        return Step(load, max(choice.memory_mb, sizes[0]), group, siblings)

    def _times_of_parts(self, orders: Orders) -> list[float]:
        """Milliseconds of each node of a model in which some are in parts; what is new only moves bytes."""
        nodes, original = orders.model.graph.nodes, orders.original.graph.nodes
        splits = {split.node: split for split in orders.splits}
        bytes_per_ms = self.platform.speeds.memory_gb_s * 1e6
        times = []
        for node, origin in zip(nodes, orders.origin, strict=True):
            split = splits.get(origin)
            if split is None:
                times.append(self._node_ms[origin])
            elif node.outputs[0].startswith(f"{original[origin].outputs[0]}.part") and node.op == original[origin].op:
                times.append(self._node_ms[origin] / split.parts)
            else:
                moved = sum(orders.sizes.get(name, 0) for name in (*node.inputs, *node.outputs))
                times.append(moved / bytes_per_ms)
        return times

    def _split(self, segments: Segments, choice: Choice) -> Split:
        node = self.model.graph.nodes[segments.cuts.order[choice.start]]
        axis = splittable(self.model, node, self._orders.values)
        assert isinstance(axis, SplitAxis), "only nodes that can be split are offered in parts"
        return Split(node.index, axis.weight, axis.axis, choice.parts)


def _cheapest(goal: Goal, exact: Found) -> Goal:
    """What to ask for among the plans whose largest function is as small as can be."""
    return replace(goal, objective="cost", max_memory_mb=exact.largest_memory_mb)


def _totals(plan: Plan, goal: Goal) -> tuple[Estimate, float, float]:
    """The estimate of a plan, and what the request that the goal counts takes and costs."""
    found = plan.estimate
    assert found is not None, "it was planned for a platform"
    times = {None: found.warm_ms, "sequential": found.cold_sequential_ms, "parallel": found.cold_parallel_ms}
    return found, times[goal.cold], found.warm_usd if goal.cold is None else found.cold_usd


def _within(plan: Plan, goal: Goal) -> Plan:
    """The plan, if it keeps the goal's bounds with its parts put together again, which the search did not count."""
    _, latency_ms, cost_usd = _totals(plan, goal)
    if plan.splits and goal.slo_ms is not None and latency_ms > goal.slo_ms:
        raise PlanError(
            f"the plan found takes {latency_ms:.4g} ms with its split node, above `--slo-ms {goal.slo_ms:g}`",
            hint=f"ask for `--slo-ms {latency_ms * 1.001:.4g}` or more",
        )
    if plan.splits and goal.max_cost_usd is not None and cost_usd > goal.max_cost_usd:
        raise PlanError(
            f"with its split node, the plan found costs {cost_usd:.4g}, above `--max-cost-usd {goal.max_cost_usd:g}`",
            hint=f"ask for `--max-cost-usd {cost_usd * 1.001:.4g}` or more",
        )
    return plan


def _value(plan: Plan, goal: Goal) -> tuple[float, ...]:
    """How good a plan is for a goal: less is better."""
    found, latency_ms, cost_usd = _totals(plan, goal)
    if goal.objective == "memory":
        return (found.largest_memory_mb, cost_usd)
    return (latency_ms, cost_usd) if goal.objective == "latency" else (cost_usd, latency_ms)


def _rank(found: Found, goal: Goal) -> tuple[float, ...]:
    if goal.objective == "memory":
        return (found.largest_memory_mb, found.latency_ms, found.cost_usd)
    pair = (found.latency_ms, found.cost_usd)
    return pair if goal.objective == "latency" else pair[::-1]


def _placed(orders: Orders, before: Cuts, choices: Sequence[Choice]) -> tuple[Cuts, list[int]]:
    """The order and the cuts of a plan in the model that is cut, in which a node that is split is several.

    The nodes that put parts together go to the slice behind them; behind the last slice of all, to its last part.
    """
    if not orders.splits:
        return before, [choice.end for choice in choices[:-1]]
    nodes = orders.model.graph.nodes
    standing: dict[int, list[int]] = {}
    for index in orders.flow.placed:
        standing.setdefault(orders.origin[index], []).append(index)
    order: list[int] = []
    positions: list[int] = []
    for choice in choices:
        for original in before.order[choice.start : choice.end]:
            output = orders.original.graph.nodes[original].outputs[0]
            parts = {f"{output}.part{part}" for part in range(choice.parts)} if choice.parts > 1 else set()
            for index in sorted(standing.get(original, ())):
                order.append(index)
                if not parts.isdisjoint(nodes[index].outputs):
                    positions.append(len(order))
        if choice.parts == 1:
            positions.append(len(order))
    return cuts_of(orders.flow, tuple(order), orders.sizes, orders.values), positions[:-1]
