"""How many requests run at the same time, and how many instances start: what AWS Lambda throttles by."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from lamella.errors import UsageError
from lamella.targets.local.invocation import throttled

WINDOW_S = 10.0
"""Instances that start are counted over this long. https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html"""


class Admission:
    """Counts. What a function has reserved is its own, and all that it gets; the others share what is left.

    Args:
        concurrency: Requests at the same time, all functions together.
        burst: Instances of one function that may start in ten seconds; None: any number.
        clock: Seconds that never go back.
    """

    def __init__(self, *, concurrency: int, burst: int | None, clock: Callable[[], float]) -> None:
        self._concurrency, self._burst, self._clock = concurrency, burst, clock
        self._reserved: dict[str, int] = {}
        self._running: Counter[str] = Counter()
        self._starts: dict[str, deque[float]] = {}

    def reserve(self, function: str, concurrency: int | None) -> None:
        """Reserve concurrency for a function, or, with None, let it share with the others.

        Raises:
            UsageError: There is not so much; nothing is changed.
        """
        if concurrency is None:
            self._reserved.pop(function, None)
            return
        left = self._concurrency - sum(count for name, count in self._reserved.items() if name != function)
        if concurrency > left:
            raise UsageError(
                f"`{function}` cannot reserve {concurrency} of {self._concurrency} requests at the same time",
                hint=f"others have reserved theirs: {left} are left",
            )
        self._reserved[function] = concurrency

    def forget(self, function: str) -> None:
        """The function is deleted."""
        self._reserved.pop(function, None)
        self._starts.pop(function, None)

    def enter(self, function: str) -> None:
        """A request begins.

        Raises:
            RefusedError: There is no room for it.
        """
        if function in self._reserved:
            if self._running[function] >= self._reserved[function]:
                raise throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
        else:
            shared = self._concurrency - sum(self._reserved.values())
            running = sum(count for name, count in self._running.items() if name not in self._reserved)
            if running >= shared:
                raise throttled("ConcurrentInvocationLimitExceeded")
        self._running[function] += 1

    def leave(self, function: str) -> None:
        """A request has ended."""
        self._running[function] -= 1
        if not self._running[function]:
            del self._running[function]

    def start(self, function: str) -> None:
        """An instance is about to start.

        Raises:
            RefusedError: Too many have in the last seconds.
        """
        if self._burst is None:
            return
        now = self._clock()
        starts = self._starts.setdefault(function, deque())
        while starts and starts[0] <= now - WINDOW_S:
            starts.popleft()
        if len(starts) >= self._burst:
            raise throttled("ConcurrentInvocationLimitExceeded")
        starts.append(now)
