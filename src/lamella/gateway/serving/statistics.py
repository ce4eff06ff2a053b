"""What a version of a model has done, counted."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from time import time

from lamella.gateway.dataplane import Duration, Statistics

LATENCIES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, inf)
"""Answers are counted by the least of these that they did not take longer than."""


_MOST_SIZES = 1024
"""Larger batches are counted with those of the next power of two: callers choose how many rows they send."""


@dataclass(slots=True)
class Count:
    """How often, and seconds in all."""

    count: int = 0
    s: float = 0.0

    def add(self, s: float, count: int = 1) -> None:
        """Count something that took so long."""
        self.count += count
        self.s += s

    def duration(self) -> Duration:
        """As the data plane tells it."""
        return Duration(self.count, int(self.s * 1e9))


@dataclass(slots=True)
class Counts:
    """Everything that is counted for a version of a model. Touched by the event loop only.

    Times are by request, as Triton's are: each of a batch has taken as long as the batch, which `batches` and `busy_s`
    count once.
    """

    last_s: float = 0.0
    rows: int = 0
    busy_s: float = 0.0
    executions: int = 0
    refused: int = 0
    cancelled: int = 0
    success: Count = field(default_factory=Count)
    fail: Count = field(default_factory=Count)
    queue: Count = field(default_factory=Count)
    compute_input: Count = field(default_factory=Count)
    compute_infer: Count = field(default_factory=Count)
    compute_output: Count = field(default_factory=Count)
    batches: dict[int, Count] = field(default_factory=dict)
    latency: list[int] = field(default_factory=lambda: [0] * len(LATENCIES_S))

    def asked(self) -> None:
        """A request has come."""
        self.last_s = time()

    def answered(self, s: float) -> None:
        """A request has its answer, after so many seconds."""
        self.success.add(s)
        self.latency[bisect_left(LATENCIES_S, s)] += 1

    def executed(self, rows: int, requests: int, steps_s: tuple[float, float, float]) -> None:
        """A batch was computed: seconds for its inputs, in the engine, and for its outputs."""
        self.rows += rows
        self.executions += 1
        for count, s in zip((self.compute_input, self.compute_infer, self.compute_output), steps_s, strict=True):
            count.add(s * requests, requests)
        self.busy_s += sum(steps_s)
        size = rows if rows <= _MOST_SIZES else 1 << (rows - 1).bit_length()
        self.batches.setdefault(size, Count()).add(steps_s[1])

    def statistics(self, model: str, version: str, waiting: int) -> Statistics:
        """As the data plane tells it."""
        return Statistics(
            model,
            version,
            int(self.last_s * 1000),
            self.rows,
            self.executions,
            self.success.duration(),
            self.fail.duration(),
            self.queue.duration(),
            self.compute_input.duration(),
            self.compute_infer.duration(),
            self.compute_output.duration(),
            {rows: count.duration() for rows, count in sorted(self.batches.items())},
            waiting,
            self.refused,
            self.cancelled,
            dict(zip(LATENCIES_S, accumulate(self.latency), strict=True)),
        )
