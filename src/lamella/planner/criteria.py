"""What a chain of segments is judged by: latency, cost, or its largest function; with bounds for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lamella.planner.cost import WORKFLOW_GB, CostModel, Load, Numbers
from lamella.planner.functions import Functions, Rows
from lamella.planner.goal import Objective
from lamella.planner.relaxation import ROUNDING
from lamella.planner.segments import Floats, Integers
from lamella.planner.shortest import Criterion
from lamella.platforms.base import MB, Speeds

_ROWS = 256  # whose sizes are chosen at a time
_CELLS = 5120  # how finely bounds of prices are tabulated, by memory
_BUSY_MS = np.concatenate([[0.0], np.geomspace(1.0, 1e9, 100), [1e30]])  # likewise, by milliseconds on one processor
_WIDTHS = np.diff(_BUSY_MS)
_STEPS = 99 / np.log(1e9)  # from 1 ms on, in each power of e


class Latency:
    """The latency of a chain: each segment at the size of which no larger one is faster."""

    def __init__(self, functions: Functions) -> None:
        self._functions, self._speeds, model = functions, functions.model.platform.speeds, functions.model
        self._share = np.minimum(model.processors(functions.most_mb), 1.0)
        self._speedup = model.speedup(functions.most_mb)
        self.rate = float(1 / self._speedup)
        self.bounds = (self._roughly,)

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """At one size."""
        priced = self._functions.priced(rows, self._functions.fastest_mb(self._functions.least_mb(rows.load)))
        return priced.ready_ms, np.where(priced.possible, priced.ms, np.inf)

    def steady(self, rows: Rows) -> tuple[Numbers, Numbers]:
        """As of functions that have several periods to do."""
        sent_ms, object_ms = _transfer_ms(self._speeds, rows.load)
        single_ms, saved_ms = self._speeds.handler_ms + sent_ms, self._speeds.cpu_period_ms * (1 - self._share)
        return self._started(
            rows, single_ms / self._share + rows.load.compute_ms / self._speedup - saved_ms + object_ms
        )

    def _roughly(self, rows: Rows) -> tuple[Numbers, Numbers]:
        sent_ms, object_ms = _transfer_ms(self._speeds, rows.load)
        single_ms = self._speeds.handler_ms + sent_ms
        saved = self._functions.model.saved_share(single_ms + rows.load.compute_ms, self._functions.most_mb)
        busy_ms = (single_ms / self._share + rows.load.compute_ms / self._speedup) * (1 - saved)
        return self._started(rows, busy_ms + object_ms)

    def _started(self, rows: Rows, run_ms: Numbers) -> tuple[Numbers, Numbers]:
        warm_ms = self._speeds.hop_ms + run_ms
        if self._functions.cold is None:
            return 0.0, warm_ms
        start_ms, single_ms, read_ms = _start_ms(self._functions.model, rows.load, float(self._share))
        ready_ms = start_ms + single_ms + read_ms
        return (ready_ms, warm_ms) if self._functions.cold == "parallel" else (0.0, warm_ms + ready_ms)


class Cost:
    """The cost of a chain: each segment at its cheapest size."""

    def __init__(self, functions: Functions) -> None:
        self._functions, model = functions, functions.model
        self._speeds, self._pricing = model.platform.speeds, model.platform.pricing
        self._prices, self._sizes = _Prices(model, functions.most_mb), _Sizes(functions)
        self._most_share = float(np.minimum(model.processors(functions.most_mb), 1.0))
        self.rate = self._prices.rate_usd
        self.bounds = (self._roughly,)

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """At all sizes, but those that another one is cheaper than however durations are rounded."""
        functions = self._functions
        least_mb = functions.least_mb(rows.load)
        priced = functions.priced(rows, least_mb)
        usd = np.where(priced.possible, priced.usd, np.inf)
        plain = priced.possible & rows.workflow  # what is in time in a smaller function is in time in a larger one
        others = np.flatnonzero(~plain & np.isfinite(least_mb))
        if len(others):
            priced = functions.priced(rows.take(others), functions.sizes_of(least_mb[others]))
            usd[others] = np.where(priced.possible, priced.usd, np.inf).min(axis=1)
        index = np.flatnonzero(plain & (least_mb < functions.sizes.max(initial=0)))
        if len(index):
            row, size = self._sizes.candidates(rows.take(index), least_mb[index])
            np.minimum.at(usd, index[row], functions.priced(rows.take(index[row]), functions.sizes[size]).usd)
        return np.zeros(len(rows)), usd

    def steady(self, rows: Rows) -> tuple[Numbers, Numbers]:
        """As of functions that have several periods to do."""
        sent_ms, object_ms = _transfer_ms(self._speeds, rows.load)
        cell, step = self._prices.cell(rows.load), self._prices.step(rows.load.compute_ms)
        steady_usd = self._prices.steady_usd(cell, step, rows.load.compute_ms)
        return 0.0, self._whole(rows, cell, object_ms, steady_usd + self._prices.single_usd[cell] * sent_ms)

    def _roughly(self, rows: Rows) -> tuple[Numbers, Numbers]:
        """As of functions that have several periods to do, or just one, whichever is more."""
        sent_ms, object_ms = _transfer_ms(self._speeds, rows.load)
        prices, cell, step = self._prices, self._prices.cell(rows.load), self._prices.step(rows.load.compute_ms)
        several_usd = prices.steady_usd(cell, step, rows.load.compute_ms) + prices.single_usd[cell] * sent_ms
        one_usd = prices.least_usd[cell, step] + prices.any_usd[cell] * sent_ms
        usd = self._whole(rows, cell, object_ms, np.maximum(several_usd, one_usd))
        return 0.0, np.where(rows.workflow, usd + self._functions.workflow_usd(rows), 0.0)

    def _whole(self, rows: Rows, cell: Integers, object_ms: Numbers, busy_usd: Floats) -> Floats:
        """With all but the work of a processor, each at its own best memory."""
        prices, pricing, speeds, load = self._prices, self._pricing, self._speeds, rows.load
        usd = busy_usd + prices.any_usd[cell] * object_ms
        usd += pricing.request_usd + pricing.workflow_transition_usd + prices.waited_usd * speeds.hop_ms
        if self._functions.cold is not None:
            start_ms, single_ms, read_ms = _start_ms(self._functions.model, load, self._most_share)
            billed = pricing.init_billed
            usd += prices.waited_usd * start_ms
            usd += (prices.single_usd[cell] if billed else prices.waited_usd) * single_ms * self._most_share
            usd += (prices.any_usd[cell] if billed else prices.waited_usd) * read_ms
        usd += pricing.object_get_usd * load.objects_in + pricing.object_put_usd * load.objects_out
        return rows.parts * usd * (1 - ROUNDING)


class _Prices:
    """At most what functions of a workflow cost that have at least some memory, by cells of memory.

    A cell is bounded by the values at its edges, each at the one where it is less; then the least of all cells from one
    on is taken, so that nothing falls where a segment needs more memory.

    Attributes:
        waited_usd: A millisecond of the workflow.
        any_usd: A millisecond that no processor makes shorter.
        single_usd: A millisecond on a whole processor, which a second one does not make shorter.
        rate_usd: A millisecond more of operators on a whole processor, for a function that has several periods to do.
        least_usd: Operators and the handler, if all that is saved makes up for a small share of a processor.
    """

    def __init__(self, model: CostModel, most_mb: int) -> None:
        self._model, speeds = model, model.platform.speeds
        self._least_mb = model.platform.limits.memory_sizes()[0]
        self.waited_usd = model.platform.pricing.workflow_gb_s_usd * WORKFLOW_GB / 1000
        self._cell_mb = max(1.0, most_mb / _CELLS)
        edges = np.arange(0.0, most_mb + 2 * self._cell_mb, self._cell_mb)
        low, high = np.maximum(edges[:-1], 1), edges[1:]
        billed_usd, most_usd = (np.asarray(model.second_usd(mb)) / 1000 for mb in (low, high))
        share, speed = np.minimum(model.processors(high), 1), model.speedup(high)
        self.any_usd = billed_usd + self.waited_usd
        # What is billed for work of one processor never falls with the memory: it is least at the lower edge of a cell.
        single = billed_usd / np.minimum(model.processors(low), 1) + self.waited_usd / share
        slope = billed_usd / model.speedup(low) + self.waited_usd / speed
        saved_ms = speeds.cpu_period_ms * (1 - np.minimum(model.processors(low), 1))
        once = single * speeds.handler_ms - (most_usd + self.waited_usd) * saved_ms
        steady = slope[:, None] * _BUSY_MS + once[:, None]
        least = self.any_usd[:, None] * ((share / speed)[:, None] * _BUSY_MS + speeds.handler_ms)
        self.single_usd, self.rate_usd = _from_there_on(single), float(slope.min())
        self._steady_usd = _from_there_on(steady).ravel()
        self.least_usd = _from_there_on(np.maximum(steady, least))

    def cell(self, load: Load) -> Integers:
        """The cell of the least memory of each."""
        memory_mb = np.maximum(np.ceil(np.asarray(self._model.peak_bytes(load)) * (1 / MB)), self._least_mb)
        return np.minimum(memory_mb * (1 / self._cell_mb), len(self.any_usd) - 1).astype(np.int64)

    def step(self, compute_ms: Numbers) -> Integers:
        """Where operators stand in the tables."""
        step = np.where(compute_ms < 1, 0, 1 + np.log(np.maximum(compute_ms, 1)) * _STEPS)
        return np.minimum(step, len(_BUSY_MS) - 2).astype(np.int64)

    def steady_usd(self, cell: Integers, step: Integers, compute_ms: Numbers) -> Floats:
        """Operators and the handler, less what a function saves that has several periods to do.

        For one size that is a line, so the least of all sizes is concave: no less than between two values of a table.
        """
        share = np.minimum((compute_ms - _BUSY_MS[step]) / _WIDTHS[step], 1)
        index = cell * len(_BUSY_MS) + step
        least = self._steady_usd[index]
        usd: Floats = least + share * (self._steady_usd[index + 1] - least)
        return usd


class _Sizes:
    """What functions of a workflow cost at all sizes that any may have, but for what does not depend on the size.

    Without rounding, that is a sum of products: of times of the segment, and of factors of the size.
    """

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        model, sizes = functions.model, functions.sizes
        speeds, pricing = model.platform.speeds, model.platform.pricing
        share, speed = np.minimum(model.processors(sizes), 1), model.speedup(sizes)
        billed_usd = np.asarray(model.second_usd(sizes)) / 1000
        waited_usd = np.full(len(sizes), pricing.workflow_gb_s_usd * WORKFLOW_GB / 1000)
        usd, once_usd = billed_usd + waited_usd, billed_usd * pricing.init_billed + waited_usd
        several = [usd / share, usd / speed, usd, -usd * speeds.cpu_period_ms * (1 - share)]
        one = [usd, usd * share / speed, usd, 0 * usd]
        once = [] if functions.cold is None else [once_usd / share, once_usd]
        init_timeout_s = model.platform.limits.init_timeout_s
        self._limit_ms = np.inf if init_timeout_s is None or functions.cold is None else 1000 * init_timeout_s
        self._share, self._once_usd = share, once_usd
        self._several, self._one = np.array(several + once), np.array(one + once)
        self._rounding = max(pricing.billing_step_ms, pricing.billed_min_ms) * billed_usd * (1 + ROUNDING)
        rising = np.all(np.diff(self._several) >= 0, axis=0) & (share[:-1] == 1)
        self._turn = len(rising) - int(np.argmin(np.append(rising[::-1], False)))

    def candidates(self, rows: Rows, least_mb: Floats) -> tuple[Integers, Integers]:
        """Rows and sizes, among them the cheapest of each row, if it is not its least size."""
        times, found = self._times(rows), []
        order = np.argsort(least_mb)
        for first in range(0, len(order), _ROWS):
            index = order[first : first + _ROWS]
            row, size = self._among(times[index], least_mb[index])
            found.append((index[row], size))
        row, size = (np.concatenate(column) for column in zip(*found, strict=True))
        return row, size

    def _among(self, times: Floats, least_mb: Floats) -> tuple[Integers, Integers]:
        """Likewise, for rows by their least size: those that rounding may make cheaper than the one that is without it.

        All of them may have `high`. From there on, what a larger size costs more is no less than that for the least of
        all times; once that is more than rounding adds, no row needs to be looked at.
        """
        low, high = np.searchsorted(self._functions.sizes, least_mb[[0, -1]], side="right")
        high = max(high, self._turn)  # from there on, all grow
        more = times.min(axis=0) @ (self._several[:, high:] - self._several[:, high : high + 1])
        sizes = slice(low, high + int(np.searchsorted(more, self._rounding[high], side="right")))
        usd = np.maximum(times @ self._several[:, sizes], times @ self._one[:, sizes])
        rounding = np.broadcast_to(self._rounding[sizes], usd.shape)
        if self._limit_ms < np.inf:
            init_ms, lost_usd = (
                times[:, 4:5] / self._share[sizes] + times[:, 5:],
                self._limit_ms * self._once_usd[sizes],
            )
            usd += np.where(init_ms > self._limit_ms * (1 + ROUNDING), lost_usd, 0)
            rounding = rounding + np.where(abs(init_ms - self._limit_ms) <= self._limit_ms * ROUNDING, lost_usd, 0)
        usd[self._functions.sizes[sizes] <= least_mb[:, None]] = np.inf
        each, best = np.arange(len(usd)), usd.argmin(axis=1)
        most = usd[each, best] * (1 + ROUNDING) + rounding[each, best]
        row, size = np.nonzero(usd <= most[:, None])
        return row, low + size

    def _times(self, rows: Rows) -> Floats:
        functions, load = self._functions, rows.load
        speeds = functions.model.platform.speeds
        sent_ms, object_ms = _transfer_ms(speeds, load)
        times = [speeds.handler_ms + sent_ms, load.compute_ms, object_ms, np.ones(len(rows))]
        if functions.cold is not None:
            costs = functions.model.costs(load, speeds.mb_per_vcpu, workflow=True)
            times += (costs.runtime_ms + costs.session_ms) * min(1.0, speeds.vcpus_max), costs.weights_ms
        return np.stack(times, axis=1)


def _from_there_on(values: Floats) -> Floats:
    """The least in each row and those behind it."""
    return np.minimum.accumulate(values[::-1])[::-1]


class Memory:
    """The largest function of a chain: each segment at its smallest size."""

    rate = 0.0

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.bounds = (self.steady, lambda rows: (functions.least_mb(rows.load), 0.0))

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """The smallest size in which a request ends in time."""
        sizes = self._functions.sizes_of(self._functions.least_mb(rows.load))
        return np.where(self._functions.priced(rows, sizes).possible, sizes, np.inf).min(axis=1), np.zeros(len(rows))

    def steady(self, rows: Rows) -> tuple[Numbers, Numbers]:
        """The memory that weights and activations take."""
        return _held_mb(self._functions.model.platform.speeds, rows.load), 0.0


def _held_mb(speeds: Speeds, load: Load) -> Numbers:
    """Memory without tensors on their way."""
    held = speeds.weights_factor * load.held_bytes + speeds.activations_factor * load.activations_bytes
    return speeds.floor_mb + held / MB


def _start_ms(model: CostModel, load: Load, share: float) -> tuple[Numbers, Numbers, Numbers]:
    """A cold start at a share of a processor, at least: before the initialisation; work of a processor; all else.

    None of them falls where a load grows: weights are read from where it is faster, if that is not the package.
    """
    speeds, limit_s = model.platform.speeds, model.platform.limits.init_timeout_s
    start_ms = speeds.package_init_ms + 1000 * (model.closure_bytes / MB) / speeds.package_mb_s
    weights_mb = load.weights_bytes * (1 / MB)
    session_ms = speeds.session_ms_per_node * load.nodes + speeds.session_ms_per_mb * weights_mb
    single_ms = (speeds.runtime_init_ms + session_ms) * (1 / share)
    read_ms = weights_mb * (1000 / max(speeds.weights_mb_s, speeds.object_mb_s))
    if speeds.object_mb_s <= speeds.weights_mb_s:
        fetched_ms = weights_mb * (1000 / speeds.object_mb_s) + speeds.object_request_ms
        read_ms = np.where(model.in_package(load), read_ms, fetched_ms)
    if limit_s is not None:
        read_ms = read_ms + np.where(single_ms + read_ms > 1000 * limit_s * (1 + ROUNDING), 1000 * limit_s, 0)
    return start_ms, single_ms * (1 - ROUNDING), read_ms * (1 - ROUNDING)


def _transfer_ms(speeds: Speeds, load: Load) -> tuple[Numbers, Numbers]:
    """Tensors that travel inline, on a whole processor, and those that travel as objects."""
    requests = np.asarray(load.objects_in > 0, np.float64) + (load.objects_out > 0)
    sent: Numbers = load.inline_bytes * (1000 / MB / speeds.inline_mb_s)
    objects: Numbers = (load.object_in_bytes + load.object_out_bytes) * (1000 / MB / speeds.object_mb_s)
    return sent, objects + speeds.object_request_ms * requests


CRITERIA: Mapping[Objective, Callable[[Functions], Criterion]] = {
    "latency": Latency,
    "cost": Cost,
    "memory": Memory,
}
