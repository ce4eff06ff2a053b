"""Results as rows: what spreadsheets and other programs read."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lamella.bench.results import Results, Run, Sample
from lamella.slicing.placement import write_atomically

COLUMNS = (
    *("time", "request", "whole", "slice", "function", "status", "cold_start"),
    *("duration_ms", "billed_ms", "init_ms", "max_memory_mb", "memory_mb", "usd"),
    *("request_latency_ms", "request_billed_ms"),
)
"""A row is a run of a function; what its request took as a whole stands in each row of it."""


def rows(results: Results) -> Iterator[tuple[object, ...]]:
    """A row for each run of a function, by time."""
    runs = [(run, sample) for sample in results.samples for run in sample.runs]
    for run, sample in sorted(runs, key=lambda each: (each[0].ended_ms, each[0].function)):
        yield _row(run, sample)


def write_csv(results: Results, path: Path) -> None:
    """Write all runs as CSV, whole or not at all; what is not known is an empty cell.

    Raises:
        OSError: It cannot be written.
    """

    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows(results))

    write_atomically(path, write)


def _row(run: Run, sample: Sample) -> tuple[object, ...]:
    moment = datetime.fromtimestamp(run.ended_ms / 1000, UTC)
    return (
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        sample.request,
        _word(sample.whole),
        "door" if run.slice is None else run.slice,
        run.function,
        run.status,
        _word(run.cold_start),
        run.duration_ms,
        run.billed_ms,
        run.init_ms,
        run.max_memory_mb,
        run.memory_mb,
        None if run.usd is None else f"{run.usd:.12f}",
        round(sample.latency_ms, 3),
        sample.billed_ms,
    )


def _word(value: bool) -> str:
    return "true" if value else "false"
