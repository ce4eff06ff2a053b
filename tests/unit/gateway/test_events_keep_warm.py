"""Pings, when nothing else keeps functions warm."""

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from threading import Lock
from typing import Any

import pytest
from tests.receiver import Receiver

from lamella.errors import RemoteError
from lamella.gateway.events import KeepWarm, Warming
from lamella.gateway.events.keep_warm import ping


class Pinged:
    """When each function was pinged."""

    def __init__(self) -> None:
        self.at: list[tuple[str, float]] = []
        self._lock = Lock()

    def __call__(self, function: str) -> None:
        with self._lock:
            self.at.append((function, time.monotonic()))


def warming(interval_s: float) -> Warming:
    made = Warming("a@dev", 1.0)
    object.__setattr__(made, "interval_s", interval_s)  # shorter than it may be, to be quick
    return made


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_every_function_is_pinged_at_once_and_then_at_the_interval() -> None:
    pinged = Pinged()
    begun = time.monotonic()
    with KeepWarm(warming(0.2), lambda: ["f", "g"], pinged) as keeping:
        eventually(lambda: keeping.pings == 2)
        first_s = pinged.at[0][1] - begun
        eventually(lambda: keeping.pings >= 6)
        assert keeping.last_error is None
    times = [at for name, at in pinged.at if name == "f"]
    assert first_s < times[1] - begun - 0.15
    assert all(later - earlier > 0.15 for earlier, later in pairwise(times))
    assert Counter(name for name, _ in pinged.at).keys() == {"f", "g"}
    count = len(pinged.at)
    time.sleep(0.5)
    assert len(pinged.at) == count == keeping.pings


def test_a_request_takes_the_place_of_a_ping() -> None:
    pinged = Pinged()
    with KeepWarm(warming(1.0), lambda: ["f"], pinged) as keeping:
        eventually(lambda: len(pinged.at) == 1)
        for _ in range(25):
            keeping.used()
            time.sleep(0.08)
        assert len(pinged.at) == 1
        eventually(lambda: len(pinged.at) == 2)


@pytest.mark.parametrize("error", [RemoteError("it broke"), ZeroDivisionError()])
def test_a_failure_is_said_and_the_next_ping_comes(error: Exception) -> None:
    failing: list[Any] = [error]

    def ping(_: str) -> None:
        if failing:
            raise failing[0]

    with KeepWarm(warming(0.1), lambda: ["f"], ping) as keeping:
        eventually(lambda: keeping.last_error)
        failing.clear()
        eventually(lambda: keeping.last_error is None and keeping.pings > 0)


def test_what_does_not_answer_as_a_function_of_ours_is_a_failure() -> None:
    with Receiver() as receiver, pytest.raises(RemoteError, match="answers a ping"):
        ping(receiver.url, "f", qualifier="live")
    assert receiver.calls[0][0] == "/2015-03-31/functions/f/invocations?Qualifier=live"
    assert receiver.calls[0][2] == {"lamella": "ping"}
    with pytest.raises(RemoteError, match="cannot be pinged"):
        ping(receiver.url, "f")
