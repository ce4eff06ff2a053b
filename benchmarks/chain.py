"""A model's slices as functions that call nobody: the caller sends each value to the slices that use it."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from cgroup import MB_PER_VCPU
from function import Function, Instance, started
from machine import busy, processor_s
from models import BenchModel, inputs
from pipeline_jobs import digest

if TYPE_CHECKING:
    from measure import Sample
    from models import Inputs

    from lamella.planner.plan import Plan

PAUSE_S = (0.04, 0.08)
"""Before each request the functions are idle for a time between these: at least two periods of the processors' shares.

So a request begins anywhere in a period, with the share of a whole one saved up. That is how most requests meet a
function, since an instance serves one at a time; `planner.cost` tells what it means for their time.
"""

HOPS = 60

BUSY_S = 0.5
BUSY_REQUESTS = 3


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


def measure_chain(slices: Slices, memory_mb: Sequence[int], *, requests: int) -> Sample:
    """Start a function for each slice, one after the other, and send requests to the chain.

    The sample's `seconds` are the mean over requests to idle functions, its `seconds_since_start` the time until the
    last function could take a request where they are started in turn, and its memory the sum of the functions' peaks.
    Of its facts, `request_ms` are those requests, and `busy_ms` is the mean of requests that follow each other at once.

    Raises:
        FunctionError: A function ended: too little memory, or it cannot load its slice.
    """
    tensors = inputs(slices.model.name)
    pauses = random.Random(requests)
    before, begin, own_s = busy(), time.monotonic(), time.process_time()
    with _started(slices.functions(memory_mb)) as instances:
        answer = infer(instances, tensors)[slices.plan.slices[-1].outputs[0]]
        infer(instances, tensors)
        for instance in instances:
            instance.report()
        request_ms = [_idle_ms(partial(infer, instances, tensors), pauses) for _ in range(requests)]
        reports = [instance.report() for instance in instances]
        busy_ms = _busy_ms(instances, tensors)
        own_s = time.process_time() - own_s + sum(processor_s(instance.process.pid) for instance in instances)
        return {
            "elapsed_s": time.monotonic() - begin,
            "seconds": statistics.mean(request_ms) / 1000,
            "seconds_since_start": sum(instance.start_ms for instance in instances) / 1000,
            "peak_bytes": sum(report["peak_bytes"] for report in reports),
            "cgroup_peak_bytes": sum(instance.cgroup.peak_bytes or 0 for instance in instances),
            "others_share": before.others_share(own_s=own_s),
            "facts": {
                "answer": digest(answer),
                "memory_mb": list(memory_mb),
                "request_ms": [round(each, 3) for each in request_ms],
                "busy_ms": round(busy_ms, 3),
                "start_ms": [round(instance.start_ms, 1) for instance in instances],
                "import_ms": [round(report["import_ms"], 1) for report in reports],
                "load_ms": [round(report["load_ms"], 1) for report in reports],
                "billed_ms": [round(statistics.mean(report["request_ms"]), 3) for report in reports],
                "peak_bytes": [report["peak_bytes"] for report in reports],
            },
        }


@contextlib.contextmanager
def _started(functions: Sequence[Function]) -> Iterator[list[Instance]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(started(function)) for function in functions]


def _idle_ms(request: Callable[[], object], pauses: random.Random) -> float:
    """Milliseconds of a request to functions that were idle."""
    time.sleep(pauses.uniform(*PAUSE_S))
    begin = time.perf_counter()
    request()
    return 1000 * (time.perf_counter() - begin)


def _busy_ms(instances: Sequence[Instance], tensors: Inputs) -> float:
    """Mean milliseconds of requests that follow each other at once: single ones tell little about a share."""
    begin = last = time.perf_counter()
    count = 0
    while count < BUSY_REQUESTS or last - begin < BUSY_S:
        infer(instances, tensors)
        last, count = time.perf_counter(), count + 1
    return 1000 * (last - begin) / count


@dataclass(frozen=True)
class Transport:
    """How fast requests travel between two processes here.

    Attributes:
        hop_ms: The way to an idle function and back, for a request and an answer that are next to empty.
        handler_ms: What the function itself takes then, with a model that has nothing to do.
        mb_s: MB a second that a request and its answer carry, encoding and decoding included.
    """

    hop_ms: float
    handler_ms: float
    mb_s: float


def measure_transport(folder: Path) -> Transport:
    """Send a little, and 4 MB, to a function whose model is one `Identity`."""
    value = {name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy"}
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "identity", [value["x"]], [value["y"]])
    folder.mkdir(parents=True, exist_ok=True)
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=[opset]), folder / "identity.onnx")
    import lamella

    lamella.slice(folder / "identity.onnx", folder / "slices", slices=1, copy_weights=True, verify=False)
    with started(Function(folder / "slices", 0, {"x": "FP32", "y": "FP32"}, MB_PER_VCPU)) as instance:
        small_ms, large_ms = (_mean_ms(instance, elements) for elements in (16, 1 << 20))
        _mean_ms(instance, 16)
        handler_ms = statistics.mean(instance.report()["request_ms"])
    return Transport(small_ms - handler_ms, handler_ms, 8 / max(large_ms - small_ms, 1e-3) * 1000)


def _mean_ms(instance: Instance, elements: int) -> float:
    """Mean milliseconds of a request to the idle function, which a report has none of afterwards but these."""
    tensors: Inputs = {"x": np.zeros(elements, np.float32)}
    pauses = random.Random(elements)
    instance.infer(tensors)
    instance.report()
    return statistics.mean(_idle_ms(partial(instance.infer, tensors), pauses) for _ in range(HOPS))
