"""What a server answers, without a transport: HTTP and gRPC translate to this and back.

https://github.com/kserve/open-inference-protocol, with Triton's extensions for repositories and statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lamella.errors import RemoteError, UsageError
from lamella.runtime.protocol import InferRequest
from lamella.tensors import Array, TensorSpec

State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]


class UnknownModelError(UsageError):
    """There is no such model, or no such version of it."""


class BusyError(RemoteError):
    """No further request is taken now.

    Attributes:
        retry_after_s: Seconds after which it is worth asking again.
    """

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class StoppingError(BusyError):
    """The server ends, and answers only what it has taken already."""


class DeadlineError(RemoteError):
    """A request's time was over before its answer was there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A version of a model, as a repository lists it.

    Attributes:
        model: The model's name.
        version: Its version.
        state: Whether it answers.
        reason: Why it does not.
    """

    model: str
    version: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is told of a model.

    Attributes:
        name: Its name.
        versions: Those that answer, the oldest first.
        platform: What runs it, as the protocol's metadata has it.
        inputs: What it takes; where it batches, the first dimension is the batch's.
        outputs: What it gives.
        max_batch_size: Rows that are computed together at most; 0 where requests are never put together.
        parameters: What else there is to say: text, numbers and booleans by name.
    """

    name: str
    versions: Sequence[str]
    platform: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    max_batch_size: int = 0
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something happened, and how long that took in all.

    Attributes:
        count: How often.
        ns: Nanoseconds in all.
    """

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a version of a model has done since it was loaded, by the names of Triton's statistics extension.

    Attributes:
        model: The model's name.
        version: Its version.
        last_inference_ms: When it was last asked: milliseconds since 1970; 0: never.
        inference_count: Rows computed.
        execution_count: Batches computed.
        success: Requests answered, from the first byte understood to the answer.
        fail: Requests that failed, likewise.
        queue: Time in the queue.
        compute_input: Time for putting inputs together.
        compute_infer: Time in the engine.
        compute_output: Time for taking outputs apart.
        batches: By rows in a batch: how often such a batch was computed, and its time in the engine.
        waiting: Requests in the queue now.
        refused: Requests for which the queue had no place.
        cancelled: Requests whose caller went away.
        latency: How many answers took at most so many seconds, by these seconds; the last are infinite.
    """

    model: str
    version: str
    last_inference_ms: int
    inference_count: int
    execution_count: int
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    batches: Mapping[int, Duration]
    waiting: int = 0
    refused: int = 0
    cancelled: int = 0
    latency: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets.

    Attributes:
        outputs: Every output by name.
        version: Of the model that answered.
        request_id: The request's name: the caller's own, or one that was made up.
        parameters: What is said beside the outputs.
    """

    outputs: Mapping[str, Array]
    version: str
    request_id: str
    parameters: Mapping[str, object] = field(default_factory=dict)


class DataPlane(Protocol):
    """Models that answer. Called in an event loop; nothing here blocks it."""

    async def infer(self, model: str, version: str | None, request: InferRequest) -> Answer:
        """Answer a request. A caller that goes away cancels this, and the request leaves the queue.

        Raises:
            UnknownModelError: There is no such model or version.
            InputError: The inputs do not suit the model.
            BusyError: The queue is full, or the server ends.
            DeadlineError: The request's `timeout` was over.
            EngineError: The engine fails.
        """
        ...

    async def info(self, model: str, version: str | None) -> ModelInfo:
        """What is told of a model.

        Raises:
            UnknownModelError: There is no such model or version that answers.
        """
        ...

    async def statistics(self, model: str | None, version: str | None) -> Sequence[Statistics]:
        """What a model has done, or all of them.

        Raises:
            UnknownModelError: There is no such model or version.
        """
        ...


class Repository(Protocol):
    """Which models there are, and whether they are loaded. Called in an event loop."""

    async def index(self) -> Sequence[Entry]:
        """Every version of every model that is known, loaded or not."""
        ...

    async def load(self, model: str) -> None:
        """Load a model, or what its files are now, beside the version that answers; then let the new one answer.

        Raises:
            UnknownModelError: No such model is known.
            LamellaError: It cannot be loaded; what answered before goes on.
        """
        ...

    async def unload(self, model: str) -> None:
        """Let a model answer what it has taken, and no more.

        Raises:
            UnknownModelError: No such model is known.
        """
        ...
