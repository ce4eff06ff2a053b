"""Runs slices in this process, one after the other, as the values between them require."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

from lamella.engines.base import Engine, EngineOptions, Item, Optimization, Precision, Session
from lamella.engines.opening import EngineName, engine_for, open_engine
from lamella.errors import EngineError, SlicesError, UsageError
from lamella.runtime.cpu import thread_count
from lamella.runtime.feeds import check_feeds
from lamella.runtime.memory import release_free_memory
from lamella.tasks.answering import answer
from lamella.tasks.base import Answer
from lamella.tasks.base import Item as TaskItem
from lamella.tasks.opening import TaskChoice
from lamella.tensors import Array, TensorSpec
from lamella.workflow.parts import InDirectory, Part, Source, open_source, read_ahead, whole
from lamella.workflow.task_choice import task_for

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.tasks.base import Task


TIMINGS_KEPT = 1000


def _times() -> deque[float]:
    return deque(maxlen=TIMINGS_KEPT)


@dataclass
class SliceTiming:
    """Milliseconds that one slice took: to load, each time that was needed, and to infer, for each request.

    The latest `TIMINGS_KEPT` of each are kept.
    """

    load_ms: deque[float] = field(default_factory=_times)
    infer_ms: deque[float] = field(default_factory=_times)


class Pipeline:
    """A model in slices, ready to infer.

    Resident by default: every slice stays loaded, and tensors go from one to the next without a copy. With
    `low_memory`, one slice is in memory at a time: each request loads, runs and drops all of them, at the cost of a
    few milliseconds a slice, and takes as much memory as the largest.

    Example:
        ```python
        with lamella.Pipeline("bert.slices") as pipeline:
            outputs = pipeline.infer({"input_ids": ids, "attention_mask": mask})
        ```

    Args:
        source: A slices directory, what `lamella.slice` returned, an `.onnx` file, or a model from `lamella.load`; a
            model runs as one slice.
        low_memory: Keep one slice in memory at a time.
        threads: Threads for one operator; by default as many as this process's share of the CPU.
        optimization: Graph optimisations when a slice is loaded; by default what suits the source and mode.
        custom_ops: Shared libraries with custom operators.
        task: What `answer` does: the name of a task, such as `image-classification`, or a `TaskChoice`.
        engine: What executes the model; by default ONNX Runtime, or the one whose own format the file has.
        execution_providers: ONNX Runtime's execution providers, the most wanted first: `cuda`, `cuda:device_id=1`.
        fallback: Whether the CPU may run what those cannot; where it does for a whole one, a `LamellaWarning` says it.
        precision: What OpenVINO computes FP32 in.

    Raises:
        ModelError: The source cannot be read.
        TaskError: The model does not suit the task, or a file is missing.
        SlicesError: The slices directory is incomplete or damaged.
        EngineError: The engine refuses a slice, or there is no execution provider that it may run on.
        MissingDependencyError: The engine's library is not installed.
        UsageError: There is no such engine or execution provider, or the engine does not read the file's format.
    """

    def __init__(  # noqa: PLR0913 - one argument a flag of `lamella run`
        self,
        source: str | Path | InDirectory | Model | Source,
        *,
        low_memory: bool = False,
        threads: int | None = None,
        optimization: Optimization | None = None,
        custom_ops: Sequence[str | Path] = (),
        task: str | TaskChoice | None = None,
        engine: EngineName | None = None,
        execution_providers: Sequence[str] = (),
        fallback: bool = True,
        precision: Precision = "f32",
    ) -> None:
        self.engine = engine_for(Path(source) if isinstance(source, (str, Path)) else Path(), engine)
        self._source = _without_idle_parts(_source_of(source, self.engine))
        self._engine: Engine = open_engine(self.engine)
        self._options = EngineOptions(
            threads=threads or thread_count(),
            optimization=optimization or _optimization(self._source, low_memory),
            low_memory=low_memory,
            spin=len(self._source.parts) == 1,
            custom_ops=tuple(Path(library) for library in custom_ops),
            execution_providers=tuple(execution_providers),
            fallback=fallback,
            precision=precision,
        )
        self.inputs: list[TensorSpec] = list(self._source.inputs)
        self.optional_inputs: list[TensorSpec] = list(self._source.optional_inputs)
        self.outputs: list[TensorSpec] = list(self._source.outputs)
        self.index_bounds: Mapping[str, int] = self._source.index_bounds
        self._task = None if task is None else task_for(task, source, self.inputs, self.outputs)
        self.timings = [SliceTiming() for _ in self._source.parts]
        self._last_use = _last_uses(self._source)
        self._low_memory, self._closed = low_memory, False
        self._sessions: list[Session] = []
        if not low_memory:
            self._sessions = [self._load(index) for index in range(len(self._source.parts))]

    def infer(self, inputs: Mapping[str, object], *, checked: bool = False) -> dict[str, Array]:
        """Run every slice once.

        Args:
            inputs: An array for each of `self.inputs`, by name; initializers that the model declares as inputs may be
                overridden too.
            checked: They have gone through `lamella.runtime.feeds.check_feeds` already.

        Returns:
            An array for each of `self.outputs`, by name; a list or dict where the model gives a sequence or map.

        Raises:
            InputError: An input is missing, unknown, or of another datatype or shape.
            EngineError: The engine fails.
        """
        if self._closed:
            raise _closed_error()
        given: Mapping[str, Array] = (
            inputs  # type: ignore[assignment]  # which is what checking makes of them
            if checked
            else check_feeds(inputs, self._source.inputs, self._source.optional_inputs)
        )
        values: dict[str, Item] = dict(given)
        for index, part in enumerate(self._source.parts):
            feeds = {name: values[name] for name in part.inputs}
            feeds.update((name, values[name]) for name in part.optional_inputs if name in values)
            values.update(self._run(index, feeds))
            del feeds
            for name in self._last_use[index]:
                values.pop(name, None)
        outputs = {spec.name: self._result(values[spec.name]) for spec in self._source.outputs}
        return {name: deepcopy(array) if name in given else array for name, array in outputs.items()}

    @property
    def task(self) -> Task | None:
        """What makes its inputs and answers; None where it takes tensors alone."""
        return self._task

    def answer(self, items: Sequence[TaskItem]) -> list[Answer]:
        """Answer items, such as the bytes of images or texts: together, as far as the model can.

        Example:
            ```python
            with lamella.Pipeline("resnet50.onnx", task="image-classification") as pipeline:
                (answer,) = pipeline.answer([Path("cat.jpg").read_bytes()])
            ```

        Args:
            items: What the task takes.

        Raises:
            UsageError: The pipeline has no task.
            ItemError: An item is not what the task takes.
            EngineError: The engine fails.
        """
        if self._task is None:
            raise UsageError("this pipeline has no task", hint='make it with `task="image-classification"`, or another')
        return answer(self._task, self.infer, items)

    def _run(self, index: int, feeds: Mapping[str, Item]) -> dict[str, Item]:
        try:
            return (
                self._run_once(index, feeds) if self._low_memory else self._timed(index, self._sessions[index], feeds)
            )
        except EngineError as error:
            if self._closed:  # by another thread, since this request began
                raise _closed_error() from error
            raise

    def _run_once(self, index: int, feeds: Mapping[str, Item]) -> dict[str, Item]:
        session = self._load(index)
        try:
            if index + 1 < len(self._source.parts):
                read_ahead(self._source.parts[index + 1].weights)
            return self._timed(index, session, feeds)
        finally:
            session.close()
            release_free_memory()

    def _timed(self, index: int, session: Session, feeds: Mapping[str, Item]) -> dict[str, Item]:
        started = perf_counter()
        found = session.infer(feeds)
        self.timings[index].infer_ms.append((perf_counter() - started) * 1000)
        return found

    def _load(self, index: int) -> Session:
        part: Part = self._source.parts[index]
        started = perf_counter()
        session = self._engine.load(part.model, self._options, folder=part.folder)
        self.timings[index].load_ms.append((perf_counter() - started) * 1000)
        lacking = set(part.outputs).difference(spec.name for spec in session.outputs)
        if lacking:
            session.close()
            raise SlicesError(f"slice {index} gives no `{min(lacking)}`", hint="slice the model again")
        return session

    def _result(self, item: Item) -> Array:
        if isinstance(item, (list, dict)):
            return item  # type: ignore[return-value]  # a sequence or map: ONNX Runtime's own list or dict
        return self._engine.to_array(item)

    def close(self) -> None:
        """Release every slice. A request that another thread has under way fails at its next slice."""
        self._closed = True
        for session in self._sessions:
            session.close()

    def __enter__(self) -> Pipeline:
        """The pipeline itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _closed_error() -> EngineError:
    return EngineError("this pipeline is closed", hint="make another one")


def _source_of(source: str | Path | InDirectory | Model | Source, engine: EngineName) -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, (str, Path)):
        return open_source(Path(source), engine)
    return open_source(source.directory) if isinstance(source, InDirectory) else whole(source, engine)


def _without_idle_parts(source: Source) -> Source:
    """Without the parts that give nothing: engines refuse to run those, and nothing would come of it."""
    return replace(source, parts=tuple(part for part in source.parts if part.outputs))


def _optimization(source: Source, low_memory: bool) -> Optimization:
    """Resident slices take every optimisation, layouts included; `low_memory` avoids those that copy the weights."""
    if not low_memory:
        return "all"
    return "none" if source.optimized else "extended"


def _last_uses(source: Source) -> list[list[str]]:
    """For each part, the values that nothing later needs."""
    last: dict[str, int] = {}
    for index, part in enumerate(source.parts):
        for name in (*part.inputs, *part.outputs):
            last[name] = index
    kept = {spec.name for spec in source.outputs}
    return [[n for n, at in last.items() if at == index and n not in kept] for index in range(len(source.parts))]
