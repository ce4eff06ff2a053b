"""One classifier at the memory sizes of a published table: does its latency fall as its share of a processor grows?"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from measure import Sample
from platform_client import one_after_the_other
from platform_setting import PAUSE_S, Setting, function_processor_s, metered, rounded
from results import Group

if TYPE_CHECKING:
    from lamella.targets.local.platform import LocalPlatform

MODEL = "mobilenet-v1"
MEMORY_MB = (768, 1536, 2240, 3008)
PIXELS, SEED = 224, 7
PUBLISHED_MS = {768: 138.0, 1536: 62.6, 2240: 42.5, 3008: 32.3}
"""Serverless MLPerf: MobileNetV1 with OpenVINO on AWS Lambda, at these sizes."""


def sweep(setting: Setting) -> list[Group]:
    """At each size, requests that follow each other at once, and requests that find the function idle."""
    from lamella.runtime.payload import Event, encode_event
    from lamella.targets.local.platform import FunctionSpec, LocalPlatform

    seed = np.random.default_rng(0).standard_normal((1, 3, SEED, SEED), np.float32)
    event, samples = encode_event(Event("a-request", {"seed": seed})), []
    model = _from_a_seed(setting.model(MODEL).path, setting.folder / f"{MODEL}-tiled.onnx")
    (package,) = setting.packages(setting.sliced(model, 1), MODEL)
    with LocalPlatform(setting.folder / "platform", limits=setting.platform.limits) as platform:
        for size in MEMORY_MB:
            platform.create(FunctionSpec(f"{MODEL}-{size}", package.folder, memory_mb=size, timeout_s=60))
        for number in range(setting.rounds):
            for size in MEMORY_MB:
                with metered(f"{size} MB", number) as sample:
                    _measure(platform, sample, f"{MODEL}-{size}", event, quick=setting.quick)
                samples.append(sample)
    return [Group(name="sweep", model=MODEL, slices=1, samples=samples)]


def _from_a_seed(model: Path, tiled: Path) -> Path:
    """The classifier with an image that it makes of a small one: nothing to speak of is on the way to it."""
    loaded = onnx.load(model)
    graph, image = loaded.graph, loaded.graph.input[0].name
    repeats = np.array([1, 1, PIXELS // SEED, PIXELS // SEED], np.int64)
    graph.initializer.append(onnx.numpy_helper.from_array(repeats, "repeats"))
    graph.node.insert(0, onnx.helper.make_node("Tile", ["seed", "repeats"], [image]))
    del graph.input[:]
    graph.input.append(onnx.helper.make_tensor_value_info("seed", onnx.TensorProto.FLOAT, [1, 3, SEED, SEED]))
    onnx.save(loaded, tiled)
    return tiled


def _measure(platform: LocalPlatform, sample: Sample, function: str, event: bytes, *, quick: bool) -> None:
    """Busy requests count as `seconds`: the inference alone, without the way there and back."""
    from lamella.runtime.payload import decode_answer

    infer_ms: list[float] = []

    def ask() -> None:
        done = platform.invoke(function, event)
        if done.status != 200 or done.function_error:
            raise RuntimeError(done.error_message)
        infer_ms.append(decode_answer(done.payload).timing.infer_ms)

    def busy(seconds: float) -> float:
        infer_ms.clear()
        began = last = time.perf_counter()
        while last - began < seconds:
            ask()
            last = time.perf_counter()
        return last - began

    busy(0.5)  # what a start has left of its share is used up then
    before = function_processor_s(function)
    took_s = busy(1.0 if quick else 3.0)
    used_s, busy_ms = function_processor_s(function) - before, list(infer_ms)
    infer_ms.clear()
    idle = one_after_the_other(ask, 10 if quick else 40, PAUSE_S)["request_ms"]
    sample["seconds"] = statistics.mean(busy_ms) / 1000
    sample["facts"] = rounded(
        {
            "busy_ms": statistics.mean(busy_ms),
            "busy_requests": len(busy_ms),
            "share": used_s / took_s,
            "processor_ms": 1000 * used_s / len(busy_ms),
            "idle_ms": statistics.median(infer_ms[3:]),
            "idle_request_ms": statistics.median(idle),
        }
    )
