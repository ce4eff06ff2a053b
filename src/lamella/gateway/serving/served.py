"""One version of a model, loaded: its pipeline, and the batcher in front of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lamella.gateway.dataplane import Answer, ModelInfo, Statistics
from lamella.gateway.serving.batcher import Batcher
from lamella.gateway.serving.latency import Curves
from lamella.gateway.serving.settings import LARGEST_BATCH, Settings
from lamella.gateway.serving.trial import Subject, Trial, try_out
from lamella.runtime.cpu import thread_count
from lamella.runtime.feeds import check_feeds
from lamella.runtime.protocol import InferRequest
from lamella.tensors import Array
from lamella.workflow.pipeline import Pipeline

_log = logging.getLogger("lamella.serve")


@dataclass(frozen=True)
class Loaded:
    """What loading a model gave.

    Attributes:
        pipeline: Runs it.
        trial: What was found out about it.
    """

    pipeline: Pipeline
    trial: Trial


def load_model(path: Path, settings: Settings) -> Loaded:
    """Load a model or its slices, and try it out. Takes as long as that takes.

    Raises:
        LamellaError: It cannot be loaded.
    """
    threads = settings.threads or max(1, thread_count() // settings.instances)
    pipeline = Pipeline(path, low_memory=settings.low_memory, threads=threads)
    largest = settings.max_batch_size or LARGEST_BATCH
    subject = Subject(pipeline.infer, pipeline.inputs, pipeline.outputs, pipeline.index_bounds)
    return Loaded(pipeline, try_out(subject, largest=largest, padding=settings.padding))


class Served:
    """A version of a model that answers. Every method is called in the event loop.

    Args:
        name: The model's name.
        version: This version's.
        loaded: What loading it gave.
        settings: How it is served.
    """

    def __init__(self, name: str, version: str, loaded: Loaded, settings: Settings) -> None:
        self.name, self.version = name, version
        self._pipeline, self._trial = loaded.pipeline, loaded.trial
        largest = settings.max_batch_size or LARGEST_BATCH
        self._largest = largest if loaded.trial.layout.joins else 0
        self._batcher = Batcher(
            self._computed,
            layout=loaded.trial.layout,
            settings=settings,
            curves=Curves(largest, adaptive=settings.max_batch_size is None, assumed=loaded.trial.measured_ms),
        )
        if loaded.trial.reason:
            _log.warning("`%s`: %s", name, loaded.trial.reason)

    async def infer(self, request: InferRequest, request_id: str) -> Answer:
        """Answer a request, as the data plane says."""
        feeds = check_feeds(request.inputs, self._pipeline.inputs, self._pipeline.optional_inputs)
        timeout_s = None if request.timeout_us is None else request.timeout_us / 1e6
        outputs = await self._batcher.infer(feeds, priority=request.priority, timeout_s=timeout_s)
        return Answer(outputs, self.version, request.request_id or request_id)

    def _computed(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._pipeline.infer(feeds, checked=True)

    def info(self, versions: list[str]) -> ModelInfo:
        """What is told of it."""
        parameters: dict[str, object] = {"batching": self._trial.layout.joins}
        if self._trial.layout.padded:
            parameters["padding"] = True
        if self._trial.reason:
            parameters["reason"] = self._trial.reason
        return ModelInfo(
            self.name,
            versions,
            "onnxruntime_onnx",
            self._pipeline.inputs,
            self._pipeline.outputs,
            self._largest,
            parameters,
        )

    def statistics(self) -> Statistics:
        """What it has done."""
        return self._batcher.counts.statistics(self.name, self.version, self._batcher.waiting)

    async def close(self) -> None:
        """Answer what has been taken, then release the model."""
        await self._batcher.close()
        await asyncio.to_thread(self._pipeline.close)
