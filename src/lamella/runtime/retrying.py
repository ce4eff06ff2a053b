"""Invoking a slice again where that may help. Slices keep no state, so running one twice changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import uniform
from threading import Event
from time import perf_counter

from lamella.runtime.answered import Answered

Attempt = Callable[[int], Answered]
"""Makes one invocation; gets the attempt's number, from 1 on."""


@dataclass(frozen=True)
class Retries:
    """How often a slice is tried.

    Attributes:
        attempts: Invocations at most that may end because the instance was killed or the time was up.
        throttled_s: Seconds for which a slice is tried again while the platform has no instance to spare.
        total_s: Seconds after which nothing of a request is tried again: AWS Lambda's longest time for a function.
        first_pause_s: Seconds before the second attempt, at most; the next pauses are up to twice as long each.
        longest_pause_s: The longest pause in seconds.
    """

    attempts: int = 3
    throttled_s: float = 60.0
    total_s: float = 900.0
    first_pause_s: float = 0.05
    longest_pause_s: float = 2.0

    def pause_s(self, attempt: int) -> float:
        """Seconds to wait after this attempt: random, so that many requests do not come back at the same moment."""
        longest = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(attempt - 1, 16))
        return uniform(longest / 2, longest)


def with_retries(attempt: Attempt, retries: Retries, stop: Event, *, began: float) -> tuple[Answered, int]:
    """Invoke until there is an answer, an error that is final, or `stop` is set.

    Args:
        attempt: Invokes once.
        retries: How often.
        stop: Set when nobody waits for the answer any more.
        began: When the request did, on the clock of `perf_counter`.

    Returns:
        The last answer, and how many attempts there were.
    """
    number, failures = 0, 0
    throttled_since: float | None = None
    while True:
        number += 1
        answered = attempt(number)
        now = perf_counter()
        if answered.error_type is None or not answered.retriable or now - began >= retries.total_s:
            return answered, number
        if answered.throttled:
            throttled_since = now if throttled_since is None else throttled_since
            if now - throttled_since >= retries.throttled_s:
                return answered, number
        else:
            failures, throttled_since = failures + 1, None
            if failures >= retries.attempts:
                return answered, number
        if stop.wait(retries.pause_s(number)):
            return answered, number
