"""A model, whole or with some nodes in parts, and the orders in which it can be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from lamella.graph.model import Model, Value
from lamella.graph.splits import Split
from lamella.graph.splitting import split
from lamella.planner.cuts import Cuts, cuts_of
from lamella.planner.flow import Flow, flow_of
from lamella.planner.order import candidate_orders


@dataclass(frozen=True)
class Orders:
    """Everything that choosing cuts in a model needs.

    Attributes:
        original: The model as it was given.
        model: The model that is cut: the original, or its rewrite by `splits`.
        flow: Its nodes as planning sees them.
        candidates: The orders worth trying, the better one first, with what crosses each position.
        sizes: Bytes of each of its values.
        values: The type of each of its values.
        splits: The nodes of the original that are computed in parts.
        origin: For each node of the model, the index of the original's node that it is, or is a part of.
    """

    original: Model
    model: Model
    flow: Flow
    candidates: tuple[Cuts, ...]
    sizes: Mapping[str, int]
    values: dict[str, Value]
    splits: tuple[Split, ...]
    origin: tuple[int, ...]


def orders_of(model: Model, sizes: Mapping[str, int], values: dict[str, Value]) -> Orders:
    """The orders of a whole model; `sizes` and `values` come from `value_sizes`."""
    origin = tuple(range(len(model.graph.nodes)))
    flow = flow_of(model)
    return Orders(model, model, flow, _candidates(flow, sizes, values), sizes, values, (), origin)


def with_splits(whole: Orders, splits: Sequence[Split]) -> Orders:
    """The orders of a model with some of its nodes in parts. Pure, and cheap enough to be asked for many choices.

    Args:
        whole: The orders of the original.
        splits: Which nodes, at most one split each.

    Raises:
        PlanError: A node cannot be split like this.
    """
    if not splits:
        return whole
    found = split(whole.original, splits, whole.values)
    sizes = dict(whole.sizes)
    for name, (source, share) in found.shares.items():
        sizes[name] = ceil(sizes.get(source, 0) * share)
    flow = flow_of(found.model)
    return replace(
        whole,
        model=found.model,
        flow=flow,
        candidates=_candidates(flow, sizes, found.values),
        sizes=sizes,
        values=found.values,
        splits=tuple(splits),
        origin=found.origin,
    )


def _candidates(flow: Flow, sizes: Mapping[str, int], values: Mapping[str, Value]) -> tuple[Cuts, ...]:
    return tuple(cuts_of(flow, order, sizes, values) for order in candidate_orders(flow))
