"""One request through the slices of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from threading import Event as Signal
from threading import Lock
from time import perf_counter
from typing import Any

from lamella.errors import InputError, RemoteError, StoreError
from lamella.runtime.failures import failure
from lamella.runtime.payload import AnswerPlace, Event, SliceAnswer, decode_answer, encode_event
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.retrying import Retries, with_retries
from lamella.runtime.timing import Timing
from lamella.stores.base import Store
from lamella.tensors import Array
from lamella.workflow.invoking import Answered, Invoker
from lamella.workflow.steps import Step
from lamella.workflow.values import Values


@dataclass(frozen=True)
class SliceRun:
    """What one slice did for a request. Times are in milliseconds.

    Attributes:
        slice: The slice's index.
        function: Its function.
        cold_start: Whether this was the first request of a new instance.
        init_ms: Starting the instance; None where it was there.
        load_ms: The part of that which read the weights and made the session; None where it was there.
        infer_ms: The inference itself.
        transfer_ms: Everything else between sending the request and having its answer.
        billed_ms: What the platform charges; None where it does not say.
        max_memory_mb: Most memory that the instance has used so far; None where the platform does not say.
        begin_ms: When it was sent, since the request began; None where something else than the caller sent it.
        end_ms: When its answer was there; None in the same case.
        attempts: How often it was tried.
    """

    slice: int
    function: str
    cold_start: bool
    init_ms: float | None
    load_ms: float | None
    infer_ms: float
    transfer_ms: float
    billed_ms: float | None
    max_memory_mb: float | None
    begin_ms: float | None
    end_ms: float | None
    attempts: int = 1


@dataclass(frozen=True)
class Answer:
    """What a request gave.

    Attributes:
        request_id: The request's name in logs.
        outputs: An array for each output, by name.
        timeline: What each slice did, in the order in which they ended.
        latency_ms: Milliseconds for all of it.
    """

    request_id: str
    outputs: dict[str, Array]
    timeline: tuple[SliceRun, ...]
    latency_ms: float


@dataclass(frozen=True)
class Setting:
    """What all requests of a chain have in common."""

    invoker: Invoker
    store: Store | None
    inline_bytes: int
    retries: Retries
    referenced: ReferencedTensors


class Request:
    """One request: its values, and which slices have run.

    Args:
        setting: What it shares with others.
        steps: The slices to run.
        given: The caller's arrays.
        request_id: Its name.
        prefix: Of its objects in the store.
        starting: Instances that are being started for it, by function.
    """

    def __init__(
        self,
        setting: Setting,
        steps: Sequence[Step],
        given: Mapping[str, Array],
        request_id: str,
        prefix: str,
        starting: Mapping[str, Future[Any]],
    ) -> None:
        self._setting, self._given, self._id, self._prefix = setting, given, request_id, prefix
        self._values = Values(given, setting.referenced, self._place(""))
        self._waiting, self._starting = list(steps), starting
        self._timeline: list[SliceRun] = []
        self._began = perf_counter()
        self._stop, self._under_way, self._lock = Signal(), 0, Lock()
        self._ended, self._dirty = False, False

    def run(self, threads: Executor, wanted: Sequence[str]) -> Answer:
        """Run every slice once; a slice alone in this thread, several side by side in others."""
        running: set[Future[None]] = set()
        between = self._between(wanted)
        while self._waiting or running:
            ready = [step for step in self._waiting if all(name in self._values for name in step.needs)]
            self._waiting = [step for step in self._waiting if step not in ready]
            if not ready and not running:
                raise _never_ready(self._waiting[0])
            if len(ready) == 1 and not running:
                self._begin()
                self._run_step(ready[0])
            else:
                for step in ready:
                    running.add(threads.submit(self._run_step, step))
                    self._begin()  # not before: where Python is ending, none can be submitted
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
            pending = {name for step in self._waiting for name in (*step.needs, *step.may_take)}
            if not running:
                self._values.drop(name for name in between if name not in pending)
        outputs = {name: self._output(name) for name in wanted}
        return Answer(self._id, outputs, tuple(self._timeline), self._elapsed_ms())

    def _between(self, wanted: Sequence[str]) -> set[str]:
        """Values that only slices need."""
        names = {name for step in self._waiting for name in (*step.needs, *step.makes)}
        return names.difference(wanted, self._given)

    def _output(self, name: str) -> Array:
        array = self._values.array(name)
        return array.copy() if name in self._given else array

    def _run_step(self, step: Step) -> None:
        try:
            if not self._stop.is_set():  # another slice of the request has failed meanwhile
                self._invoke(step)
        except BaseException:
            self._dirty = True  # it may have put something into the store that nobody knows of
            raise
        finally:
            self._end()

    def _invoke(self, step: Step) -> None:
        optional = [name for name in step.may_take if name in self._values]
        taken = self._values.take((*step.needs, *optional))
        starting = self._starting.get(step.function)
        begin = self._elapsed_ms()
        if starting is not None:
            with suppress(Exception):  # the invocation itself will say what is wrong
                starting.result()
        sent_at = begin

        def attempt(number: int) -> Answered:
            nonlocal sent_at
            sent_at = self._elapsed_ms() if number > 1 else begin
            self._dirty = self._dirty or number > 1
            # Each attempt has a place of its own: one that was given up may still be writing.
            place = self._place(f"slice-{step.slice}/{number}/")
            event = encode_event(Event(self._id, taken.arrays, taken.references, place), frames=taken.frames)
            return self._setting.invoker.invoke(step.function, event, request_id=self._id)

        answered, attempts = with_retries(attempt, self._setting.retries, self._stop, began=self._began)
        if answered.error_type is not None:
            raise failure(step.slice, step.function, answered, attempts)
        found = _read(step, answered.payload)
        self._values.add(found)
        self._timeline.append(_run_of(step, answered, found.timing, sent_at, self._elapsed_ms(), attempts))

    def _place(self, below: str) -> AnswerPlace | None:
        """A place in the store for a part of this request."""
        store = self._setting.store
        return None if store is None else AnswerPlace(self._setting.inline_bytes, store.uri, f"{self._prefix}{below}")

    def _elapsed_ms(self) -> float:
        return (perf_counter() - self._began) * 1000

    def _begin(self) -> None:
        with self._lock:
            self._under_way += 1

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1
            last = self._ended and self._under_way == 0
        if last:
            self._delete()

    def finish(self) -> None:
        """Stop what is under way, and delete what lies in the store: at once, or when the last slice has ended."""
        self._stop.set()
        with self._lock:
            self._ended = True
            idle = self._under_way == 0
        if idle:
            self._delete()

    def _delete(self) -> None:
        store = self._setting.store
        if store is not None and (self._values.stored or self._dirty):
            with suppress(StoreError):  # the answer is right all the same; `delete_expired` finds what is left
                store.delete_all(self._prefix)


def _never_ready(step: Step) -> RemoteError:
    return RemoteError(
        f"slice {step.slice} (`{step.function}`) takes values that no slice makes",
        hint="deploy the slices again",
        slice=step.slice,
        function=step.function,
    )


def _read(step: Step, payload: bytes) -> SliceAnswer:
    try:
        found = decode_answer(payload)
        made = {*found.names, *(reference.name for reference in found.references)}
    except InputError as error:
        raise RemoteError(
            f"slice {step.slice} (`{step.function}`) gave no answer: {error.message}",
            hint="deploy the slices again",
            slice=step.slice,
            function=step.function,
        ) from error
    missing = set(step.makes) - made
    if missing:
        raise RemoteError(
            f"slice {step.slice} (`{step.function}`) answered without `{min(missing)}`",
            hint="deploy the slices again",
            slice=step.slice,
            function=step.function,
        )
    return found


def _run_of(step: Step, answered: Answered, timing: Timing, begin_ms: float, end_ms: float, attempts: int) -> SliceRun:
    init = timing.init
    load_ms = None if init is None else init.weights_ms + init.session_ms
    inside_ms = None if init is None else init.import_ms + init.weights_ms + init.session_ms
    init_ms = answered.init_ms if answered.init_ms is not None else inside_ms
    return SliceRun(
        step.slice,
        step.function,
        timing.cold_start,
        init_ms,
        load_ms,
        timing.infer_ms,
        max(0.0, end_ms - begin_ms - timing.infer_ms - (init_ms or 0.0)),
        answered.billed_ms,
        answered.max_memory_mb,
        begin_ms,
        end_ms,
        attempts,
    )
