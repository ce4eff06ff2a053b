"""A model's slices as functions that call nobody: the caller sends each value to the slices that use it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from function import Function, Instance, echo, started
from machine import busy, processor_s
from models import BenchModel, inputs
from pipeline_jobs import digest

if TYPE_CHECKING:
    from measure import Sample
    from models import Inputs

    from lamella.planner.plan import Plan

WINDOW_S = 0.5
"""Requests follow each other for so long, 25 periods of the processors' shares, and their mean counts once.

A request that is shorter than the share of one period can run at full speed, and the next one waits: single requests
tell little about a share.
"""

WINDOW_REQUESTS = 3

PAUSE_S = 0.05
ISOLATED_REQUESTS = 8


@dataclass(frozen=True)
class Slices:
    """A model in slices, each with its own copy of its weights, as in a package.

    Attributes:
        model: The model.
        count: How many slices.
        folder: Where they are made.
    """

    model: BenchModel
    count: int
    folder: Path

    @cached_property
    def plan(self) -> Plan:
        """Where the model is cut. Writes the slices, which takes the model's size on disk."""
        import lamella

        sliced = lamella.slice(self.model.path, self.folder, slices=self.count, copy_weights=True, verify=False)
        return sliced.plan

    def functions(self, memory_mb: Sequence[int]) -> list[Function]:
        """A function for each slice, of these sizes."""
        types = {name: value.spec.datatype for name, value in self.plan.values.items()}
        return [
            Function(self.folder, part.index, {name: types[name] for name in (*part.inputs, *part.outputs)}, size)
            for part, size in zip(self.plan.slices, memory_mb, strict=True)
        ]


def infer(instances: Sequence[Instance], tensors: Inputs) -> Inputs:
    """One request to the chain: every value that any slice gives, by name."""
    values = dict(tensors)
    for instance in instances:
        values.update(instance.infer({name: values[name] for name in instance.inputs}))
    return values


def measure_chain(slices: Slices, memory_mb: Sequence[int], *, windows: int) -> Sample:
    """Start a function for each slice, one after the other, and send requests to the chain.

    The sample's `seconds` are the median over the windows of the mean time of a request, its `seconds_since_start` the
    time until the last function could take a request where they are started in turn, and its memory the sum of the
    functions' peaks. Of its facts, `single_ms` is the median of those requests, `isolated_ms` that of requests after a
    pause.

    Raises:
        FunctionError: A function ended: too little memory, or it cannot load its slice.
    """
    tensors = inputs(slices.model.name)
    before, begin, own_s = busy(), time.monotonic(), time.process_time()
    with _started(slices.functions(memory_mb)) as instances:
        answer = infer(instances, tensors)[slices.plan.slices[-1].outputs[0]]
        infer(instances, tensors)
        for instance in instances:
            instance.report()
        single_ms: list[float] = []
        means_ms = [_window(instances, tensors, single_ms) for _ in range(windows)]
        reports = [instance.report() for instance in instances]
        isolated_ms = [_isolated(instances, tensors) for _ in range(ISOLATED_REQUESTS)]
        own_s = time.process_time() - own_s + sum(processor_s(instance.process.pid) for instance in instances)
        return {
            "elapsed_s": time.monotonic() - begin,
            "seconds": statistics.median(means_ms) / 1000,
            "seconds_since_start": sum(instance.start_ms for instance in instances) / 1000,
            "peak_bytes": sum(report["peak_bytes"] for report in reports),
            "cgroup_peak_bytes": sum(instance.cgroup.peak_bytes or 0 for instance in instances),
            "others_share": before.others_share(own_s=own_s),
            "facts": {
                "answer": digest(answer),
                "memory_mb": list(memory_mb),
                "window_ms": [round(mean, 3) for mean in means_ms],
                "single_ms": round(statistics.median(single_ms), 3),
                "isolated_ms": round(statistics.median(isolated_ms), 3),
                "start_ms": [round(instance.start_ms, 1) for instance in instances],
                "import_ms": [round(report["import_ms"], 1) for report in reports],
                "load_ms": [round(report["load_ms"], 1) for report in reports],
                "infer_ms": [round(statistics.mean(report["infer_ms"]), 3) for report in reports],
                "peak_bytes": [report["peak_bytes"] for report in reports],
            },
        }


@contextlib.contextmanager
def _started(functions: Sequence[Function]) -> Iterator[list[Instance]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(started(function)) for function in functions]


def _window(instances: Sequence[Instance], tensors: Inputs, single_ms: list[float]) -> float:
    """Mean milliseconds of requests that follow each other for a window; each one's is added to `single_ms`."""
    begin = last = time.perf_counter()
    count = 0
    while count < WINDOW_REQUESTS or last - begin < WINDOW_S:
        infer(instances, tensors)
        now = time.perf_counter()
        single_ms.append(1000 * (now - last))
        last, count = now, count + 1
    return 1000 * (last - begin) / count


def _isolated(instances: Sequence[Instance], tensors: Inputs) -> float:
    """Milliseconds of a request after a pause, in which the functions have saved up the share of a period."""
    time.sleep(PAUSE_S)
    begin = time.perf_counter()
    infer(instances, tensors)
    return 1000 * (time.perf_counter() - begin)


@dataclass(frozen=True)
class Transport:
    """How fast frames travel between two processes here.

    Attributes:
        hop_ms: A request and its answer, both next to empty.
        mb_s: MB a second that a request and its answer carry, encoding and decoding included.
    """

    hop_ms: float
    mb_s: float


def measure_transport() -> Transport:
    """Send a little, and 4 MB, to a function that answers with the same."""
    with echo() as instance:
        small_ms, large_ms = (_echo_ms(instance, elements) for elements in (16, 1 << 20))
    return Transport(small_ms, 8 / max(large_ms - small_ms, 1e-3) * 1000)


def _echo_ms(instance: Instance, elements: int) -> float:
    tensors: Inputs = {"x": np.zeros(elements, np.float32)}
    times = []
    for _ in range(40):
        begin = time.perf_counter()
        instance.infer(tensors)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)
