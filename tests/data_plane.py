"""Models that answer: the least that there can be of a data plane and a repository, over a real engine."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

from lamella.engines.base import EngineOptions, Session
from lamella.engines.onnxruntime import OnnxRuntimeEngine
from lamella.errors import LamellaError, ModelError
from lamella.gateway.dataplane import Answer, Duration, Entry, ModelInfo, Statistics, UnknownModelError
from lamella.runtime.feeds import check_feeds
from lamella.runtime.protocol import InferRequest

VERSION = "1"


@dataclass
class Hold:
    """Keeps requests to a model waiting.

    Attributes:
        arrived: Set when one waits.
        cancelled: Set when one that waited has gone.
        go_on: Set by the test, to have them answered.
    """

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        self.arrived.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class SmallPlane:
    """Answers with the models of a folder, a file each: a data plane and its repository in one.

    Attributes:
        failures: By model: what a request to it raises.
        holds: By model: what its requests wait for.
        requests: Those that came, in order.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._engine = folder, OnnxRuntimeEngine()
        self._sessions: dict[str, Session] = {}
        self._counts: dict[str, Duration] = {}
        self.failures: dict[str, Exception] = {}
        self.holds: dict[str, Hold] = {}
        self.requests: list[InferRequest] = []
        for name in self._names():
            self._open(name)

    async def infer(self, model: str, version: str | None, request: InferRequest) -> Answer:
        session = self._session(model, version)
        self.requests.append(request)
        started_ns = perf_counter_ns()
        feeds = check_feeds(request.inputs, session.inputs)
        if model in self.holds:
            await self.holds[model].wait()
        if model in self.failures:
            raise self.failures[model]
        found = session.infer(feeds)
        before = self._counts.get(model, Duration())
        self._counts[model] = Duration(before.count + 1, before.ns + perf_counter_ns() - started_ns)
        outputs = {name: self._engine.to_array(item) for name, item in found.items()}
        return Answer(outputs, VERSION, request.request_id or "made-up")

    async def info(self, model: str, version: str | None) -> ModelInfo:
        session = self._session(model, version)
        return ModelInfo(
            model, [VERSION], "onnxruntime_onnx", session.inputs, session.outputs, 8, {"slices": 1, "verified": True}
        )

    async def statistics(self, model: str | None, version: str | None) -> Sequence[Statistics]:
        if model is not None:
            self._session(model, version)
        return [self._statistics(name) for name in ([model] if model is not None else self._sessions)]

    async def index(self) -> Sequence[Entry]:
        return [
            Entry(name, VERSION, "READY") if name in self._sessions else Entry(name, VERSION, "UNAVAILABLE", "unloaded")
            for name in self._names()
        ]

    async def load(self, model: str) -> None:
        if model not in self._names():
            raise UnknownModelError(f"there is no model `{model}`", hint="`RepositoryIndex` lists them")
        try:
            self._open(model)
        except LamellaError as error:
            raise ModelError(f"`{model}` cannot be loaded: {error.message}", hint="export it again") from error

    async def unload(self, model: str) -> None:
        if model not in self._names():
            raise UnknownModelError(f"there is no model `{model}`", hint="`RepositoryIndex` lists them")
        self._sessions.pop(model, None)

    def _names(self) -> list[str]:
        return [path.stem for path in sorted(self._folder.glob("*.onnx"))]

    def _open(self, name: str) -> None:
        self._sessions[name] = self._engine.load(self._folder / f"{name}.onnx", EngineOptions())

    def _session(self, model: str, version: str | None) -> Session:
        if model not in self._sessions or version not in (None, VERSION):
            version_text = f" in version {version}" if version else ""
            raise UnknownModelError(
                f"no model `{model}`{version_text} answers", hint=f"those that do: {', '.join(self._sessions)}"
            )
        return self._sessions[model]

    def _statistics(self, name: str) -> Statistics:
        count = self._counts.get(name, Duration())
        nothing = Duration()
        return Statistics(
            name, VERSION, 0, count.count, count.count, count, nothing, nothing, nothing, count, nothing, {1: count}
        )
