"""The models of a server: which there are, which version of each answers, and how the next one takes its place."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from lamella.errors import LamellaError, UsageError
from lamella.gateway.dataplane import Answer, Entry, ModelInfo, State, Statistics, StoppingError, UnknownModelError
from lamella.gateway.serving.served import Served, load_model
from lamella.gateway.serving.settings import Settings
from lamella.runtime.protocol import InferRequest
from lamella.tasks.base import Answer as TaskAnswer
from lamella.tasks.base import Item

_log = logging.getLogger("lamella.serve")


@dataclass
class _Known:
    """A model that is known, loaded or not.

    Attributes:
        path: Its file or slices directory.
        settings: How it is served.
        live: The version that answers.
        state: What is being done with it.
        reason: Why it does not answer.
        version: Number of the latest version.
        lock: Held by whoever changes what answers.
    """

    path: Path
    settings: Settings
    live: Served | None = None
    state: State = "UNAVAILABLE"
    reason: str = ""
    version: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Models:
    """A `DataPlane` and a `Repository` of models in this process. Every method is called in the event loop.

    Args:
        sources: Path and settings of each model, by name.
    """

    def __init__(self, sources: Mapping[str, tuple[Path, Settings]]) -> None:
        self._known = {name: _Known(path, settings) for name, (path, settings) in sources.items()}
        self._prefix, self._numbers = os.urandom(6).hex(), count(1)
        self._is_stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def infer(self, model: str, version: str | None, request: InferRequest) -> Answer:
        """Answer a request, as the data plane says."""
        if self._is_stopping:
            raise StoppingError("the server ends", hint="ask another one, or this one again when it is back")
        return await self._find(model, version).infer(request, f"{self._prefix}-{next(self._numbers)}")

    async def answer(self, model: str, version: str | None, items: Sequence[Item]) -> tuple[str, list[TaskAnswer]]:
        """Answer images, texts or questions by the model's task; returns the version that did.

        Raises:
            UnknownModelError: There is no such model or version.
            UsageError: It has no task.
            ItemError: An item is not what the task takes.
        """
        if self._is_stopping:
            raise StoppingError("the server ends", hint="ask another one, or this one again when it is back")
        found = self._find(model, version)
        return found.version, await found.answer(items)

    async def info(self, model: str, version: str | None) -> ModelInfo:
        """What is told of a model."""
        found = self._find(model, version)
        return found.info([found.version])

    async def statistics(self, model: str | None, version: str | None) -> Sequence[Statistics]:
        """What a model has done, or all of them."""
        if model is not None:
            return [self._find(model, version).statistics()]
        return [known.live.statistics() for known in self._known.values() if known.live is not None]

    async def index(self) -> Sequence[Entry]:
        """Every model that is known."""
        return [
            Entry(name, str(max(1, known.version)), "READY" if known.live else known.state, known.reason)
            for name, known in self._known.items()
        ]

    async def load(self, model: str) -> None:
        """Load a model as its files are now; requests go to the version before until the new one answers.

        A caller that goes away does not stop it.
        """
        await asyncio.shield(self._kept(self._loaded(model, self._named(model))))

    async def _loaded(self, model: str, known: _Known) -> None:
        async with known.lock:
            known.state = "LOADING"
            try:
                loaded = await asyncio.to_thread(load_model, known.path, known.settings)
            except Exception as error:
                known.state = "UNAVAILABLE"
                known.reason = error.message if isinstance(error, LamellaError) else str(error)
                raise
            if self._is_stopping:
                await asyncio.to_thread(loaded.pipeline.close)
                raise StoppingError("the server ends", hint="load it when it is back")
            known.version += 1
            before, known.live = known.live, Served(model, str(known.version), loaded, known.settings)
            known.state, known.reason = "READY", ""
        _log.info("`%s` version %s is ready", model, known.version)
        if before is not None:
            self._end(before)

    async def unload(self, model: str) -> None:
        """Let a model answer what it has taken, and no more."""
        known = self._named(model)
        async with known.lock:
            before, known.live = known.live, None
            known.state, known.reason = "UNAVAILABLE", "unloaded"
        if before is not None:
            self._end(before)

    @property
    def names(self) -> Sequence[str]:
        """Of every model that is known."""
        return list(self._known)

    @property
    def is_ready(self) -> bool:
        """Whether every model that is not unloaded answers."""
        states = [known.live is not None or known.reason == "unloaded" for known in self._known.values()]
        return not self._is_stopping and all(states)

    async def close(self) -> None:
        """Answer what has been taken, then release every model. Further requests are refused."""
        self._is_stopping = True
        for known in self._known.values():
            before, known.live = known.live, None
            if before is not None:
                self._end(before)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self, before: Served) -> None:
        """Let a version that no further request goes to answer the rest, and release it."""
        self._kept(before.close())

    def _kept(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """A task that goes on whoever waits for it, and that `close` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _named(self, model: str) -> _Known:
        known = self._known.get(model)
        if known is None:
            raise UnknownModelError(f"there is no model `{model}`", hint=f"there is {self._names()}")
        return known

    def _find(self, model: str, version: str | None) -> Served:
        known = self._named(model)
        if known.live is None:
            raise UnknownModelError(
                f"`{model}` is not loaded{f': {known.reason}' if known.reason else ''}",
                hint=f"load it with `POST /v2/repository/models/{model}/load`",
            )
        if version is not None and version != known.live.version:
            raise UnknownModelError(
                f"`{model}` has no version `{version}`", hint=f"version `{known.live.version}` answers"
            )
        return known.live

    def _names(self) -> str:
        return ", ".join(f"`{name}`" for name in self._known) or "none"


def sources_of(models: Sequence[str], settings: Settings) -> dict[str, tuple[Path, Settings]]:
    """Models as the command line names them: a path, or `NAME=PATH`; without a name, it is the file's stem.

    Raises:
        UsageError: Two have the same name, or a path leads nowhere.
    """
    found: dict[str, tuple[Path, Settings]] = {}
    for given in models:
        name, mark, path = given.partition("=")
        place = Path(path if mark else given)
        if not place.exists():
            raise UsageError(f"`{place}` does not exist", hint="give an `.onnx` file or a slices directory")
        known = name if mark else place.resolve().stem
        if not known or "/" in known:
            raise UsageError(f"`{known}` is no name for a model", hint="give `NAME=PATH`, with a name without a slash")
        if known in found:
            raise UsageError(f"two models are called `{known}`", hint="name them: `NAME=PATH`")
        found[known] = (place, settings)
    return found
