"""Workflows without a state machine: the first slice's function invokes the next one, or is the only one."""

from __future__ import annotations

from threading import Event as Signal
from time import monotonic, perf_counter

from lamella.runtime.answered import Answered
from lamella.runtime.calling import Caller
from lamella.runtime.failures import failure
from lamella.runtime.models import Model
from lamella.runtime.payload import AnswerPlace, Chain, Event, Part, encode_event
from lamella.runtime.retrying import Retries, with_retries

_RETRIES = Retries(throttled_s=10.0)


class Invocations:
    """Runs such workflows.

    Args:
        model: Whose slices they are.
        function: The first one's function.
        caller: Invokes it.
    """

    def __init__(self, model: Model, function: str, caller: Caller) -> None:
        self._model, self._function, self._caller = model, function, caller

    def run(self, request_id: str, part: Part, place: AnswerPlace, *, timeout_s: float) -> bytes:
        """Run every slice once; returns the workflow's output.

        Raises:
            InputError: A slice refuses what it gets.
            RemoteError: A slice failed for good.
        """
        event = Event(request_id, answer=place, parts=(part,), chain=Chain(self._model.later()))
        payload, until = encode_event(event), monotonic() + timeout_s

        def attempt(_number: int) -> Answered:
            return self._caller.invoke(self._function, payload, timeout_s=max(0.001, until - monotonic()))

        answered, attempts = with_retries(attempt, _RETRIES, Signal(), began=perf_counter())
        if answered.error_type is not None:
            raise failure(self._model.slices[0].slice, self._function, answered, attempts)
        return answered.payload
