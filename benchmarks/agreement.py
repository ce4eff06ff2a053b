"""How well estimates agree with what was measured: errors, and the order of plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

NOISE = 0.02
"""Measurements this near to each other count as equal: their order says nothing."""

_TIE = 1e-6  # estimates this near to each other are the same


@dataclass(frozen=True)
class Pair:
    """Something estimated and measured, in the same unit."""

    label: str
    estimated: float
    measured: float

    @property
    def error(self) -> float:
        """How far the estimate is off, as a share of what was measured; negative where it is too low."""
        return self.estimated / self.measured - 1


@dataclass(frozen=True)
class Swap:
    """Two plans that the estimate puts in the wrong order, and by what share the one that it prefers is the worse."""

    preferred: str
    better: str
    loss: float


def swaps(plans: Sequence[Pair]) -> list[Swap]:
    """The pairs of plans in the wrong order, the costliest mistake first."""
    wrong = [(a, b) for a, b in _apart(plans) if _sign(a, b) < 0]
    found = [Swap(b.label, a.label, b.measured / a.measured - 1) for a, b in wrong]
    return sorted(found, key=lambda swap: -swap.loss)


def kendall_tau(plans: Sequence[Pair]) -> float:
    """Kendall's rank correlation over the pairs that were measured apart: 1 where all are in order, -1 where none is.

    A pair that is estimated equal counts as half in order.
    """
    signs = [_sign(a, b) for a, b in _apart(plans)]
    return sum(signs) / len(signs) if signs else 1.0


def _sign(better: Pair, worse: Pair) -> int:
    """1 where the estimates put two plans in the measured order, -1 where in the other, 0 where they are the same."""
    apart = worse.estimated - better.estimated
    return 0 if abs(apart) <= _TIE * better.estimated else 1 if apart > 0 else -1


def _apart(plans: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    """Pairs that differ by more than the noise, the better one first."""
    ordered = sorted(plans, key=lambda plan: plan.measured)
    return [(a, b) for a, b in combinations(ordered, 2) if b.measured > (1 + NOISE) * a.measured]


def regret(plans: Sequence[Pair]) -> float:
    """By what share the plan that the estimate puts first is worse than the best one."""
    chosen = min(plans, key=lambda plan: plan.estimated)
    return chosen.measured / min(plan.measured for plan in plans) - 1
