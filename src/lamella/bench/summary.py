"""Figures of many samples: averages, percentiles, cold starts, throughput and price; per request, slice and time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lamella.bench.results import Results, Run, Sample

_MOST_TIMES = 12
_WIDTHS_S = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
_DAY_S = 24 * 3600


@dataclass(frozen=True)
class Distribution:
    """Many values in few. Percentiles are interpolated linearly between the two nearest values.

    Attributes:
        count: How many there are.
        mean: Their mean.
        stdev: Their standard deviation; 0 for a single one.
        min: The least.
        p50: Half of them are no larger.
        p90: Nine of ten are no larger.
        p99: All but one of a hundred are no larger.
        max: The largest.
    """

    count: int
    mean: float
    stdev: float
    min: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class SliceSummary:
    """The runs of one function.

    Attributes:
        slice: The function's slice; None for a door.
        function: The function.
        memory_mb: Its memory, the last where that changed.
        runs: How often it ran.
        cold_starts: How often an instance was started for that.
        failed: How often it failed.
        duration_ms: From events to answers.
        billed_ms: What is charged.
        init_ms: Starting instances; None where none was started.
        max_memory_mb: The most that instances had used, after each run.
        usd_per_1000: The price of 1,000 runs.
    """

    slice: int | None
    function: str
    memory_mb: float
    runs: int
    cold_starts: int
    failed: int
    duration_ms: Distribution
    billed_ms: Distribution | None
    init_ms: Distribution | None
    max_memory_mb: Distribution | None
    usd_per_1000: float


@dataclass(frozen=True)
class TimeSummary:
    """The requests that began in a span of time.

    Attributes:
        begin_ms: When it begins: milliseconds since 1970.
        length_s: How long it is.
        requests: How many there were.
        cold_starts: How many of them waited for an instance to start.
        failed: How many failed.
        latency_ms: Of those that did not; None where there were none.
        max_memory_mb: The most memory that any of their functions had used.
        usd: What they cost.
    """

    begin_ms: float
    length_s: int
    requests: int
    cold_starts: int
    failed: int
    latency_ms: Distribution | None
    max_memory_mb: float | None
    usd: float


@dataclass(frozen=True)
class Summary:
    """A measurement in figures. Of latencies, only requests that succeeded count.

    Attributes:
        requests: Whole requests.
        cold_starts: How many of them waited for an instance to start.
        failed: How many of them failed.
        partial: Everything else that ran: pings, single slices, requests of which not all was seen.
        qps: Requests a second, from the first one's beginning to the last one's end.
        latency_ms: Of all; None where there are none.
        warm_latency_ms: Of those that found all instances there.
        cold_latency_ms: Of the others.
        billed_ms: What is charged for a request.
        usd_per_1000: The price of 1,000 requests, as far as it is that of functions.
        total_usd: The price of everything that ran.
        slices: By function.
        times: By time.
    """

    requests: int
    cold_starts: int
    failed: int
    partial: int
    qps: float
    latency_ms: Distribution | None
    warm_latency_ms: Distribution | None
    cold_latency_ms: Distribution | None
    billed_ms: Distribution | None
    usd_per_1000: float
    total_usd: float
    slices: tuple[SliceSummary, ...]
    times: tuple[TimeSummary, ...]


def distribution(values: Iterable[float]) -> Distribution | None:
    """Many values in few; None where there are none."""
    found = sorted(values)
    if not found:
        return None
    return Distribution(
        len(found),
        statistics.fmean(found),
        statistics.stdev(found) if len(found) > 1 else 0.0,
        found[0],
        percentile(found, 50),
        percentile(found, 90),
        percentile(found, 99),
        found[-1],
    )


def percentile(ascending: Sequence[float], percent: float) -> float:
    """A percentile of values in ascending order, interpolated linearly (as NumPy's default)."""
    position = (len(ascending) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ascending) - 1)
    # exact where both are the same, and never outside of the two
    return ascending[below] + (ascending[above] - ascending[below]) * (position - below)


def summarize(results: Results) -> Summary:
    """A measurement in figures."""
    whole = [sample for sample in results.samples if sample.whole]
    good = [sample for sample in whole if sample.status == "success"]
    cold = [sample for sample in good if sample.cold_start]
    return Summary(
        requests=len(whole),
        cold_starts=sum(sample.cold_start for sample in whole),
        failed=len(whole) - len(good),
        partial=len(results.samples) - len(whole),
        qps=_qps(whole),
        latency_ms=distribution(sample.latency_ms for sample in good),
        warm_latency_ms=distribution(sample.latency_ms for sample in good if not sample.cold_start),
        cold_latency_ms=distribution(sample.latency_ms for sample in cold),
        billed_ms=distribution(sample.billed_ms for sample in whole),
        usd_per_1000=1000 * statistics.fmean(sample.usd for sample in whole) if whole else 0.0,
        total_usd=sum(sample.usd for sample in results.samples),
        slices=_slices(results),
        times=_times(whole),
    )


def _qps(samples: Sequence[Sample]) -> float:
    if not samples:
        return 0.0
    span_ms = max(one.began_ms + one.latency_ms for one in samples) - min(one.began_ms for one in samples)
    return 1000 * len(samples) / span_ms if span_ms > 0 else 0.0


def _slices(results: Results) -> tuple[SliceSummary, ...]:
    runs: dict[tuple[bool, int, str], list[Run]] = {}
    for sample in results.samples:
        for run in sample.runs:
            runs.setdefault((run.slice is None, run.slice or 0, run.function), []).append(run)
    return tuple(_slice(found) for _, found in sorted(runs.items()))  # doors come last


def _slice(runs: Sequence[Run]) -> SliceSummary:
    last = max(runs, key=lambda run: run.ended_ms)
    durations = distribution(run.duration_ms for run in runs)
    assert durations is not None
    return SliceSummary(
        slice=last.slice,
        function=last.function,
        memory_mb=last.memory_mb,
        runs=len(runs),
        cold_starts=sum(run.cold_start for run in runs),
        failed=sum(run.status != "success" for run in runs),
        duration_ms=durations,
        billed_ms=distribution(run.billed_ms for run in runs if run.billed_ms is not None),
        init_ms=distribution(run.init_ms for run in runs if run.init_ms is not None),
        max_memory_mb=distribution(run.max_memory_mb for run in runs if run.max_memory_mb is not None),
        usd_per_1000=1000 * statistics.fmean(run.usd or 0.0 for run in runs),
    )


def _times(samples: Sequence[Sample]) -> tuple[TimeSummary, ...]:
    """Spans of a round length, as many as a table holds; those without requests are left out."""
    if not samples:
        return ()
    first, last = min(one.began_ms for one in samples), max(one.began_ms for one in samples)
    width_s = _width_s((last - first) / 1000)
    spans: dict[int, list[Sample]] = {}
    for sample in samples:
        spans.setdefault(int(sample.began_ms // (1000 * width_s)), []).append(sample)
    return tuple(_time(1000.0 * width_s * index, width_s, found) for index, found in sorted(spans.items()))


def _width_s(span_s: float) -> int:
    fitting = (width for width in _WIDTHS_S if span_s / width <= _MOST_TIMES - 1)
    return next(fitting, _DAY_S * max(1, -int(-span_s // (_DAY_S * (_MOST_TIMES - 1)))))


def _time(begin_ms: float, length_s: int, samples: Sequence[Sample]) -> TimeSummary:
    memory = [run.max_memory_mb for one in samples for run in one.runs if run.max_memory_mb is not None]
    return TimeSummary(
        begin_ms=begin_ms,
        length_s=length_s,
        requests=len(samples),
        cold_starts=sum(one.cold_start for one in samples),
        failed=sum(one.status != "success" for one in samples),
        latency_ms=distribution(one.latency_ms for one in samples if one.status == "success"),
        max_memory_mb=max(memory, default=None),
        usd=sum(one.usd for one in samples),
    )
