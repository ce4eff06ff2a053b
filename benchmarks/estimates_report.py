"""From the samples of `estimates.py` to its findings, and to the tables in the docs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from agreement import Pair, kendall_tau, regret, swaps
from measure import Sample
from results import Finding, Group, disturbance, summarised
from tables import between, markdown

MEDIAN_ERROR_AT_MOST = 0.15
TAU_AT_LEAST = 0.8


@dataclass(frozen=True)
class Quantity:
    """Something that is estimated and measured.

    Attributes:
        name: For the tables.
        measured: Of a sample, in `unit`.
        estimated: From the estimates beside it, in `unit`.
        unit: Of both.
        timed: Whether a busy machine spoils it.
    """

    name: str
    measured: Callable[[Sample], float]
    estimated: Callable[[Mapping[str, float | Sequence[float]]], float]
    unit: str
    timed: bool = True


def _number(value: float | Sequence[float]) -> float:
    return float(value) if isinstance(value, int | float) else float(sum(value))


WARM = Quantity("warm request", lambda s: 1000 * s["seconds"], lambda e: _number(e["warm_ms"]), "ms")
START = Quantity("start", lambda s: 1000 * s["seconds_since_start"], lambda e: _number(e["init_ms"]), "ms")
PEAK = Quantity(
    "peak memory", lambda s: s["peak_bytes"] / 2**20, lambda e: _number(e["peak_bytes"]) / 2**20, "MB", False
)
BILLED = Quantity("time x memory", lambda s: _billed_gb_ms(s["facts"]), lambda e: _number(e["gb_ms"]), "GB-ms")
QUANTITIES = (WARM, PEAK, START)
PLAN_QUANTITIES = (WARM, BILLED, PEAK)


def _billed_gb_ms(facts: Mapping[str, object]) -> float:
    times, sizes = (cast("list[float]", facts[name]) for name in ("billed_ms", "memory_mb"))
    return sum(ms * size / 1024 for ms, size in zip(times, sizes, strict=True))


def pairs(group: Group, quantity: Quantity, estimate: str = "estimated") -> list[Pair]:
    """For each label of a group, the estimate and the median of what was measured."""
    found = []
    for label in dict.fromkeys(sample["label"] for sample in group["samples"]):
        samples = [s for s in group["samples"] if s["label"] == label and "error" not in s]
        if samples:
            beside = cast("Mapping[str, float | Sequence[float]]", samples[0]["facts"][estimate])
            measured = statistics.median(quantity.measured(sample) for sample in samples)
            found.append(Pair(label, quantity.estimated(beside), measured))
    return found


def conclusions(groups: Sequence[Group]) -> list[Finding]:
    """The median errors over all functions, and for each model whether the plans are in the right order."""
    functions = [group for group in groups if group["name"] == "function"]
    plans = [group for group in groups if group["name"] == "plan"]
    findings = [_error(functions, quantity, "estimated", "", at_most=MEDIAN_ERROR_AT_MOST) for quantity in QUANTITIES]
    findings.append(_error(functions, WARM, "estimated_without_profile", ", without a profile"))
    findings += [_error([group], quantity, "estimated", "") for group in functions for quantity in QUANTITIES]
    return findings + [
        finding for group in plans for quantity in PLAN_QUANTITIES for finding in _order(group, quantity)
    ]


def _error(
    groups: Sequence[Group], quantity: Quantity, estimate: str, remark: str, at_most: float | None = None
) -> Finding:
    errors = [abs(pair.error) for group in groups for pair in pairs(group, quantity, estimate)]
    samples = [sample for group in groups for sample in group["samples"]]
    return summarised(
        f"median error of the estimate: {quantity.name}{remark}",
        errors,
        group="function",
        model=groups[0]["model"] if len(groups) == 1 else f"{len(groups)} models",
        at_most=at_most,
        objection=disturbance(samples) if quantity.timed else "",
    )


def _order(group: Group, quantity: Quantity) -> list[Finding]:
    found = pairs(group, quantity)
    objection = disturbance(group["samples"]) if quantity.timed else ""

    def finding(text: str, value: float, at_least: float | None = None) -> Finding:
        return summarised(text, [value], group="plan", model=group["model"], at_least=at_least, objection=objection)

    return [
        finding(f"order of plans by {quantity.name}: Kendall's tau", kendall_tau(found), TAU_AT_LEAST),
        finding(f"the plan estimated best by {quantity.name}, above the best", regret(found)),
    ]


def documented(page: str, results: Mapping[str, object]) -> str:
    """A page with the tables between its markers made from a results file."""
    groups = cast("list[Group]", results["groups"])
    tables = (_functions_table(groups), _medians_table(groups), _plans_table(groups), _swaps_table(groups))
    return between(page, "\n\n".join(tables))


def _functions_table(groups: Sequence[Group]) -> str:
    rows = [
        [group["model"], columns[0].label, *(cell for pair in columns for cell in _cells(pair))]
        for group in groups
        if group["name"] == "function"
        for columns in zip(*(pairs(group, quantity) for quantity in QUANTITIES), strict=True)
    ]
    heads = [head for q in QUANTITIES for head in (f"{q.name}: estimated {q.unit}", "measured", "error")]
    return markdown(["model", "memory", *heads], rows)


def _cells(pair: Pair) -> list[str]:
    digits = 0 if pair.measured >= 100 else 1
    return [f"{pair.estimated:,.{digits}f}", f"{pair.measured:,.{digits}f}", f"{pair.error:+.0%}"]


def _medians_table(groups: Sequence[Group]) -> str:
    functions = [group for group in groups if group["name"] == "function"]
    kinds = [("with a profile", "estimated"), ("without", "estimated_without_profile")]
    rows = []
    for name, estimate in kinds:
        errors = [[abs(p.error) for g in functions for p in pairs(g, q, estimate)] for q in QUANTITIES]
        rows.append([name, str(len(errors[0])), *(f"{statistics.median(e):.1%}" for e in errors if e)])
    return markdown(["median error", "functions", *(quantity.name for quantity in QUANTITIES)], rows)


def _plans_table(groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        if group["name"] == "plan":
            found = [pairs(group, quantity) for quantity in PLAN_QUANTITIES]
            cells = [cell for plan in found for cell in (f"{kendall_tau(plan):.2f}", f"{regret(plan):.0%}")]
            rows.append([group["model"], str(len(found[0])), *cells])
    heads = [f"by {quantity.name}: {what}" for quantity in PLAN_QUANTITIES for what in ("tau", "loss")]
    return markdown(["model", "plans", *heads], rows)


def _swaps_table(groups: Sequence[Group]) -> str:
    rows = [
        [group["model"], quantity.name, swap.preferred, swap.better, f"{swap.loss:.1%}"]
        for group in groups
        if group["name"] == "plan"
        for quantity in PLAN_QUANTITIES
        for swap in swaps(pairs(group, quantity))
    ]
    return markdown(
        ["model", "by", "estimated better", "measured better", "by how much"], rows or [["none"] + [""] * 4]
    )
