"""What plans cost, as JSON values and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli import output
from lamella.cli.plots import Point, write_frontier

if TYPE_CHECKING:
    from lamella.planner.estimate import Estimate, SliceEstimate
    from lamella.planner.goal import Found, Goal
    from lamella.planner.planning import Alternative, Planning

_TERMS = ("hop_ms", "transfer_ms", "compute_ms", "start_ms", "runtime_ms", "weights_ms", "session_ms", "lost_ms")


def estimate_view(planning: Planning, goal: Goal, found: Estimate) -> dict[str, object]:
    """The platform, what was asked, and what the plan costs there, warm and cold."""
    return {
        "platform": planning.platform.name,
        "platform_profile": planning.platform.profile,
        "architecture": planning.costs.architecture,
        "objective": goal.objective,
        "dims": dict(planning.dims),
        "profiled": planning.profile is not None,
        **_totals(found),
    }


def _totals(found: Estimate) -> dict[str, object]:
    return {
        "estimated_ms": found.warm_ms,
        "estimated_usd": found.warm_usd,
        "estimated_cold_ms": {"sequential": found.cold_sequential_ms, "parallel": found.cold_parallel_ms},
        "estimated_cold_usd": found.cold_usd,
        "epsilon": found.epsilon,
    }


def alternatives_view(others: Sequence[Alternative]) -> list[dict[str, object]]:
    """Plans with other numbers of slices: what they cost, or why there are none."""
    return [
        {
            "slices": other.steps if other.estimate is None else len(other.estimate.slices),
            "steps": other.steps,
            "reason": other.reason,
            "memory_mb": [] if other.estimate is None else [part.memory_mb for part in other.estimate.slices],
            **({} if other.estimate is None else _totals(other.estimate)),
        }
        for other in others
    ]


def explanation_view(planning: Planning, found: Estimate) -> dict[str, object]:
    """What each slice's estimate is made of, and how far the model's estimates are off from what was measured."""
    return {
        "slices": [
            {
                "memory_mb": part.memory_mb,
                "estimated_peak_bytes": part.peak_bytes,
                **{f"estimated_{term}": getattr(part.costs, term) for term in _TERMS},
            }
            for part in found.slices
        ],
        "errors": [
            {"quantity": c.quantity, "unit": c.unit, "estimated": c.estimated, "measured": c.measured, "error": c.error}
            for c in planning.errors()
        ],
    }


def print_estimate(planning: Planning, goal: Goal, found: Estimate) -> None:
    """Print what a plan costs."""
    platform = planning.platform
    apart, together = output.milliseconds(found.cold_sequential_ms), output.milliseconds(found.cold_parallel_ms)
    where = f"{platform.title}{f' ({platform.profile})' if platform.profile else ''}, {planning.costs.architecture}"
    measured = "measured operators" if planning.profile else "operator statistics; `--profile` measures"
    output.line()
    output.facts(
        [
            ("platform", where),
            ("objective", goal.objective + (f", {goal.cold} cold starts" if goal.cold else "")),
            ("dimensions", ", ".join(f"{name}={size}" for name, size in planning.dims.items()) or "none is symbolic"),
            ("from", measured),
            ("warm", f"{output.milliseconds(found.warm_ms)}, {_per_thousand(found.warm_usd)}"),
            ("cold", f"{apart} one after the other, {together} started together, {_per_thousand(found.cold_usd)}"),
        ]
    )


def print_alternatives(planning: Planning, others: Sequence[Alternative], chosen: Estimate, goal: Goal) -> None:
    """Print what plans of one, two and three steps would cost beside this one, and what that says about cutting."""
    if chosen.epsilon:
        output.line(f"too many plans to try all: none is better than this one by more than {chosen.epsilon:.1%}")
    output.line()
    rows = [_row(other.estimate, other) for other in others if other.steps != chosen.steps]
    rows.insert(min(chosen.steps - 1, len(rows)), _row(chosen, None))
    headers = ["slices", "largest", "warm", "cold", "cold together", "per 1,000", ""]
    output.table(headers, rows, right=(0, 1, 2, 3, 4, 5))
    output.line()
    output.line(_verdict(planning, others, chosen, goal))


def _row(found: Estimate | None, other: Alternative | None) -> tuple[str, ...]:
    if found is None:
        return ("" if other is None else str(other.steps), "", "", "", "", "", (other and other.reason) or "")
    return (
        str(len(found.slices)),
        output.memory(found.largest_memory_mb << 20),
        output.milliseconds(found.warm_ms),
        output.milliseconds(found.cold_sequential_ms),
        output.milliseconds(found.cold_parallel_ms),
        f"${1000 * found.warm_usd:.4g}",
        "this plan" if other is None else "",
    )


def _verdict(planning: Planning, others: Sequence[Alternative], chosen: Estimate, goal: Goal) -> str:
    """One sentence on whether cutting pays."""
    one = next((other for other in others if other.steps == 1), None)
    whole = None if one is None or one.estimate is None or len(one.estimate.slices) > 1 else one.estimate
    cut = next((other.estimate for other in others if other.steps == 2), None)
    if len(chosen.slices) == 1:
        if cut is None:
            return f"One function is enough on {planning.platform.title}, and it cannot be cut."
        return f"One function is {'enough' if goal.slices else 'best'}. Two slices would be {_difference(cut, chosen)}."
    if whole is None:
        return f"It must be cut: {(one and one.reason) or 'one function cannot hold it'}."
    if goal.slices is not None:
        return f"Against one function, this is {_difference(chosen, whole)}."
    return f"Cut for this goal, it is {_difference(chosen, whole)} than one function."


def _difference(found: Estimate, one: Estimate) -> str:
    def said(change: float, unit: str, more: str, less: str) -> str:
        return f"{unit.format(abs(change))} {more if change > 0 else less}"

    return ", ".join(
        (
            said(found.warm_ms - one.warm_ms, "{:.3g} ms", "slower warm", "faster warm"),
            said(found.cold_parallel_ms - one.cold_parallel_ms, "{:.3g} ms", "slower cold", "faster cold"),
            said(1000 * (found.warm_usd - one.warm_usd), "${:.3g} for 1,000 requests", "dearer", "cheaper"),
        )
    )


def print_explanation(planning: Planning, found: Estimate) -> None:
    """Print what each slice's estimate is made of, and the errors of the model's estimates."""
    output.line()
    terms = [term for term in _TERMS if any(getattr(part.costs, term) for part in found.slices)]
    headers = ["slice", *(term.removesuffix("_ms") for term in terms), "peak", "function"]
    rows = [_explained(index, part, terms) for index, part in enumerate(found.slices)]
    output.table(headers, rows, right=tuple(range(len(headers))))
    output.line()
    errors = planning.errors()
    if not errors:
        output.line(
            "Nothing of this model was measured here: `--profile` does, and shows how far the estimates are off."
        )
        return
    measured = [
        (c.quantity, f"{c.estimated:,.4g} {c.unit}", f"{c.measured:,.4g} {c.unit}", f"{c.error:+.1%}") for c in errors
    ]
    output.table(["on this machine", "estimated", "measured", "error"], measured, right=(1, 2, 3))


def _explained(index: int, part: SliceEstimate, terms: Sequence[str]) -> tuple[str, ...]:
    times = (output.milliseconds(float(getattr(part.costs, term))) for term in terms)
    return (str(index), *times, output.memory(part.peak_bytes), output.memory(part.memory_mb << 20))


def frontier_view(planning: Planning, found: Sequence[Found]) -> dict[str, object]:
    """All plans that no other beats."""
    return {
        "platform": planning.platform.name,
        "architecture": planning.costs.architecture,
        "epsilon": max((plan.epsilon for plan in found), default=0.0),
        "plans": [
            {
                "slices": len(plan.choices),
                "memory_mb": [choice.memory_mb for choice in plan.choices],
                "estimated_ms": plan.latency_ms,
                "estimated_usd": plan.cost_usd,
            }
            for plan in found
        ],
    }


def print_frontier(found: Sequence[Found]) -> None:
    """Print all plans that no other beats, the fastest first."""
    rows = [
        (
            output.milliseconds(plan.latency_ms),
            f"${1000 * plan.cost_usd:.4g}",
            str(len(plan.choices)),
            ", ".join(f"{choice.memory_mb:,}" for choice in plan.choices[:6]) + (" ..." if plan.choices[6:] else ""),
        )
        for plan in found
    ]
    output.table(["request", "per 1,000", "slices", "memory, MB"], rows, right=(0, 1, 2))
    epsilon = max((plan.epsilon for plan in found), default=0.0)
    if epsilon:
        output.line()
        output.line(f"thinned: for every plan there is one here as fast that costs at most {epsilon:.1%} more")


def plot_frontier(path: Path, planning: Planning, found: Sequence[Found]) -> None:
    """Draw all plans that no other beats."""
    points = [
        Point(
            plan.latency_ms,
            1000 * plan.cost_usd,
            f"{len(plan.choices)} slices of {', '.join(str(choice.memory_mb) for choice in plan.choices[:8])} MB: "
            f"{plan.latency_ms:.4g} ms, ${1000 * plan.cost_usd:.4g} for 1,000 requests",
        )
        for plan in found
    ]
    title = f"{planning.model.path.name} on {planning.platform.title}"
    write_frontier(path, points, title=title, x_label="a request, ms", y_label="1,000 requests, USD")


def _per_thousand(usd: float) -> str:
    return f"${1000 * usd:.4g} for 1,000 requests"
