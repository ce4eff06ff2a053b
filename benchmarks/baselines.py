"""Simple ways to choose cuts, which other programs use: what the planner is held against.

Each gives legal positions of one order of the nodes, at most as many as asked for: a position that is not legal moves
to the nearest one that is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella.planner.cuts import Cuts


def equal_nodes(cuts: Cuts, count: int) -> list[int]:
    """Slices with the same number of nodes, as the ONNX Decomposer makes them."""
    return _legal(cuts, (round(len(cuts.order) * index / count) for index in range(1, count)))


def equal_weights(cuts: Cuts, count: int) -> list[int]:
    """Slices with the same bytes of weights."""
    until = list(accumulate(_new_weights(cuts)))
    return _legal(cuts, (bisect_left(until, until[-1] * index / count) + 1 for index in range(1, count)))


def greedy(cuts: Cuts, count: int) -> list[int]:
    """Nodes are taken into a slice until it has its share of the weights, as ssp4onnx does."""
    sizes = _new_weights(cuts)
    share, held = sum(sizes) / count, 0
    found: list[int] = []
    for position, size in enumerate(sizes):
        if held and held + size > share and len(found) < count - 1:
            found.append(position)
            held = 0
        held += size
    return _legal(cuts, found)


BASELINES: Mapping[str, Callable[[Cuts, int], list[int]]] = {
    "equal nodes": equal_nodes,
    "equal weights": equal_weights,
    "greedy by size": greedy,
}


def _new_weights(cuts: Cuts) -> list[int]:
    """Bytes of the weights that each node is the first to use."""
    seen: set[str] = set()
    sizes = []
    for pairs in cuts.weights:
        sizes.append(sum(size for name, size in pairs if name not in seen))
        seen.update(name for name, _ in pairs)
    return sizes


def _legal(cuts: Cuts, wanted: Iterable[int]) -> list[int]:
    positions: Sequence[int] = cuts.positions
    return sorted({min(positions, key=lambda legal: abs(legal - position)) for position in wanted} if positions else ())
