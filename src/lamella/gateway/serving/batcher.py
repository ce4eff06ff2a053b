"""Dynamic batching: requests that wait at the same time are computed together, where that pays.

A request that finds the engine free goes at once. Those that come while it is busy wait, and go together as soon as it
is free: batches grow with the load by themselves. A short wait for more is added only while others are likely to come:
those whose answers have just gone out.

Everything here happens in the event loop, but for the computing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from time import perf_counter

from lamella.errors import LamellaError
from lamella.gateway.dataplane import BusyError, DeadlineError
from lamella.gateway.serving.joining import Feeds, Key, Layout, joins, rows_of
from lamella.gateway.serving.latency import Curves
from lamella.gateway.serving.settings import LARGEST_BATCH, MOST_WAITING_BYTES, Settings
from lamella.gateway.serving.statistics import Counts
from lamella.gateway.serving.threads import Threads
from lamella.tensors import Array

Infer = Callable[[Mapping[str, Array]], dict[str, Array]]

USUAL_PRIORITY = 5
"""What a request has that names none; 1 goes first."""

_LEVEL_S = 1.0
"""A request of the next lower priority goes first once it has waited so much longer: none waits for ever."""

_INLINE_MS = 0.2
"""Batches that take no longer are computed in the event loop: to hand them to a thread takes as long."""

_DELAY_SHARE, _LONGEST_DELAY_S = 0.25, 0.005
"""Where nobody says how long to wait for others: a part of what the batch takes, and never more than this."""

_MEMORY = 4
"""Batches for which it is remembered how many requests there were at the same time."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request in the queue."""

    feeds: Feeds
    rows: int
    size_bytes: int
    key: Key
    since_s: float
    answer: asyncio.Future[dict[str, Array]]


@dataclass(slots=True)
class _Bucket:
    """Requests that may join each other, by who goes first."""

    items: list[tuple[float, int, _Waiting]] = field(default_factory=list)
    rows: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a batch: for each request its outputs or what failed, and seconds by step."""

    results: Sequence[dict[str, Array] | Exception]
    steps_s: tuple[float, float, float]


class Batcher:
    """Answers requests to one model, several at a time. Every method is called in the event loop.

    Args:
        infer: Computes a batch; thread-safe.
        layout: How requests are put together.
        settings: How much, and how long they wait.
        curves: What is known of how long batches take.
    """

    def __init__(self, infer: Infer, *, layout: Layout, settings: Settings, curves: Curves | None = None) -> None:
        self._infer, self._layout, self._settings = infer, layout, settings
        largest = settings.max_batch_size or LARGEST_BATCH
        self._curves = curves or Curves(largest, adaptive=settings.max_batch_size is None)
        self._threads = Threads(settings.instances)
        self._loop = asyncio.get_running_loop()
        self._buckets: dict[Key, _Bucket] = {}
        self._order = count()
        self._waiting, self._waiting_bytes, self._running, self._computing = 0, 0, 0, 0
        self._seen = [0] * _MEMORY  # requests at the same time, at the ends of the latest batches
        self._last_end_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_pumping = False
        self._empty = asyncio.Event()
        self._empty.set()
        self.counts = Counts()

    async def infer(self, feeds: Feeds, *, priority: int = 0, timeout_s: float | None = None) -> dict[str, Array]:
        """Answer a request; whoever no longer waits for it takes it out of the queue by cancelling this.

        Args:
            feeds: Its inputs, of the model's datatypes and shapes.
            priority: 1 goes first, and so on; 0 stands for `USUAL_PRIORITY`.
            timeout_s: Seconds that it may take, in the queue and in the engine.

        Raises:
            BusyError: The queue is full.
            DeadlineError: It took longer.
            LamellaError: The engine fails.
        """
        started_s = perf_counter()
        self.counts.asked()
        waiting = self._taken(feeds, started_s)
        heappush(
            self._bucket(waiting).items,
            (started_s + (priority or USUAL_PRIORITY) * _LEVEL_S, next(self._order), waiting),
        )
        self._pump_soon()
        try:
            found = await (waiting.answer if timeout_s is None else asyncio.wait_for(waiting.answer, timeout_s))
        except TimeoutError as error:
            self.counts.fail.add(perf_counter() - started_s)
            raise DeadlineError(
                f"the request was not answered in its {timeout_s:g} s",
                hint="give it more time, or ask when it is quieter",
            ) from error
        except asyncio.CancelledError:
            self.counts.cancelled += 1
            raise
        except Exception:
            self.counts.fail.add(perf_counter() - started_s)
            raise
        finally:
            if not waiting.answer.done() or waiting.answer.cancelled():
                waiting.answer.cancel()
                self._left(waiting)
        self.counts.answered(perf_counter() - started_s)
        return found

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting

    @property
    def running(self) -> int:
        """Requests that are being computed."""
        return self._running

    async def close(self) -> None:
        """Answer what has been taken, then end the threads."""
        await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.to_thread(self._threads.close)

    def _taken(self, feeds: Feeds, now_s: float) -> _Waiting:
        """A place in the queue."""
        size_bytes = sum(array.nbytes for array in feeds.values())
        full = self._waiting >= self._settings.max_queue_size
        if full or (self._waiting and self._waiting_bytes + size_bytes > MOST_WAITING_BYTES):
            self.counts.refused += 1
            raise BusyError(
                f"{self._waiting} requests wait already",
                hint="ask again later, or serve with more instances or a larger `--max-queue-size`",
                retry_after_s=self._drain_s(),
            )
        key = self._layout.key(feeds)
        rows = rows_of(feeds) if joins(key) else 1
        waiting = _Waiting(feeds, rows, size_bytes, key, now_s, self._loop.create_future())
        self._waiting += 1
        self._waiting_bytes += size_bytes
        self._empty.clear()
        return waiting

    def _bucket(self, waiting: _Waiting) -> _Bucket:
        bucket = self._buckets.get(waiting.key)
        if bucket is None:
            bucket = self._buckets[waiting.key] = _Bucket()
        bucket.rows += waiting.rows
        return bucket

    def _drain_s(self) -> float:
        """Seconds until those that wait now are answered, about."""
        done = self.counts.compute_infer
        if not done.count:
            return 1.0
        return max(1.0, self._waiting * (done.s / done.count) / self._settings.instances)

    def _left(self, waiting: _Waiting) -> None:
        """Whoever asked has gone: its place is free, where it was still in the queue."""
        bucket = self._buckets.get(waiting.key)
        place = None if bucket is None else next((i for i, it in enumerate(bucket.items) if it[2] is waiting), None)
        if bucket is None or place is None:
            return
        bucket.items[place] = bucket.items[-1]
        bucket.items.pop()
        heapify(bucket.items)
        self._removed(bucket, waiting)
        self._settle()

    def _removed(self, bucket: _Bucket, waiting: _Waiting) -> None:
        bucket.rows -= waiting.rows
        self._waiting -= 1
        self._waiting_bytes -= waiting.size_bytes
        if not bucket.items:
            del self._buckets[waiting.key]

    def _settle(self) -> None:
        if not self._waiting and not self._running:
            self._empty.set()

    def _pump_soon(self) -> None:
        """Once every request that has arrived by now is in the queue."""
        if not self._is_pumping:
            self._is_pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Start as many batches as there are free instances for."""
        self._is_pumping = False
        while self._buckets and self._computing < self._settings.instances:
            for key in sorted(self._buckets, key=lambda key: self._buckets[key].items[0][:2]):
                if self._wait_s(key) <= 0:
                    self._start(key, self._next_batch(key))
                    break
            else:
                self._look_again(min(self._wait_s(key) for key in self._buckets))
                return

    def _look_again(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_s, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._pump()

    def _wait_s(self, key: Key) -> float:
        """Seconds that the batch of a bucket should still wait for others to join it."""
        bucket = self._buckets[key]
        if not joins(key):
            return 0.0
        best = self._curves.best(key)
        expected = min(best, -(-max(self._seen) // self._settings.instances))
        if bucket.rows >= expected:
            return 0.0
        delay_s = self._delay_s(key, expected)
        now_s = perf_counter()
        if now_s - self._last_end_s > delay_s:
            return 0.0  # nobody has been answered lately who might ask again
        oldest_s = bucket.items[0][2].since_s
        return max(0.0, oldest_s + delay_s - now_s)

    def _delay_s(self, key: Key, rows: int) -> float:
        if self._settings.max_queue_delay_ms is not None:
            return self._settings.max_queue_delay_ms / 1000
        return min(_DELAY_SHARE * (self._curves.ms(key, rows) or 0.0) / 1000, _LONGEST_DELAY_S)

    def _next_batch(self, key: Key) -> list[_Waiting]:
        """Take those that go first, as many as pay."""
        bucket, most = self._buckets[key], self._curves.best(key) if joins(key) else 1
        batch: list[_Waiting] = []
        rows = 0
        while bucket.items and (not batch or rows + bucket.items[0][2].rows <= most):
            _, _, waiting = heappop(bucket.items)
            rows += waiting.rows
            batch.append(waiting)
            self._removed(bucket, waiting)
        return batch

    def _start(self, key: Key, batch: list[_Waiting]) -> None:
        started_s = perf_counter()
        for waiting in batch:
            self.counts.queue.add(started_s - waiting.since_s)
        self._computing += 1
        self._running += len(batch)
        least_ms = self._curves.least_ms(key, sum(waiting.rows for waiting in batch))
        if least_ms is not None and least_ms < _INLINE_MS:
            self._ended(key, batch, self._compute(batch))
        else:
            self._threads.submit(
                lambda: self._compute(batch),
                lambda outcome: self._loop.call_soon_threadsafe(self._ended_in_thread, key, batch, outcome),
            )

    def _compute(self, batch: Sequence[_Waiting]) -> _Outcome:
        """Compute a batch, in a thread; where that fails, each request alone, so that only its own fault fails it."""
        started_s = perf_counter()
        parts = [waiting.feeds for waiting in batch]
        try:
            feeds = self._layout.join(parts)
            joined_s = perf_counter()
            outputs = self._infer(feeds)
            inferred_s = perf_counter()
            results: Sequence[dict[str, Array] | Exception] = self._layout.split(outputs, parts)
        except Exception as error:  # noqa: BLE001  # it goes to whoever asked
            if len(batch) > 1 and isinstance(error, LamellaError):
                return _Outcome([self._alone(waiting) for waiting in batch], (0.0, perf_counter() - started_s, 0.0))
            return _Outcome([error] * len(batch), (0.0, perf_counter() - started_s, 0.0))
        ended_s = perf_counter()
        return _Outcome(results, (joined_s - started_s, inferred_s - joined_s, ended_s - inferred_s))

    def _alone(self, waiting: _Waiting) -> dict[str, Array] | Exception:
        try:
            return self._infer(waiting.feeds)
        except Exception as error:  # noqa: BLE001  # it goes to whoever asked
            return error

    def _ended_in_thread(self, key: Key, batch: list[_Waiting], outcome: _Outcome) -> None:
        self._ended(key, batch, outcome)
        self._pump()

    def _ended(self, key: Key, batch: list[_Waiting], outcome: _Outcome) -> None:
        """Hand the answers out."""
        self._seen = [*self._seen[1:], self._waiting + self._running]
        self._computing -= 1
        self._running -= len(batch)
        rows = sum(waiting.rows for waiting in batch)
        if not any(isinstance(result, Exception) for result in outcome.results):
            self._curves.add(key, rows, sum(outcome.steps_s) * 1000)
        self.counts.executed(rows, len(batch), outcome.steps_s)
        for waiting, result in zip(batch, outcome.results, strict=True):
            if waiting.answer.done():
                continue  # whoever asked has gone
            if isinstance(result, Exception):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(result)
        self._last_end_s = perf_counter()
        self._settle()
