"""Why there is no plan, and the nearest one that there would be."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_CEILING, Decimal

import numpy as np

from lamella.errors import PlanError
from lamella.planner.criteria import Latency, Memory
from lamella.planner.functions import Functions
from lamella.planner.goal import Found, Goal, Objective
from lamella.planner.segments import Segments
from lamella.planner.shortest import Grid, shortest
from lamella.platforms.base import MB, Limits

TOLERANCE = 1e-9
"""Plans that differ by less are the same; bounds hold to within this."""


def within(found: Found, objective: Objective, bound: float | None) -> bool:
    """Whether a plan keeps a bound, if there is one."""
    return bound is None or found.value(objective) <= bound * (1 + TOLERANCE)


def refuse_above(found: Found, objective: Objective, bound: float | None, *, beside: Objective | None = None) -> None:
    """Raise PlanError if the best plan is above the bound; `beside`: it was the best within the other bound."""
    if bound is None or within(found, objective, bound):
        return
    value = _rounded_up(found.value(objective))
    names = {"latency": "--slo-ms", "cost": "--max-cost-usd"}
    flag, of = names[objective], f" within `{names[beside]}`" if beside else ""
    if objective == "latency":
        text = f"the fastest plan{of} takes {value} ms, above `--slo-ms {bound:g}`"
    else:
        text = f"the cheapest plan{of} costs {value} USD a request, above `--max-cost-usd {bound:g}`"
    raise PlanError(text, hint=f"ask for `{flag} {value}` or more")


def _rounded_up(value: float) -> str:
    """A positive number with four digits, rounded up, so that it holds as a bound."""
    exponent = Decimal(value).adjusted() - 3
    rounded = Decimal(value).quantize(Decimal(1).scaleb(exponent), ROUND_CEILING)
    return f"{rounded.normalize():f}"


def wrong_count(segments: Segments, slices: int) -> PlanError:
    """The model cannot be cut into so many slices."""
    if slices < 1:
        return PlanError(f"a model cannot be cut into {slices} slices", hint="ask for `--slices 1` or more")
    most = len(segments.positions) - 1
    return PlanError(
        f"the model has {len(segments.cuts.order)} nodes and {most - 1} legal cuts, too few for {slices} slices",
        hint=f"ask for at most `--slices {most}`",
    )


def impossible(functions: Functions, goal: Goal) -> PlanError:
    """Why there is no chain at all, and what would do."""
    some = shortest(functions, Grid(functions.positions, None), Latency(functions)) if goal.slices else None
    if some is not None:
        count = "1 slice does" if goal.slices == 1 else f"{goal.slices} slices do"
        return PlanError(
            f"{count} not keep the limits of {functions.model.platform.title}: functions of "
            f"{functions.most_mb} MB, and their timeout",
            hint=f"ask for `--slices {len(some[1])}`, with which they are kept",
        )
    rows = functions.units()
    least_mb = functions.least_mb(rows.load)
    late = np.isfinite(least_mb) & ~functions.priced(rows, functions.fastest_mb(least_mb)).possible
    peak_mb = np.ceil(np.asarray(functions.model.peak_bytes(rows.load)) / MB)
    if late.any() and not np.isinf(least_mb).any():
        worst = int(np.argmax(np.where(late, rows.load.compute_ms, -1)))
        return PlanError(
            f"{_nodes(functions.segments, worst)} cannot be cut and takes longer, started cold, than the "
            f"{functions.model.platform.limits.timeout_s:g} s that a request may take",
            hint="raise `--max-memory`, or choose a platform with a longer timeout",
        )
    worst = int(np.argmax(np.where(np.isinf(least_mb), peak_mb, -1)))
    weights, _ = functions.segments.units()[worst]
    name, size = max(weights.items(), key=lambda pair: pair[1], default=("", 0))
    held = f", {size / MB:.0f} MB of them in `{name}`" if size > sum(weights.values()) // 2 and name[:1] != "\0" else ""
    return PlanError(
        f"{_nodes(functions.segments, worst)} cannot be cut and needs {int(peak_mb[worst])} MB of memory with "
        f"{sum(weights.values()) / MB:.0f} MB of weights{held}, above the {functions.most_mb} MB of a function",
        hint=_larger(functions, goal, int(peak_mb.max())),
    )


def _larger(functions: Functions, goal: Goal, enough_mb: int) -> str:
    """The functions that would do, on this platform or another."""
    platform = functions.model.platform
    limits = Limits(memory_min_mb=1, memory_max_mb=max(1, enough_mb))
    model = replace(functions.model, platform=replace(platform, limits=limits))
    found = shortest(
        lifted := Functions(functions.segments, model, functions.cold),
        Grid(functions.positions, goal.slices),
        Memory(lifted),
    )
    needed_mb = enough_mb if found is None else int(found[0])
    size = next((size for size in platform.limits.memory_sizes() if size >= needed_mb), None)
    if size is not None:
        return f"give `--max-memory {size}MiB` or more"
    return f"choose a platform that has functions of {needed_mb} MB"


def _nodes(segments: Segments, unit: int) -> str:
    """The nodes between two neighbouring legal cuts."""
    start, end = segments.positions[unit : unit + 2]
    first = segments.flow.model.graph.nodes[segments.cuts.order[start]].label
    return first if end - start == 1 else f"the run of {end - start} nodes from {first} on"
