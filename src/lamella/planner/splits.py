"""Tensor splits as planning sees them: how large the parts of a node are, and the fewest that fit a limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from lamella.errors import PlanError
from lamella.graph.model import Model
from lamella.graph.splits import MOST_PARTS, Split, SplitAxis, is_parted_in_place, splittable
from lamella.planner.cuts import Cuts
from lamella.planner.orders import Orders, with_splits
from lamella.planner.partition import under_memory
from lamella.planner.units import units_of


@dataclass(frozen=True)
class SplitOption:
    """A node in so many parts, by the largest of them.

    Attributes:
        axis: How it is split.
        parts: How many parts.
        weights_bytes: Weights of the largest part.
        activations_bytes: What the largest part takes and gives, with its slice of the input.
        gathered_bytes: What all parts give together, to be put together.
        compute_share: Of the node's arithmetic, what the largest part does.
    """

    axis: SplitAxis
    parts: int
    weights_bytes: int
    activations_bytes: int
    gathered_bytes: int
    compute_share: Fraction

    @property
    def split(self) -> Split:
        """What a plan records."""
        return Split(self.axis.node, self.axis.weight, self.axis.axis, self.parts)


def split_option(model: Model, axis: SplitAxis, parts: int, sizes: Mapping[str, int]) -> SplitOption:
    """The sizes of a node in `parts` parts; 2 to `axis.steps`. Pure: no rewrite is made.

    Args:
        model: The whole model.
        axis: A way to split one of its nodes.
        parts: How many parts.
        sizes: Bytes of its values.
    """
    share, node = axis.largest_share(parts), model.graph.nodes[axis.node]
    cut = {node.inputs[c.position] for c in axis.cuts}
    weights = activations = 0
    for name in node.uses:
        weight = model.graph.initializers.get(name)
        if weight is not None:
            is_parted = name in cut and is_parted_in_place(model, weight)  # a small bias is not
            weights += ceil(weight.nbytes * share) if is_parted else weight.nbytes
        else:
            size = sizes.get(name, 0)
            activations += size + ceil(size * share) if name in cut else size
    whole = sizes.get(node.outputs[0], 0)
    if axis.join == "select":
        activations += 2 * sizes.get(node.inputs[1], 0)  # indices before and after they are moved into the part
    one = ceil(whole * share) if axis.join == "concat" else whole
    gathered = whole if axis.join == "concat" else whole * parts
    compute = Fraction(1, parts) if axis.join == "select" else share
    return SplitOption(axis, parts, weights, activations + one, gathered, compute)


def split_to_fit(whole: Orders, limit_bytes: int) -> Orders:
    """Split what alone is too large for a limit, into the fewest parts that fit; everything else stays whole.

    The size of a part is estimated first. Where it turns out too large between its neighbours, there are more parts.

    Args:
        whole: The orders of the original model.
        limit_bytes: What a slice may need for weights and activations.

    Raises:
        PlanError: Something that is too large cannot be split, or not into parts that are small enough.
    """
    orders = whole
    while not any(_fits(cuts, limit_bytes) for cuts in orders.candidates):
        chosen = {split.node: split for split in orders.splits}
        for start, end in _too_large(orders.candidates[0], limit_bytes):
            found = _Unit(whole, orders, start, end, limit_bytes).split()
            chosen[found.node] = found
        orders = with_splits(whole, [chosen[node] for node in sorted(chosen)])
    return orders


def _fits(cuts: Cuts, limit: int) -> bool:
    return next(_too_large(cuts, limit), None) is None


def _too_large(cuts: Cuts, limit: int) -> Iterator[tuple[int, int]]:
    """The runs of nodes without a legal cut between them that need more than `limit`."""
    units = units_of(cuts, cuts.positions)
    for unit in range(len(units)):
        if units.bytes_of(unit) > limit:
            yield units.ends[unit], units.ends[unit + 1]


@dataclass(frozen=True)
class _Unit:
    """The nodes `[start, end)` of the first order, which cannot be cut and need more than `limit`."""

    whole: Orders
    orders: Orders
    start: int
    end: int
    limit: int

    def split(self) -> Split:
        """A split, or one into more parts than now, of the node with the most weights.

        Raises:
            PlanError: There is none.
        """
        cuts = self.orders.candidates[0]
        held = {p: sum(size for _, size in cuts.weights[p]) for p in range(self.start, self.end)}
        position = max(held, key=lambda p: held[p])
        if not held[position]:
            raise self._error("it holds no weights that could be split")
        label = self.orders.model.graph.nodes[cuts.order[position]].label
        node = self.whole.original.graph.nodes[self.orders.origin[cuts.order[position]]]
        axis = splittable(self.whole.original, node, self.whole.values)
        if isinstance(axis, str):
            raise self._error(f"{label} cannot be split: {axis}")
        before = next((split.parts for split in self.orders.splits if split.node == node.index), 0)
        if not before:
            weights, activations = cuts.needs(self.start, self.end)
            parts, least = self._fewest(axis, weights - held[position], activations)
            reason = f"{node.label} can be split along {axis.label}, but no number of parts is small enough"
        else:
            parts, least = before + max(1, before // 8), 0
            if parts > min(axis.steps, MOST_PARTS, 2 * self._fewest(axis, 0, 0)[0]):
                parts = 0
            reason = f"{node.label} does not fit in {before} parts either"
        if not parts:
            raise self._error(reason, least)
        return Split(node.index, axis.weight, axis.axis, parts)

    def _fewest(self, axis: SplitAxis, weights: int, activations: int) -> tuple[int, int]:
        """The fewest parts that fit beside other weights and activations, 0 where none do; and the least they need."""
        model, sizes, least = self.whole.original, self.whole.sizes, 0
        output = sizes.get(model.graph.nodes[axis.node].outputs[0], 0)
        for parts in range(2, min(axis.steps, MOST_PARTS) + 1):
            option = split_option(model, axis, parts, sizes)
            beside = max(activations, option.activations_bytes) + option.gathered_bytes - output
            needed = weights + option.weights_bytes + beside
            if needed <= self.limit:
                return parts, needed
            least = min(least or needed, needed)
        return 0, least

    def _error(self, reason: str, least: int = 0) -> PlanError:
        """What the nodes need, why no split helps, and what would: `least` bytes, or all that they need now."""
        cuts, run = self.orders.candidates[0], slice(self.start, self.end)
        count = self.end - self.start
        no = [False] * (count + 1)
        alone = Cuts(cuts.order[run], [0] * (count + 1), no, no, cuts.alive[run], cuts.weights[run])
        try:
            under_memory(alone, self.limit)
        except PlanError as error:
            hint = f"raise `--max-memory` by at least {least - self.limit} bytes" if least else error.hint
            return PlanError(f"{error.message}; {reason}", hint=hint)
        raise AssertionError("the unit was found to be too large")
