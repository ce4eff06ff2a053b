"""From the samples of `platform_local.py` to its findings, and to the tables in the docs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import cast

from measure import Sample
from platform_fetch import BYTES_PER_S, NO_LIMIT, WHOLE
from platform_hops import BY_REFERENCE, INLINE, ONE
from platform_requests import AT_ONCE
from platform_setting import percentile
from platform_starts import BARE, ISOLATED
from platform_sweep import MEMORY_MB, PUBLISHED_MS
from results import Finding, Group, disturbance, summarised
from tables import between, markdown

MB_PER_VCPU = 1769
OVERHEAD_AT_MOST_MS = 2.0
WORK_AT_MOST = 1.25
"""Latency times share of a processor, against the smallest size: 1 where latency falls just as the share grows."""


def conclusions(groups: Sequence[Group]) -> list[Finding]:
    """What is to be shown, as measured."""
    found: list[Finding] = []
    for group in groups:
        found += _FINDINGS.get(group["name"], _nothing)(group)
    return found


def _nothing(_group: Group) -> list[Finding]:
    return []


def _samples(group: Group, label: str) -> list[Sample]:
    return [sample for sample in group["samples"] if sample["label"] == label and "error" not in sample]


def _labels(group: Group) -> list[str]:
    return list(dict.fromkeys(sample["label"] for sample in group["samples"]))


def _fact(sample: Sample, name: str) -> float:
    return float(cast("float", sample["facts"][name]))


def _median(samples: Sequence[Sample], name: str) -> float:
    return statistics.median(_fact(sample, name) for sample in samples)


def _finding(
    group: Group, text: str, values: Sequence[float], unit: str, *, of: Sequence[str], at_most: float | None = None
) -> Finding:
    """A finding on the samples with the labels `of`."""
    objection = disturbance([sample for label in of for sample in _samples(group, label)])
    found = summarised(text, values, group=group["name"], model=group["model"], at_most=at_most, objection=objection)
    found["unit"] = unit
    return found


def _overhead(group: Group) -> list[Finding]:
    found = []
    for label in _labels(group):
        at_most = OVERHEAD_AT_MOST_MS if label == f"http, {AT_ONCE}" else None
        p50s = [1000 * sample["seconds"] for sample in _samples(group, label)]
        found.append(_finding(group, f"empty request, {label}: p50", p50s, "ms", of=[label], at_most=at_most))
    return found


def _throughput(group: Group) -> list[Finding]:
    found = []
    for label in _labels(group):
        rates = [_fact(sample, "per_second") for sample in _samples(group, label)]
        found.append(_finding(group, f"requests per second, {label}", rates, "/s", of=[label]))
    return found


def _hops(group: Group) -> list[Finding]:
    labels = [label for label in (INLINE, BY_REFERENCE) if label in _labels(group)]
    return [
        _finding(group, f"a hop of {group['model']}, {label}", _hop_ms(group, label), "ms", of=[ONE, label])
        for label in labels
    ]


def _hop_ms(group: Group, label: str) -> list[float]:
    """What two functions take longer than one, round by round."""
    one = {sample["round"]: sample["seconds"] for sample in _samples(group, ONE)}
    return [1000 * (sample["seconds"] - one[sample["round"]]) for sample in _samples(group, label)]


def _sweep(group: Group) -> list[Finding]:
    work = {size: _median(_samples(group, f"{size} MB"), "busy_ms") * size for size in MEMORY_MB}
    found = []
    for size in MEMORY_MB[1:]:
        text, ratio = f"busy latency x memory, {size} MB / {MEMORY_MB[0]} MB", work[size] / work[MEMORY_MB[0]]
        of = [f"{each} MB" for each in (MEMORY_MB[0], size)]
        found.append(_finding(group, text, [ratio], "x", of=of, at_most=WORK_AT_MOST))
    return found


def _fetch(group: Group) -> list[Finding]:
    found = []
    for label in _labels(group):
        seconds = [sample["seconds"] for sample in _samples(group, label)]
        found.append(_finding(group, f"first answer, {label}", seconds, "s", of=[label]))
        if label not in (WHOLE, NO_LIMIT):
            for whole in (WHOLE, NO_LIMIT):
                ratio = statistics.median(seconds) / statistics.median(s["seconds"] for s in _samples(group, whole))
                found.append(_finding(group, f"{label} / {whole}, first answer", [ratio], "x", of=[label, whole]))
    return found


_FINDINGS = {"overhead": _overhead, "throughput": _throughput, "hop": _hops, "sweep": _sweep, "fetch": _fetch}


def documented(page: str, results: Mapping[str, object]) -> str:
    """A page with the tables between its markers made from a results file."""
    groups = cast("list[Group]", results["groups"])
    parts = []
    for title, names, table in _TABLES:
        chosen = [group for group in groups if group["name"] in names]
        if chosen:
            parts.append(f"### {title}\n\n{table(chosen)}")
    return between(page, "\n\n".join(parts))


def _overhead_table(groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        for label in _labels(group):
            samples = _samples(group, label)
            times = [ms for sample in samples for ms in cast("list[float]", sample["facts"]["request_ms"])]
            way, _, kind = label.partition(", ")
            if times:
                rows.append([way, kind, f"{len(times):,}", *(f"{percentile(times, p):.2f}" for p in (50, 90, 99))])
    return markdown(["way", "function", "requests", "p50 ms", "p90 ms", "p99 ms"], rows)


def _throughput_table(groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        for label in _labels(group):
            samples = _samples(group, label)
            times = [f"{_median(samples, f'p{percent}_ms'):,.1f}" for percent in (50, 90, 99)]
            rows.append([group["model"], label.partition(" ")[0], f"{_median(samples, 'per_second'):,.0f}", *times])
    return markdown(["function", "clients", "requests per second", "p50 ms", "p90 ms", "p99 ms"], rows)


def _hops_table(groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        cells = [f"{1000 * statistics.median(sample['seconds'] for sample in _samples(group, ONE)):.1f}"]
        for label in (INLINE, BY_REFERENCE):
            values = _hop_ms(group, label)
            cells.append(f"{statistics.median(values):.1f}" if values else "too large")
        rows.append([group["model"], *cells])
    return markdown(["tensor", "one function ms", "hop in the request ms", "hop by reference ms"], rows)


def _starts_table(groups: Sequence[Group]) -> str:
    empty = next((group for group in groups if group["name"] == "empty start"), None)
    bare_ms, isolated_ms = (_median(_samples(empty, label), "init_ms") if empty else 0.0 for label in (BARE, ISOLATED))
    rows = []
    for group in groups:
        if group["name"] != "start":
            continue
        for label in _labels(group):
            samples = _samples(group, label)
            parts = {
                name: _median(samples, f"{name}_ms") for name in ("import", "weights", "session", "infer", "total")
            }
            total = parts.pop("total")
            known = [bare_ms, isolated_ms - bare_ms, *parts.values()]
            cells = [f"{round(ms):,}" for ms in (*known, total - sum(known), total)]
            rows.append([group["model"], label, *cells])
    heads = [
        "process, Python, runtime",
        "sandbox",
        "imports",
        "weights",
        "session",
        "first inference",
        "rest",
        "in all",
    ]
    return markdown(["model", "delivery", *(f"{head} ms" for head in heads)], rows)


def _fetch_table(groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        for label in _labels(group):
            samples = _samples(group, label)
            largest = max(cast("list[int]", samples[0]["facts"]["bytes"]))
            runs = [run for sample in samples for run in cast("list[dict[str, float]]", sample["facts"]["timeline"])]
            rows.append(
                [
                    label,
                    f"{largest / 1e6:,.0f}",
                    f"{largest / BYTES_PER_S:.1f}",
                    f"{max(run['init_ms'] for run in runs) / 1000:.1f}",
                    f"{statistics.median(sample['seconds'] for sample in samples):.1f}",
                    f"{_median(samples, 'processor_s'):.1f}",
                ]
            )
    heads = ["largest fetch MB", "at the rate s", "longest INIT s", "first answer s", "processor time s"]
    return markdown(["functions", *heads], rows)


def _sweep_table(groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        for size in MEMORY_MB:
            samples = _samples(group, f"{size} MB")
            facts = {name: _median(samples, name) for name in ("share", "busy_ms", "idle_ms", "processor_ms")}
            shares = [f"{size / MB_PER_VCPU:.2f}", f"{facts.pop('share'):.2f}"]
            rows.append([f"{size} MB", *shares, *(f"{ms:.1f}" for ms in facts.values()), f"{PUBLISHED_MS[size]:.1f}"])
    heads = ["processors", "used", "busy ms", "idle before ms", "processor time ms", "published ms"]
    return markdown(["memory", *heads], rows)


_TABLES = (
    ("Empty requests", ("overhead",), _overhead_table),
    ("Requests per second", ("throughput",), _throughput_table),
    ("A hop", ("hop",), _hops_table),
    ("A cold start", ("start", "empty start"), _starts_table),
    ("A cold start that fetches its weights", ("fetch",), _fetch_table),
    ("Memory and latency", ("sweep",), _sweep_table),
)
