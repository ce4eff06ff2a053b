"""Batching never changes an answer, whatever comes together, in which order, and whoever leaves or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import InputError
from lamella.gateway.dataplane import BusyError, DeadlineError
from lamella.gateway.serving.batcher import Batcher
from lamella.gateway.serving.joining import Layout
from lamella.gateway.serving.settings import Settings
from lamella.tensors import Array

BAD = -1.0
LAYOUTS = st.sampled_from([Layout(), Layout(joins=False), Layout(padded=frozenset({"x"}), cropped=frozenset({"each"}))])
SETTINGS = st.builds(
    Settings,
    max_batch_size=st.sampled_from([None, 1, 3, 16]),
    max_queue_delay_ms=st.sampled_from([None, 0.0, 2.0]),
    instances=st.integers(1, 3),
)


def model(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Knows rows only one by one, and nothing of zeros behind their end; a batch with a bad row fails as a whole."""
    x = feeds["x"]
    if (x == BAD).any():
        raise InputError("a row is bad", hint="leave it out")
    return {"each": x * 2, "sum": x.sum(axis=1, keepdims=True)}


@dataclass(frozen=True)
class Asked:
    """A request of a test: its rows and columns, whether it is bad, when it comes, and when it leaves."""

    rows: int
    columns: int
    bad: bool
    after: int
    leaves: bool
    priority: int


REQUESTS = st.lists(
    st.builds(
        Asked,
        rows=st.integers(1, 4),
        columns=st.integers(1, 12),
        bad=st.sampled_from([False] * 7 + [True]),
        after=st.integers(0, 3),
        leaves=st.sampled_from([False] * 5 + [True]),
        priority=st.integers(0, 9),
    ),
    min_size=1,
    max_size=30,
)


async def ask(batcher: Batcher, asked: Asked, number: int) -> None:
    for _ in range(asked.after):
        await asyncio.sleep(0)
    x = np.random.default_rng(number).integers(1, 100, (asked.rows, asked.columns)).astype(np.float32)
    if asked.bad:
        x[0, 0] = BAD
    task = asyncio.ensure_future(batcher.infer({"x": x}, priority=asked.priority))
    if asked.leaves:
        await asyncio.sleep(0)
        task.cancel()
    try:
        found = await task
    except asyncio.CancelledError:
        assert asked.leaves
        return
    except InputError:
        assert asked.bad
        return
    assert not asked.bad
    expected = model({"x": x})
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert (found[name] == array).all()


@given(layout=LAYOUTS, settings=SETTINGS, requests=REQUESTS)
def test_every_request_gets_the_answer_that_it_would_get_alone(
    layout: Layout, settings: Settings, requests: list[Asked]
) -> None:
    async def run() -> None:
        batcher = Batcher(model, layout=layout, settings=settings)
        async with asyncio.timeout(30):
            await asyncio.gather(*(ask(batcher, asked, number) for number, asked in enumerate(requests)))
            await batcher.close()
        assert (batcher.waiting, batcher.running) == (0, 0)
        most = settings.max_batch_size or 64
        assert all(rows <= max(most, 4) for rows in batcher.counts.batches)

    asyncio.run(run())


class Slow:
    """A model that computes only when it is told to."""

    def __init__(self) -> None:
        from threading import Event

        self.go, self.batches = Event(), list[int]()

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert self.go.wait(30)
        self.batches.append(len(feeds["x"]))
        return {"y": feeds["x"]}


def row(value: float = 1.0) -> dict[str, Array]:
    return {"x": np.full((1, 2), value, np.float32)}


def test_requests_that_wait_go_together_and_the_one_that_found_it_idle_went_alone() -> None:
    async def run() -> list[int]:
        slow = Slow()
        batcher = Batcher(slow, layout=Layout(), settings=Settings(max_batch_size=8))
        first = asyncio.ensure_future(batcher.infer(row()))
        while not batcher.running:
            await asyncio.sleep(0)
        rest = [asyncio.ensure_future(batcher.infer(row())) for _ in range(8)]
        await asyncio.sleep(0)
        slow.go.set()
        await asyncio.gather(first, *rest)
        await batcher.close()
        return slow.batches

    assert asyncio.run(run()) == [1, 8]


def test_the_queue_is_bounded_and_says_when_to_come_again() -> None:
    async def run() -> None:
        slow = Slow()
        batcher = Batcher(slow, layout=Layout(), settings=Settings(max_queue_size=2))
        taken = [asyncio.ensure_future(batcher.infer(row()))]
        while not batcher.running:
            await asyncio.sleep(0)
        taken += [asyncio.ensure_future(batcher.infer(row())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as refused:
            await batcher.infer(row())
        assert refused.value.retry_after_s >= 1
        slow.go.set()
        await asyncio.gather(*taken)
        assert batcher.counts.refused == 1
        await batcher.close()

    asyncio.run(run())


def test_a_request_whose_time_is_over_leaves_the_queue() -> None:
    async def run() -> None:
        slow = Slow()
        batcher = Batcher(slow, layout=Layout(), settings=Settings())
        first = asyncio.ensure_future(batcher.infer(row()))
        while not batcher.running:
            await asyncio.sleep(0)
        with pytest.raises(DeadlineError, match="not answered in its"):
            await batcher.infer(row(), timeout_s=0.01)
        assert batcher.waiting == 0
        slow.go.set()
        await first
        await batcher.close()
        assert slow.batches == [1]

    asyncio.run(run())


def test_who_goes_first_is_a_matter_of_priority_and_nobody_waits_for_ever() -> None:
    async def run() -> list[float]:
        order: list[float] = []
        slow = Slow()

        def model(feeds: Mapping[str, Array]) -> dict[str, Array]:
            order.append(float(feeds["x"][0, 0]))
            return slow(feeds)

        batcher = Batcher(model, layout=Layout(joins=False), settings=Settings())
        asked = [asyncio.ensure_future(batcher.infer(row(0)))]
        while not batcher.running:
            await asyncio.sleep(0)
        for value, priority in ((1, 0), (2, 9), (3, 1), (4, 5)):
            asked.append(asyncio.ensure_future(batcher.infer(row(value), priority=priority)))
            await asyncio.sleep(0)
        slow.go.set()
        await asyncio.gather(*asked)
        await batcher.close()
        return order

    assert asyncio.run(run()) == [0, 3, 1, 4, 2]
