"""When a slice is tried again, and when no more."""

from collections.abc import Iterator
from threading import Event
from time import perf_counter

from lamella.runtime.answered import Answered
from lamella.runtime.retrying import Retries, with_retries

KILLED = Answered(b"", "Runtime.ExitError", retriable=True)
THROTTLED = Answered(b"", "TooManyRequestsException", retriable=True, throttled=True)
ANSWER = Answered(b"{}")


def attempts(*answers: Answered, retries: Retries, began: float | None = None) -> tuple[Answered, int]:
    left: Iterator[Answered] = iter(answers)
    return with_retries(lambda _: next(left), retries, Event(), began=perf_counter() if began is None else began)


def test_throttling_has_its_time_from_when_it_began() -> None:
    """Not from when the slice was sent first: that attempt may have taken longer."""
    slow = Retries(throttled_s=0.1, first_pause_s=0.4)
    assert attempts(KILLED, THROTTLED, ANSWER, retries=slow) == (ANSWER, 3)
    assert attempts(THROTTLED, THROTTLED, ANSWER, retries=slow) == (THROTTLED, 2)


def test_nothing_is_tried_again_when_the_request_is_too_old() -> None:
    retries = Retries()
    long_ago = perf_counter() - retries.total_s
    assert attempts(KILLED, ANSWER, retries=retries, began=long_ago) == (KILLED, 1)
    assert attempts(THROTTLED, ANSWER, retries=retries, began=long_ago) == (THROTTLED, 1)
    assert attempts(ANSWER, retries=retries, began=long_ago) == (ANSWER, 1)
