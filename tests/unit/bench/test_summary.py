from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.measurements import BEGAN_MS, made_up, run, sample

from lamella.bench.summary import distribution, percentile, summarize

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


@given(VALUES, st.floats(0, 100))
def test_percentiles_are_those_of_numpy(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(np.percentile(values, percent), abs=1e-6)


@given(VALUES)
def test_a_distribution_holds_what_it_says(values: list[float]) -> None:
    found = distribution(values)
    assert found is not None
    assert found.count == len(values)
    assert found.min <= found.p50 <= found.p90 <= found.p99 <= found.max
    assert found.mean == pytest.approx(np.mean(values))
    assert found.stdev == pytest.approx(np.std(values, ddof=1) if len(values) > 1 else 0.0, abs=1e-6)


def test_nothing_has_no_distribution() -> None:
    assert distribution([]) is None


def test_requests_are_counted_and_failed_ones_have_no_latency() -> None:
    summary = summarize(made_up())
    assert (summary.requests, summary.cold_starts, summary.failed, summary.partial) == (11, 1, 1, 2)
    assert summary.latency_ms is not None
    assert summary.cold_latency_ms is not None
    assert summary.warm_latency_ms is not None
    assert (summary.latency_ms.count, summary.cold_latency_ms.count, summary.warm_latency_ms.count) == (10, 1, 9)
    assert summary.cold_latency_ms.max == 400 + 20 + 5 + 400 + 30
    assert summary.warm_latency_ms.p50 == 20 + 5 + 35
    assert summary.qps == pytest.approx(11 / 10.02)


def test_the_price_is_that_of_whole_requests_and_the_total_that_of_everything() -> None:
    results = made_up()
    summary = summarize(results)
    whole = [one.usd for one in results.samples if one.whole]
    assert summary.usd_per_1000 == pytest.approx(1000 * sum(whole) / 11)
    assert summary.total_usd == pytest.approx(sum(whole) + 1e-6 * (1 + 128))


def test_slices_are_apart_and_doors_come_last() -> None:
    first, second, door = summarize(made_up()).slices
    assert (first.slice, first.runs, first.cold_starts, first.failed) == (0, 12, 1, 1)
    assert (second.slice, second.runs, second.failed) == (1, 10, 0)
    assert (door.slice, door.function, door.memory_mb) == (None, "app-dev-door", 256)
    assert first.init_ms is not None
    assert first.init_ms.mean == 400
    assert second.duration_ms.p50 == pytest.approx(34.5)


@pytest.mark.parametrize(("apart_ms", "width_s", "spans"), [(100, 1, 11), (60_000, 600, 11), (86_400_000, 864_000, 11)])
def test_times_are_as_many_as_a_table_holds(apart_ms: float, width_s: int, spans: int) -> None:
    samples = tuple(sample(n, run(0, BEGAN_MS + n * apart_ms, 1.0)) for n in range(101))
    found = summarize(replace(made_up(), samples=samples)).times
    assert {one.length_s for one in found} == {width_s}
    assert len(found) in (spans, spans + 1, spans - 1)
    assert sum(one.requests for one in found) == 101
    assert all(one.begin_ms % (1000 * width_s) == 0 for one in found)


def test_no_samples_are_no_error() -> None:
    summary = summarize(replace(made_up(), samples=()))
    assert (summary.requests, summary.qps, summary.usd_per_1000, summary.latency_ms) == (0, 0.0, 0.0, None)
    assert (summary.slices, summary.times) == ((), ())
