"""What models have done, as Prometheus collects it: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING

from lamella.errors import MissingDependencyError
from lamella.gateway.dataplane import Duration, Statistics

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = ("model", "version")


def exposition(found: Sequence[Statistics]) -> bytes:
    """The text of `/metrics`. Times are seconds.

    Raises:
        MissingDependencyError: `prometheus-client` is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as error:
        raise MissingDependencyError("metrics need `prometheus-client`", hint="pip install 'lamella[serve]'") from error
    registry = CollectorRegistry()
    registry.register(_Collector(found))
    return generate_latest(registry)


class _Collector:
    """Makes metrics of statistics."""

    def __init__(self, found: Sequence[Statistics]) -> None:
        self._found = found

    def describe(self) -> list[Metric]:
        """Nothing: names are made when they are collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, for every version of every model."""
        from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily

        for name, text, value in _COUNTERS:
            yield self._counter(name, text, [(labels, value(one)) for labels, one in self._labelled()])
        waiting = GaugeMetricFamily("lamella_waiting_requests", "Requests in the queue now.", labels=_LABELS)
        latency = HistogramMetricFamily("lamella_request_seconds", "Time from a request to its answer.", labels=_LABELS)
        for labels, one in self._labelled():
            waiting.add_metric(labels, one.waiting)
            buckets = [("+Inf" if at_most == inf else repr(at_most), count) for at_most, count in one.latency.items()]
            latency.add_metric(labels, buckets, sum_value=one.success.ns / 1e9)
        yield waiting
        yield latency

    def _labelled(self) -> Iterator[tuple[tuple[str, str], Statistics]]:
        return (((one.model, one.version), one) for one in self._found)

    def _counter(self, name: str, text: str, values: Sequence[tuple[tuple[str, str], float]]) -> Metric:
        from prometheus_client.metrics_core import CounterMetricFamily

        family = CounterMetricFamily(f"lamella_{name}", text, labels=_LABELS)
        for labels, value in values:
            family.add_metric(labels, value)
        return family


def _seconds(duration: Duration) -> float:
    return duration.ns / 1e9


_COUNTERS: Sequence[tuple[str, str, Callable[[Statistics], float]]] = (
    ("requests_answered", "Requests that were answered.", lambda one: one.success.count),
    ("requests_failed", "Requests that failed.", lambda one: one.fail.count),
    ("requests_refused", "Requests for which the queue had no place.", lambda one: one.refused),
    ("requests_cancelled", "Requests whose caller went away.", lambda one: one.cancelled),
    ("rows", "Rows that were computed.", lambda one: one.inference_count),
    ("batches", "Batches that were computed.", lambda one: one.execution_count),
    ("queue_seconds", "Time that requests waited, in all.", lambda one: _seconds(one.queue)),
    ("input_seconds", "Time for putting inputs together, by request.", lambda one: _seconds(one.compute_input)),
    ("infer_seconds", "Time in the engine, by request.", lambda one: _seconds(one.compute_infer)),
    ("output_seconds", "Time for taking outputs apart, by request.", lambda one: _seconds(one.compute_output)),
)
