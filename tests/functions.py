"""Slices as functions inside this process, for tests of what runs them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import lamella
from lamella.errors import LamellaError
from lamella.runtime.function import FunctionConfig
from lamella.runtime.slice_function import SliceFunction
from lamella.workflow.invoking import Answered
from lamella.workflow.manifest import read_manifest
from lamella.workflow.steps import Workflow, workflow_of


class Call(NamedTuple):
    """An invocation: of which function, and the how manieth of it."""

    function: str
    count: int


Before = Callable[[Call], Answered | None]
"""What happens before an invocation; what it returns is the answer, and None lets the function run."""


class InProcess:
    """Invokes the slices of a directory, each loaded once, in this process.

    Args:
        sliced: The slices directory.
        folder: An empty folder for the functions' files.
        before: What happens before an invocation.
    """

    def __init__(self, sliced: Path, folder: Path, before: Before | None = None) -> None:
        manifest = read_manifest(sliced)
        self.before = before
        self.configs = []
        self.functions: dict[str, SliceFunction] = {}
        for part in manifest.slices:
            if not part.outputs:
                continue
            graph = lamella.load(sliced / part.file).graph
            specs = {value.name: value.spec for value in (*graph.inputs, *graph.outputs)}
            config = FunctionConfig(
                name=f"slice-{part.index}",
                slice=part.index,
                file=part.file,
                inputs=tuple(specs[name] for name in part.inputs),
                outputs=tuple(specs[name] for name in part.outputs),
                optional_inputs=tuple(specs[name] for name in part.optional_inputs if name in specs),
                delivery="mount",
                model_folder=str(sliced.absolute()),
            )
            place = folder / config.name
            place.mkdir(parents=True)
            config.write(place)
            self.configs.append(config)
            self.functions[config.name] = SliceFunction(place)
        self.workflow: Workflow = workflow_of(manifest, self.configs)
        self.counts: Counter[str] = Counter()
        self.started: list[str] = []
        self.payload_bytes: list[int] = []
        self.exchanged: list[tuple[bytes, bytes]] = []
        self._lock = Lock()

    def invoke(self, function: str, payload: bytes, *, request_id: str) -> Answered:
        with self._lock:
            self.counts[function] += 1
            count = self.counts[function]
        found = None if self.before is None else self.before(Call(function, count))
        if found is not None:
            return found
        try:
            answer = self.functions[function].answer_bytes(payload)
        except LamellaError as error:
            return Answered(b"", type(error).__name__, str(error))
        self.payload_bytes += [len(payload), len(answer)]
        self.exchanged.append((payload, answer))
        assert json.loads(payload)["request_id"] == request_id
        return Answered(answer, billed_ms=1, max_memory_mb=100)

    def start(self, function: str) -> Future[Any]:
        self.started.append(function)
        future: Future[Any] = Future()
        future.set_result(None)
        return future
