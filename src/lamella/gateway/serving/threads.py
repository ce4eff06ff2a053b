"""Threads that compute batches: less between a batch and its thread than an executor has."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """So many threads, which take what is submitted in order.

    Args:
        number: How many.
    """

    def __init__(self, number: int) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._work, name=f"lamella-batch-{index}", daemon=True) for index in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, compute: Callable[[], T], then: Callable[[T], object]) -> None:
        """Compute something in a thread, and hand it on there. What is computed raises nothing."""

        def work() -> None:
            then(compute())

        self._queue.put(work)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # else inputs and outputs of the last batch stay until the next one comes

    def close(self) -> None:
        """Wait for what was submitted, and end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
