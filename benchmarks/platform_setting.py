"""What the parts of `platform_local.py` share: functions made of models, and what else went on while they ran."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import models
import numpy as np
import onnx
from machine import busy
from measure import Sample

if TYPE_CHECKING:
    from lamella.packaging.package import Package
    from lamella.platforms import Platform
    from lamella.runtime.function import Delivery

MEMORY_MB = 1769
"""One virtual processor: what a function has here unless its memory is what is measured."""

PAUSE_S = (0.04, 0.08)
"""Before a request to an idle function: it stands still by then, and has the share of a whole period saved up."""


@dataclass(frozen=True)
class Setting:
    """How much is measured, and where files lie meanwhile.

    Attributes:
        folder: For everything that is made; removed afterwards.
        cache: Of the benchmarked models.
        rounds: How often everything is measured.
        quick: Only whether it works.
    """

    folder: Path
    cache: Path
    rounds: int
    quick: bool

    @property
    def platform(self) -> Platform:
        """Whose limits hold."""
        from lamella.platforms import load_platform

        return load_platform("aws-lambda")

    def sliced(self, model: Path, count: int) -> Path:
        """A model in slices, which refer to its weights."""
        import lamella

        folder = self.folder / f"{model.stem}-{count}.slices"
        if not folder.exists():
            lamella.slice(model, folder, slices=count, verify=False)
        return folder

    def packages(
        self, sliced: Path, name: str, *, delivery: Delivery = "package", store: str | None = None
    ) -> list[Package]:
        """A package for each slice."""
        from lamella.packaging.package import build_packages

        return build_packages(
            sliced, name=name, platform=self.platform, delivery=delivery, store=store, cache=self.folder / "cache"
        )

    def model(self, name: str) -> models.BenchModel:
        """A benchmarked model."""
        return models.make(name, self.cache)

    def remove(self) -> None:
        """Delete what was made."""
        from lamella.targets.state import remove_tree

        remove_tree(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def passing(folder: Path, elements: int) -> Path:
    """A model that makes a tensor of so many FP32 elements of one, and takes the largest of them: `x` to `y`.

    Cut in two, nothing but that tensor passes between its slices, and nothing of its size comes in or goes out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"passing-{elements}.onnx"
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node("Expand", ["x", "size"], ["passed"]),
        helper.make_node("ReduceMax", ["passed"], ["y"], axes=[0], keepdims=1),
    ]
    x, y, passed = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [size])
        for name, size in (("x", 1), ("y", 1), ("passed", elements))
    )
    size = numpy_helper.from_array(np.array([elements], np.int64), "size")
    graph = helper.make_graph(nodes, "passing", [x], [y], [size], value_info=[passed])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def tree_processor_s() -> float:
    """Processor time of this process and of all that it has started, and they in turn; those that have ended, too."""
    from lamella.targets.local.process import descendants

    ticks = 0
    for process in descendants(os.getpid()):
        ticks += sum(_ticks(process))
    return ticks / os.sysconf("SC_CLK_TCK")


def function_processor_s(function: str) -> float:
    """Processor time that the instances of a function have used which are alive, to a hundredth of a second."""
    from lamella.targets.local.process import descendants

    mark, ticks = f"AWS_LAMBDA_FUNCTION_NAME={function}".encode(), 0
    for process in descendants(os.getpid()):
        try:
            variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in variables:
            ticks += sum(_ticks(process)[:2])
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(process: int) -> tuple[int, ...]:
    """What it has used in user and system mode, and what its children have that have ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended; its parent has its ticks now
        return (0, 0, 0, 0)
    return tuple(int(field) for field in fields[11:15])


@contextmanager
def metered(label: str, number: int) -> Iterator[Sample]:
    """A sample to be filled in; how long it took, and what others did meanwhile, is put in at the end."""
    sample: Sample = {"label": label, "round": number}
    before, began, own_s = busy(), time.monotonic(), tree_processor_s()
    yield sample
    sample["elapsed_s"] = time.monotonic() - began
    sample["others_share"] = before.others_share(own_s=tree_processor_s() - own_s)
    print(f"  {label:40}{_line(sample)}", flush=True)


def _line(sample: Sample) -> str:
    if "error" in sample:
        return sample["error"]
    return f"{1000 * sample['seconds']:10.2f} ms    others used {sample['others_share']:.0%}"


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent of `values` lie.

    >>> percentile([1, 2, 3, 4, 5], 50)
    3.0
    """
    if len(values) == 1:
        return float(values[0])
    return float(statistics.quantiles(values, n=100, method="inclusive")[percent - 1])


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds to the microsecond."""
    return {name: round(value, 3) for name, value in values.items()}
