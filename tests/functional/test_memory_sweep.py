"""More memory brings more of the processors, and so a faster classifier: what a function gets, and what that does.

Shares are measured as processor time. While it is measured, a function goes before whatever else this machine does, so
that nothing but its quota holds it back; times are compared between sizes that are far apart.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests import models

import lamella
from lamella.packaging.package import build_packages
from lamella.platforms import load_platform
from lamella.runtime.cpu import MB_PER_VCPU
from lamella.runtime.payload import Event, decode_answer, encode_event
from lamella.targets.local.platform import FunctionSpec, LocalPlatform
from lamella.targets.local.sandbox import detect

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or "cpu" not in detect().hierarchy,
    reason="shares of processors need cgroups with the controller `cpu`: root with version 1, or a delegated version 2",
)

SIZES_MB = (768, 1536, 2240, 3008)
SECONDS, ROUNDS = 1.2, 3
COPIES = 10
"""Images that one request is worth, so that its way to the function and back takes next to nothing beside it."""
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 96, 96), np.float32)
ROOT = Path("/sys/fs/cgroup")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """A function under requests that follow each other at once.

    Attributes:
        quota: Processors that the kernel lets it have.
        share: Processor time that it has used in a second.
        infer_ms: The median of what its inferences have taken.
        processor_ms: Processor time for a request.
    """

    quota: float
    share: float
    infer_ms: float
    processor_ms: float


def classifier(path: Path) -> Path:
    """`image` FP32[1, 3, 96, 96] to `scores` of its copies: depthwise and pointwise convolutions, as in MobileNetV1."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def convolution(x: str, channels: int, wide: int, *, kernel: int, stride: int = 1, group: int = 1) -> str:
        name = f"conv{len(nodes)}"
        weights.append(models.weight(f"{name}.weight", wide, channels // group, kernel, kernel))
        attributes = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": group}
        nodes.append(helper.make_node("Conv", [x, f"{name}.weight"], [name], name, **attributes))
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"]))
        return f"{name}.relu"

    nodes.append(helper.make_node("Expand", ["image", "copies"], ["images"]))
    weights.append(numpy_helper.from_array(np.array([COPIES, 1, 1, 1], np.int64), "copies"))
    x, channels = convolution("images", 3, 64, kernel=3, stride=2), 64
    for wide, stride in ((128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1)):
        x = convolution(x, channels, channels, kernel=3, stride=stride, group=channels)
        x, channels = convolution(x, channels, wide, kernel=1), wide
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "classes"], ["scores"]),
    ]
    weights.append(models.weight("classes", channels, 10))
    inputs, outputs = [models.floats("image", [1, 3, 96, 96])], [models.floats("scores", [COPIES, 10])]
    return models.save(path, helper.make_graph(nodes, "classifier", inputs, outputs, weights))


def processes(function: str) -> list[Path]:
    """The folders in /proc of the function's processes."""
    mark, found = f"AWS_LAMBDA_FUNCTION_NAME={function}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(path.parent)
    return found


def processor_s(function: str) -> float:
    """Processor time that the function's processes have used, to a hundredth of a second."""
    ticks = 0
    for process in processes(function):
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def cgroup_files(function: str, name: str) -> set[Path]:
    """Files of that name in the cgroups of the function."""
    found = set()
    for process in processes(function):
        for line in (process / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            roots = ("cpu",) if "cpu" in controllers.split(",") else () if controllers else ("", "unified")
            found |= {ROOT / root / path.lstrip("/") / name for root in roots if "lamella-" in path}
    return {path for path in found if path.exists()}


def go_first(function: str) -> None:
    """Let a function have a processor before others whenever it may have one."""
    for name, most in (("cpu.shares", "262144"), ("cpu.weight", "10000")):
        for file in cgroup_files(function, name):
            file.write_text(most)


def quota(function: str) -> float:
    """Processors that the kernel lets it have."""
    for file in cgroup_files(function, "cpu.max"):
        most, period = file.read_text().split()
        return int(most) / int(period)
    (most_us,) = cgroup_files(function, "cpu.cfs_quota_us")
    return int(most_us.read_text()) / int(most_us.with_name("cpu.cfs_period_us").read_text())


def measure(platform: LocalPlatform, function: str) -> Measured:
    """Send one request after the other for a while."""
    event, infer_ms = encode_event(Event("a-request", {"image": IMAGE})), []

    def send(seconds: float) -> float:
        infer_ms.clear()
        began = time.monotonic()
        while (took := time.monotonic() - began) < seconds:
            done = platform.invoke(function, event)
            assert done.function_error is None, done
            infer_ms.append(decode_answer(done.payload).timing.infer_ms)
        return took

    send(0.3)  # a start has saved up nothing, and has used up nothing, after that
    go_first(function)
    before = processor_s(function)
    took = send(SECONDS)
    used = processor_s(function) - before
    return Measured(quota(function), used / took, median(infer_ms), 1000 * used / len(infer_ms))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Measured]:
    """For each size the quickest of three rounds."""
    folder = tmp_path_factory.mktemp("sweep")
    platform = load_platform("aws-lambda")
    sliced = lamella.slice(classifier(folder / "classifier.onnx"), folder / "slices", slices=1, verify=False)
    (package,) = build_packages(sliced.directory, name="sweep", platform=platform, cache=folder / "cache")
    with LocalPlatform(folder / "platform", limits=platform.limits) as local:
        names = {size: f"sweep-{os.getpid()}-{size}" for size in SIZES_MB}
        for size, name in names.items():
            local.create(FunctionSpec(name, package.folder, memory_mb=size, timeout_s=30))
        rounds = [{size: measure(local, name) for size, name in names.items()} for _ in range(ROUNDS)]
    found = {size: min((one[size] for one in rounds), key=lambda one: one.infer_ms) for size in SIZES_MB}
    say(f"{'':7}{'processors':>12}{'measured':>12}{'inference':>12}{'processor time':>16}")
    for size, one in found.items():
        times = f"{one.infer_ms:9.1f} ms{one.processor_ms:13.1f} ms"
        say(f"{size:4} MB{size / MB_PER_VCPU:12.2f}{one.share:12.2f}{times}")
    return found


def say(line: str) -> None:
    """Print a line, which `pytest -s` shows."""
    sys.stdout.write(f"{line}\n")


def test_no_function_gets_more_of_the_processors_than_its_memory_brings(sweep: dict[int, Measured]) -> None:
    for size, one in sweep.items():
        assert one.quota == pytest.approx(size / MB_PER_VCPU, rel=0.01)
        assert one.share <= 1.15 * one.quota, size


def test_a_function_gets_most_of_its_share_while_it_infers(sweep: dict[int, Measured]) -> None:
    there = len(os.sched_getaffinity(0))
    for size, one in sweep.items():
        assert one.processor_ms / one.infer_ms >= 0.6 * min(one.quota, there), size


def test_the_same_work_takes_the_same_processor_time(sweep: dict[int, Measured]) -> None:
    assert 0.6 < sweep[768].processor_ms / sweep[1536].processor_ms < 1.7  # one thread in both; two wait for each other


def test_latency_falls_as_the_share_grows(sweep: dict[int, Measured]) -> None:
    assert sweep[768].infer_ms > 1.3 * sweep[1536].infer_ms
    assert sweep[768].infer_ms > 1.5 * sweep[3008].infer_ms
