"""What the processes do that measure a model: see `profiling`. Each is fresh, and does one of three things."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Literal

import numpy as np

from lamella.engines.base import EngineOptions
from lamella.engines.onnxruntime import OnnxRuntimeEngine, OnnxRuntimeSession, load_profiled
from lamella.errors import LamellaError
from lamella.graph.loadable import loadable
from lamella.graph.reader import load
from lamella.planner.attribution import numbered
from lamella.runtime.memory import peak_rss_bytes
from lamella.tensors import Array

WARM_UP = 2
"""Runs before those that count: the first ones grow the engine's memory."""

_ENOUGH_S, _FEWEST, _MOST = 2.0, 5, 50
_MOST_EVENTS = 200_000  # of half a kilobyte each, in the engine's file of times
_KEPT_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Request:
    """What a process is to measure.

    Attributes:
        task: `operators`: each optimised operator; `whole`: the whole model, and the machine; `machine`: only that.
        threads: Threads for one operator.
        model: The model's file.
        feeds: Its inputs.
        rounds: Runs that count; None: as many as two seconds take.
        custom_ops: Shared libraries with custom operators.
        scratch: A folder for what the engine writes.
    """

    task: Literal["operators", "whole", "machine"]
    threads: int
    model: Path = Path()
    feeds: Mapping[str, Array] | None = None
    rounds: int | None = None
    custom_ops: tuple[Path, ...] = ()
    scratch: Path = Path()


Measured = dict[str, float]


def main() -> None:
    """Read a request from standard input, measure, and write the numbers, or the error, to standard output."""
    request: Request = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    tasks: dict[str, Callable[[Request], Measured]] = {"operators": _operators, "whole": _whole, "machine": _machine}
    answer: Measured | LamellaError
    try:
        answer = tasks[request.task](request)
    except LamellaError as error:
        answer = error
    pickle.dump(answer, sys.stdout.buffer)


def _operators(request: Request) -> Measured:
    """Milliseconds of each optimised operator, by the engine's name for it; writes the graph that ran.

    The lower quartile of the runs: the engine's clock goes on while another process has the processor.
    """
    model = load(request.model)
    data, folder = loadable(model, numbered(model.structure))
    options = EngineOptions(threads=request.threads, custom_ops=request.custom_ops)
    session = load_profiled(data, options, folder=folder, scratch=request.scratch)
    most = max(1, min(_MOST, _MOST_EVENTS // max(1, len(model.graph.nodes))))
    _rounds(session, request, most=most)
    found: dict[str, list[float]] = {}
    for event in json.loads(session.end_profiling().read_text()):
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KEPT_SUFFIX):
            found.setdefault(name.removesuffix(_KEPT_SUFFIX), []).append(event["dur"] / 1000)
    return {name: _lower_quartile(times[WARM_UP:] or times) for name, times in found.items()}


def _whole(request: Request) -> Measured:
    """The whole model: loading, running, memory; then the machine. Its file is in the page cache by then."""
    model = load(request.model)
    data, folder = loadable(model, model.structure)
    floor = _resident_bytes()
    clock = _clock(request)
    started = clock()
    options = EngineOptions(threads=request.threads, custom_ops=request.custom_ops)
    session = OnnxRuntimeEngine().load(data, options, folder=folder)
    session_ms = (clock() - started) * 1000
    times = _rounds(session, request)
    measured = {
        "session_ms": session_ms,
        "resident_bytes": max(0, _resident_bytes() - floor),
        "peak_bytes": max(0, peak_rss_bytes() - floor),
        "measured_ms": median(times),
        "rounds": len(times),
    }
    session.close()
    return {**measured, **_machine(request)}


def _clock(request: Request) -> Callable[[], float]:
    """On one thread, time of the processor, whoever else uses it meanwhile; of several, the time that passes."""
    return thread_time if request.threads == 1 else perf_counter


def _rounds(session: OnnxRuntimeSession, request: Request, *, most: int = _MOST) -> list[float]:
    """Milliseconds of each run that counts."""
    clock, feeds, times = _clock(request), request.feeds or {}, list[float]()
    for _ in range(WARM_UP):
        session.infer(feeds)
    begun = perf_counter()
    while len(times) < (request.rounds or min(most, _FEWEST)) or (
        request.rounds is None and len(times) < most and perf_counter() - begun < _ENOUGH_S
    ):
        started = clock()
        session.infer(feeds)
        times.append((clock() - started) * 1000)
    return times


def _machine(request: Request) -> Measured:
    """How fast this machine computes and moves, through the engine and on as many threads."""
    image, filters = np.ones((1, 256, 56, 56), np.float32), np.ones((256, 256, 3, 3), np.float32)
    convolution_ms = _operator_ms("Conv", image, filters, request.threads, [1, 1, 1, 1])
    wide = np.ones((2, 1024, 1024), np.float32)
    moved_ms = _operator_ms("Relu", wide, None, request.threads)
    flops = 2 * image.size * filters[0].size
    return {"gflops": flops / convolution_ms / 1e6, "memory_gb_s": 2 * wide.nbytes / moved_ms / 1e6}


def _operator_ms(op: str, array: Array, weight: Array | None, threads: int, pads: Sequence[int] = ()) -> float:
    """Milliseconds of one operator that keeps an array's shape: the lower quartile, since others only slow it down."""
    from onnx import helper, numpy_helper

    shaped = [helper.make_tensor_value_info(name, 1, array.shape) for name in ("x", "y")]
    weights = [] if weight is None else [numpy_helper.from_array(weight, "w")]
    node = helper.make_node(op, ["x", *(tensor.name for tensor in weights)], ["y"], pads=pads or None)
    graph = helper.make_graph([node], op, shaped[:1], shaped[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = OnnxRuntimeEngine().load(model.SerializeToString(), EngineOptions(threads=threads))
    return _lower_quartile(_rounds(session, Request("machine", threads, feeds={"x": array}, rounds=20)))


def _lower_quartile(times: Sequence[float]) -> float:
    return sorted(times)[len(times) // 4]


def _resident_bytes() -> int:
    """What is resident now; at most so much where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_rss_bytes()
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
