"""Runs slices over anything that can be invoked, as the values between them require."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from secrets import token_hex
from threading import Condition
from time import monotonic
from types import TracebackType
from typing import Any
from uuid import uuid4

from lamella.errors import UsageError
from lamella.runtime.feeds import check_feeds
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.retrying import Retries
from lamella.stores.base import Store
from lamella.tensors import Array, TensorSpec
from lamella.workflow.invoking import Invoker
from lamella.workflow.request import Answer, Request, Setting
from lamella.workflow.steps import Step, Workflow

INLINE_BYTES = 4_000_000
"""Most bytes of tensors inside one event or answer: in base64 and with their names they stay below 6 MB."""

_BASE64 = 3 / 4
_SPARE_BYTES = 128 << 10  # of an event: names, shapes and references

PREFIX = "requests/"
"""Where the references of all requests lie in a deployment's store."""

_REQUEST_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)
_MOST_THREADS = 64


class Chain:
    """The slices of a model, each a function that something can invoke.

    A slice runs as soon as its inputs are there; slices that do not wait for each other run side by side. A value goes
    straight from the slice that makes it to those that take it: inside the request, or by reference into the store
    where that would be too large. Requests know nothing of each other, and what one put into the store is deleted when
    it has ended. Thread-safe.

    Args:
        workflow: The slices as functions.
        invoker: What runs them.
        store: Where values go that are too large for a request; without one they are refused.
        inline_bytes: Most bytes of tensors inside one event or answer.
        retries: How often a slice is tried.
        cold: `"parallel"` starts an instance of every slice with the first request, and with the first after a pause
            of `idle_s`, instead of each when its turn comes.
        idle_s: Seconds without a request after which the platform may have stopped the instances.

    Example:
        ```python
        chain = Chain(workflow, invoker, store=open_store("file:///tmp/values"))
        answer = chain.infer({"input_ids": ids})
        answer.outputs["logits"], [run.infer_ms for run in answer.timeline]
        ```
    """

    def __init__(
        self,
        workflow: Workflow,
        invoker: Invoker,
        *,
        store: Store | None = None,
        inline_bytes: int = INLINE_BYTES,
        retries: Retries | None = None,
        cold: str | None = None,
        idle_s: float = 600.0,
    ) -> None:
        self.workflow = workflow
        self._store, self._parallel_start, self._idle_s = store, cold == "parallel", idle_s
        self._invoker = invoker
        self._setting = Setting(invoker, store, inline_bytes, retries or Retries(), _referenced(store))
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="lamella-chain")
        self._last_request_s = -float("inf")
        self._process, self._closed = os.getpid(), False
        self._changed, self._under_way = Condition(), 0

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the caller must give."""
        return self.workflow.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the caller gets."""
        return self.workflow.outputs

    def infer(self, inputs: Mapping[str, object], *, request_id: str | None = None) -> Answer:
        """Run every slice once.

        Args:
            inputs: An array for each of `inputs`, by name.
            request_id: How the request is named in logs; made up by default.

        Raises:
            UsageError: The chain is closed, or belongs to the process that this one was forked from.
            InputError: An input is missing, unknown, or of another datatype or shape.
            RemoteError: A slice failed for good.
            StoreError: The store failed.
        """
        with self._request():
            given = check_feeds(inputs, self.workflow.inputs, self.workflow.optional_inputs)
            wanted = [spec.name for spec in self.workflow.outputs]
            return self._run(self.workflow.steps, given, wanted, request_id, self._started())

    def infer_slice(self, index: int, inputs: Mapping[str, object], *, request_id: str | None = None) -> Answer:
        """Run one slice alone, on the values that it takes.

        Raises:
            UsageError: There is no such slice, or what `infer` says.
            InputError: A value is missing.
            RemoteError: The slice failed for good.
            StoreError: The store failed.
        """
        with self._request():
            step = self.step(index)
            given = check_feeds(inputs, step.inputs, step.optional_inputs)
            return self._run((step,), given, step.makes, request_id, {})

    def step(self, index: int) -> Step:
        """The slice of this index.

        Raises:
            UsageError: There is none, or it has no function.
        """
        for step in self.workflow.steps:
            if step.slice == index:
                return step
        known = ", ".join(str(step.slice) for step in self.workflow.steps)
        raise UsageError(f"there is no slice {index}", hint=f"the slices are {known}")

    @contextmanager
    def _request(self) -> Iterator[None]:
        if os.getpid() != self._process:  # where its threads are not, and its locks may stay locked
            raise UsageError(
                "this chain belongs to the process that this one was forked from",
                hint="open the deployment in the process that uses it",
            )
        with self._changed:
            if self._closed:
                raise UsageError("this chain is closed", hint="make another one")
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _run(
        self,
        steps: tuple[Step, ...],
        given: Mapping[str, Array],
        wanted: list[str] | tuple[str, ...],
        request_id: str | None,
        starting: Mapping[str, Future[Any]],
    ) -> Answer:
        name = _checked(request_id)
        prefix = f"{PREFIX}{name}-{token_hex(4)}/"  # the same id may be given twice, even at the same time
        request = Request(self._setting, steps, given, name, prefix, starting)
        try:
            return request.run(self._threads, wanted)
        finally:
            request.finish()

    def _started(self) -> dict[str, Future[Any]]:
        """Instances that are starting for this request ahead of their turn, by function."""
        with self._changed:
            now = monotonic()
            idle, self._last_request_s = now - self._last_request_s > self._idle_s, now
        if not (self._parallel_start and idle):
            return {}
        first = self.workflow.steps[:1]  # it is invoked at once, which starts it as well
        return {step.function: self._invoker.start(step.function) for step in self.workflow.steps if step not in first}

    def close(self) -> None:
        """Take no more requests; wait for those under way, and for what they put into the store to be deleted."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._under_way)
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Chain:
        """The chain itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def inline_bytes(*limits_bytes: int | None) -> int:
    """Most bytes of tensors inside one event or answer, where payloads may have so many bytes; None: any number."""
    payload_bytes = min((limit for limit in limits_bytes if limit is not None), default=None)
    if payload_bytes is None:
        return INLINE_BYTES
    return max(0, min(INLINE_BYTES, int((payload_bytes - _SPARE_BYTES) * _BASE64)))


def delete_expired(store: Store, *, older_than_s: float) -> int:
    """Delete the references of requests that can no longer be under way, and say how many objects that were.

    A request deletes its own when it ends; these are left where its process was killed. In a folder, so is what the
    process was writing then.

    Raises:
        StoreError: The store is unreachable, or refuses.
    """
    return store.delete_all(PREFIX, older_than_s=older_than_s)


def is_request_id(text: str) -> bool:
    """Whether a request can have this name in logs and in a store."""
    return _REQUEST_ID.fullmatch(text) is not None


def _checked(request_id: str | None) -> str:
    if request_id is None:
        return uuid4().hex
    if not is_request_id(request_id):
        raise UsageError(
            f"`{request_id}` is no request id", hint="use up to 128 letters, digits, dots, hyphens and underscores"
        )
    return request_id


def _referenced(store: Store | None) -> ReferencedTensors:
    """Through the store as it was opened: with its own credentials."""
    return ReferencedTensors() if store is None else ReferencedTensors(store.uri, opened=store)
