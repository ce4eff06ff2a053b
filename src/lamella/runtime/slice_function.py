"""A slice that is loaded once and then answers events: what a function does, whatever starts it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING

from lamella.engines.base import Engine, EngineOptions, Item, Session
from lamella.errors import LamellaError, SlicesError, UnsupportedModelError
from lamella.runtime import payload as payloads
from lamella.runtime.cpu import thread_count
from lamella.runtime.feeds import check_feeds
from lamella.runtime.frames import Frame, Payload, encode_frame
from lamella.runtime.function import FunctionConfig, read_function
from lamella.runtime.payload import Chain, Event, Reference
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.timing import InitTiming, Timing, since_ms
from lamella.tensors import Array

if TYPE_CHECKING:
    from lamella.runtime.chaining import Chaining

MEMORY_VARIABLE = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"
STORE_VARIABLE = "LAMELLA_STORE"
"""If it is set, the only store that events may name."""

NEXT_VARIABLE = "LAMELLA_NEXT"
"""If it is set, the function that runs the slice behind this one: its version's ARN."""

REQUEST_LINE = "LAMELLA RequestId: {invocation}\tRequest: {request}\n"
"""What an instance logs where the platform gives an invocation another id than the request has that goes through all
slices: by this, the platform's lines on invocations can be joined to requests."""

PING_LINE = "LAMELLA RequestId: {invocation}\tPing\n"
"""What it logs of an invocation that is no request."""

_REQUEST = re.compile(r"[\w.-]{1,128}", re.ASCII)

RESERVED_BYTES = 256 << 20
"""For Python, NumPy, the engine and activations, where memory decides how fetched weights are loaded."""


class SliceFunction:
    """One instance of a function.

    Args:
        folder: The package's root.
        started: `perf_counter()` when the INIT phase began.

    Raises:
        SlicesError: The package is incomplete or damaged.
        StoreError: Its weights cannot be fetched.
        EngineError: The engine refuses the slice.
    """

    def __init__(self, folder: Path, *, started: float | None = None) -> None:
        started = perf_counter() if started is None else started
        from lamella.engines.onnxruntime import OnnxRuntimeEngine

        self.function = read_function(folder)
        self._engine: Engine = OnnxRuntimeEngine()
        self._references = ReferencedTensors(os.environ.get(STORE_VARIABLE))
        imported = perf_counter()
        self._session, weights_ms = _load(self._engine, self.function, folder)
        self.init = InitTiming((imported - started) * 1000, weights_ms, since_ms(imported) - weights_ms)
        lacking = {spec.name for spec in self.function.outputs} - {spec.name for spec in self._session.outputs}
        if lacking:
            raise SlicesError(f"slice {self.function.slice} gives no `{min(lacking)}`", hint="slice the model again")
        self._takes = frozenset(spec.name for spec in (*self.function.inputs, *self.function.optional_inputs))
        following = os.environ.get(NEXT_VARIABLE)
        self._chaining = None if following is None else _chaining(self.function.slice, following)
        self._lock, self._asked = Lock(), False

    def answer(self, payload: Payload, context: object = None) -> dict[str, object]:
        """Answer an event with a document.

        Args:
            payload: The event.
            context: What the platform's runtime tells of the invocation.

        Raises:
            LamellaError: What is wrong; the exception's text has the hint, too.
        """
        timing = self._timing()
        if payloads.is_ping(payload):
            _log(PING_LINE, context)
            return payloads.pong(timing)
        with explained():
            event, frame, references = self._infer(payload, timing, context)
            if event.chain is not None:
                chained: dict[str, object] = json.loads(self._chain(event, event.chain, frame, references, timing))
                return chained
            return payloads.answer_document(frame, references, timing)

    def answer_bytes(self, payload: bytes, context: object = None) -> bytes:
        """The same from bytes to bytes: no frame is parsed or written as JSON, which takes longer than its base64."""
        timing = self._timing()
        if payloads.is_ping(payload):
            _log(PING_LINE, context)
            return payloads.encode_pong(timing)
        with explained():
            event, frame, references = self._infer(payload, timing, context)
            if event.chain is not None:
                return self._chain(event, event.chain, frame, references, timing)
            return payloads.encode_answer(frame, references, timing)

    def infer(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """The outputs of the slice for arrays that were checked.

        Raises:
            EngineError: The engine failed.
            UnsupportedModelError: An output is a sequence or map.
        """
        found = self._session.infer(feeds)
        return {spec.name: self._array(spec.name, found[spec.name]) for spec in self.function.outputs}

    def close(self) -> None:
        """Release the slice."""
        self._session.close()

    def _infer(self, payload: Payload, timing: Timing, context: object) -> tuple[Event, bytes, Sequence[Reference]]:
        """The event, and frame and references of the answer."""
        with timing.measure("decode_ms"):
            whole = payloads.decode_event(payload)
            _log(REQUEST_LINE, context, whole.request_id)
            event = whole.taking(self._takes)
        with timing.measure("fetch_ms"):
            fetched = self._references.fetch(event)
        with timing.measure("decode_ms"):
            feeds = check_feeds({**event.tensors, **fetched}, self.function.inputs, self.function.optional_inputs)
        with timing.measure("infer_ms"):
            outputs = self.infer(feeds)
        with timing.measure("put_ms"):
            references = self._references.put(outputs, event.answer)
            timing.put_bytes = sum(reference.size for reference in references)
        with timing.measure("encode_ms"):
            frame = encode_frame(outputs, kind="outputs")
        return whole, frame, references

    def _chain(
        self, event: Event, chain: Chain, frame: Frame, references: Sequence[Reference], timing: Timing
    ) -> bytes:
        chaining = self._chaining or _chaining(self.function.slice, None)
        return chaining.answer(event, chain, frame, references, timing)

    def _array(self, name: str, item: Item) -> Array:
        if isinstance(item, list | dict):
            raise UnsupportedModelError(
                f"output `{name}` is a sequence or map, which does not travel", hint="make it a tensor in the model"
            )
        return self._engine.to_array(item)

    def _timing(self) -> Timing:
        with self._lock:
            first, self._asked = not self._asked, True
        return Timing(cold_start=first, init=self.init if first else None)


def _log(line: str, context: object, request: str = "-") -> None:
    """Say what an invocation is for; a request's name that could pass for other lines is not said."""
    invocation = getattr(context, "aws_request_id", None)
    if invocation and request != invocation and _REQUEST.fullmatch(request):
        sys.stdout.write(line.format(invocation=invocation, request=request))


@contextmanager
def explained() -> Iterator[None]:
    """Put the hint of a LamellaError into its text, which is all of it that leaves a function."""
    try:
        yield
    except LamellaError as error:
        error.args = (payloads.encode_error(error),)
        raise


def _chaining(slice: int, following: str | None) -> Chaining:
    """What ends events of slices that invoke each other; most functions start 10 ms sooner without it."""
    from lamella.runtime.chaining import chaining_of

    return chaining_of(slice, following)


def _load(engine: Engine, function: FunctionConfig, folder: Path) -> tuple[Session, float]:
    """The slice in the engine, and the milliseconds that fetching its weights took."""
    path = function.slice_path(folder)
    if not path.is_file():
        raise SlicesError(f"the package lacks its slice `{path}`", hint="build the package again")
    options = options_for(function, memory_mb=_memory_mb())
    if not function.objects:
        return engine.load(path, options), 0.0
    from lamella.runtime.weights import fetch_weights

    started = perf_counter()
    with fetch_weights(function) as weights:
        weights_ms = since_ms(started)
        model = path.read_bytes()
        return engine.load(model, options, folder=weights.folder, initializers=weights.initializers), weights_ms


def options_for(function: FunctionConfig, *, memory_mb: int | None) -> EngineOptions:
    """How a function loads its slice: at full speed, unless weights that were fetched leave no memory for that.

    Fetched weights are in memory, and loading at full speed takes them once more: kernels pack those of a graph that
    was optimised before; a graph that is still to be optimised copies them, then packs and drops one after the other.
    Without room for that, kernels work on them as they are, and the graph is not optimised.

    Args:
        function: The function.
        memory_mb: Its memory; None where nobody says.
    """
    threads = thread_count(memory_mb=memory_mb)
    if function.objects and memory_mb is not None:
        fetched_bytes = sum(entry.size for entry in function.objects)
        largest_bytes = 0 if function.optimized else max((weight.length for weight in function.weights), default=0)
        if RESERVED_BYTES + 2 * fetched_bytes + largest_bytes > memory_mb << 20:
            return EngineOptions(threads, "none", low_memory=True)
    return EngineOptions(threads, "none" if function.optimized else "all")


def _memory_mb() -> int | None:
    given = os.environ.get(MEMORY_VARIABLE)
    return int(given) if given else None
