"""What a chain of segments is judged by: latency, cost, or its largest function; with bounds for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lamella.planner.cost import WORKFLOW_GB, Load, Numbers
from lamella.planner.functions import Functions, Rows
from lamella.planner.goal import Objective
from lamella.planner.pareto import ENDS
from lamella.planner.relaxation import Relaxation
from lamella.planner.segments import Floats
from lamella.planner.shortest import Criterion
from lamella.platforms.base import MB, Speeds

_CELL_MB = 8  # how finely bounds of prices are tabulated


class Latency:
    """The latency of a chain: each segment at the size of which no larger one is faster."""

    def __init__(self, functions: Functions) -> None:
        self._functions, self._speeds = functions, functions.model.platform.speeds
        self._share = np.minimum(functions.model.processors(functions.most_mb), 1.0)
        self._speedup = functions.model.speedup(functions.most_mb)
        self.bounds = (self._roughly,)

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """At one size."""
        priced = self._functions.priced(rows, self._functions.fastest_mb(self._functions.least_mb(rows.load)))
        return priced.ready_ms, np.where(priced.possible, priced.ms, np.inf)

    def _roughly(self, rows: Rows) -> tuple[Numbers, Numbers]:
        inline_ms, object_ms = _transfer_ms(self._speeds, rows.load)
        saved = self._functions.model.saved_share(inline_ms + rows.load.compute_ms, self._functions.most_mb)
        busy_ms = (inline_ms / self._share + rows.load.compute_ms / self._speedup) * (1 - saved)
        run_ms = self._speeds.hop_ms + busy_ms + object_ms
        if self._functions.cold is None:
            return 0.0, run_ms
        init_ms = self._speeds.runtime_init_ms + _read_ms(self._speeds, rows.load)
        return (init_ms, run_ms) if self._functions.cold == "parallel" else (0.0, run_ms + init_ms)


class Cost:
    """The cost of a chain: each segment at its cheapest size."""

    def __init__(self, functions: Functions) -> None:
        self._functions, model = functions, functions.model
        self._speeds, self._pricing = model.platform.speeds, model.platform.pricing
        sizes = np.arange(0.0, functions.most_mb + 2 * _CELL_MB, _CELL_MB)
        waited = self._pricing.workflow_gb_s_usd * WORKFLOW_GB
        usd = (np.asarray(model.second_usd(np.maximum(sizes[:-1], 1))) + waited) / 1000
        self._any_usd = usd
        share, speed = np.minimum(model.processors(sizes[1:]), 1), model.speedup(sizes[1:])
        self._single_usd, self._compute_usd, self._whole_usd = (
            np.minimum.accumulate((usd / by)[::-1])[::-1] for by in (share, speed, speed / share)
        )
        spared = np.asarray(model.second_usd(sizes[1:])) / 1000 + waited / 1000
        spared *= self._speeds.cpu_period_ms * (1 - np.minimum(model.processors(np.maximum(sizes[:-1], 1)), 1))
        self._saved_usd = np.maximum.accumulate(spared[::-1])[::-1]
        self.bounds = (self._roughly, self._without_rounding)

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """At all sizes."""
        sizes = self._functions.sizes_of(self._functions.least_mb(rows.load))
        priced = self._functions.priced(rows, sizes)
        return np.zeros(len(rows)), np.where(priced.possible, priced.usd, np.inf).min(axis=1)

    def _roughly(self, rows: Rows) -> tuple[Numbers, Numbers]:
        """At the price of the best memory that holds weights and activations, for each kind of duration."""
        pricing, speeds, load = self._pricing, self._speeds, rows.load
        cell = np.minimum(_held_mb(speeds, load) / _CELL_MB, len(self._any_usd) - 1).astype(np.int64)
        inline_ms, object_ms = _transfer_ms(speeds, load)
        evenly = self._compute_usd[cell] * load.compute_ms + self._single_usd[cell] * inline_ms - self._saved_usd[cell]
        usd = np.maximum(evenly, self._whole_usd[cell] * load.compute_ms + self._any_usd[cell] * inline_ms)
        usd += self._any_usd[cell] * object_ms + pricing.request_usd
        if self._functions.cold is not None and pricing.init_billed:
            usd += self._single_usd[cell] * speeds.runtime_init_ms + self._any_usd[cell] * _read_ms(speeds, load)
        usd += pricing.object_get_usd * load.objects_in + pricing.object_put_usd * load.objects_out
        return 0.0, np.where(rows.workflow, rows.parts * usd, 0.0)

    def _without_rounding(self, rows: Rows) -> tuple[Numbers, Numbers]:
        least_mb = self._functions.least_mb(rows.load)
        held = np.isfinite(least_mb)
        bounds = np.full(len(rows), np.inf)
        bounds[held] = Relaxation(self._functions, rows.take(held), least_mb[held]).bounds(ENDS[1:])[0]
        return 0.0, bounds


class Memory:
    """The largest function of a chain: each segment at its smallest size."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.bounds = (
            lambda rows: (_held_mb(functions.model.platform.speeds, rows.load), 0.0),
            lambda rows: (functions.least_mb(rows.load), 0.0),
        )

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """The smallest size in which a request ends in time."""
        sizes = self._functions.sizes_of(self._functions.least_mb(rows.load))
        return np.where(self._functions.priced(rows, sizes).possible, sizes, np.inf).min(axis=1), np.zeros(len(rows))


def _held_mb(speeds: Speeds, load: Load) -> Numbers:
    """Memory without tensors on their way."""
    held = speeds.weights_factor * load.held_bytes + speeds.activations_factor * load.activations_bytes
    return speeds.floor_mb + held / MB


def _read_ms(speeds: Speeds, load: Load) -> Numbers:
    """Reading weights, from wherever it is faster."""
    return load.weights_bytes * (1000 / MB / max(speeds.weights_mb_s, speeds.object_mb_s))


def _transfer_ms(speeds: Speeds, load: Load) -> tuple[Numbers, Numbers]:
    """The handler and tensors that travel inline, on a whole processor, and those that travel as objects."""
    requests = np.asarray(load.objects_in > 0, np.float64) + (load.objects_out > 0)
    sent: Numbers = speeds.handler_ms + load.inline_bytes * (1000 / MB / speeds.inline_mb_s)
    objects: Numbers = (load.object_in_bytes + load.object_out_bytes) * (1000 / MB / speeds.object_mb_s)
    return sent, objects + speeds.object_request_ms * requests


CRITERIA: Mapping[Objective, Callable[[Functions], Criterion]] = {
    "latency": Latency,
    "cost": Cost,
    "memory": Memory,
}
