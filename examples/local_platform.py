"""The second half of the demo: the same search from functions with a serverless platform's limits, on this machine.

The slices are deployed with the command line, as a user would, and asked over HTTP. Then each slice, and the whole
model, is tried at smaller and smaller memory sizes, to find the least at which it answers at full speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from lamella.packaging.package import Package
    from lamella.targets.local.platform import LocalPlatform

NAME = "minilm"
MEMORY_MB = 1769  # one virtual processor on AWS Lambda
LEAST_MB, MOST_MB, STEP_MB = 48, 512, 8
SLOWER = 1.25  # at full speed: at most so many times what it takes with plenty of memory
TICK_S = 0.004  # what a scheduler may add to any request
REQUESTS = 6

Array = npt.NDArray[Any]


def deployed(slices: Path, home: Path, tokens: Path) -> Mapping[str, Array]:
    """Deploy, ask twice, ask over HTTP, delete; returns what came over HTTP."""
    found = lamella("deploy", slices, "--name", NAME, "--memory", MEMORY_MB, "--cold", "parallel", "--yes", home=home)
    try:
        sizes = ", ".join(f"{function['unzipped_bytes'] / 1e6:.0f}" for function in found["functions"])
        print(f"   functions of {MEMORY_MB:,} MB; their packages take {sizes} MB unzipped")
        for start in ("cold", "warm"):
            timeline(start, lamella("infer", NAME, "--input", tokens, home=home)["timeline"])
        began = perf_counter()
        answer = ask(found["url"], Path(found["token_file"]).read_text(), tokens)
        print(f"   POST {found['url']}: {1000 * (perf_counter() - began):.0f} ms")
        return answer
    finally:
        lamella("delete", NAME, "--yes", home=home)


def lamella(*arguments: object, home: Path) -> dict[str, Any]:
    """A verb of the command line; what it says as JSON."""
    command = [sys.executable, "-m", "lamella", *map(str, arguments), "--json"]
    environment = os.environ | {"LAMELLA_HOME": str(home)}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def timeline(start: str, runs: Sequence[Mapping[str, Any]]) -> None:
    """Print what each slice of one request did, and when."""
    print(f"   a {start} request, ms                 begins    init    load   infer  transfer     ends")
    for run in runs:
        cells = [run[name] for name in ("begin_ms", "init_ms", "load_ms", "infer_ms", "transfer_ms", "end_ms")]
        texts = ["-" if cell is None else f"{cell:.0f}" for cell in cells]
        begin, init, load, infer, transfer, end = texts
        print(f"     {run['function']:30} {begin:>8}{init:>8}{load:>8}{infer:>8}{transfer:>10}{end:>9}")


def ask(url: str, token: str, tokens: Path) -> Mapping[str, Array]:
    """One request of the Open Inference Protocol, in JSON."""
    with np.load(tokens) as arrays:
        inputs = [
            {"name": name, "shape": array.shape, "datatype": "INT64", "data": array.ravel().tolist()}
            for name, array in arrays.items()
        ]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps({"inputs": inputs}).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        outputs = json.load(answer)["outputs"]
    return {each["name"]: np.array(each["data"], np.float32).reshape(each["shape"]) for each in outputs}


def least_memory(whole: Path, slices: Path, home: Path, inputs: Mapping[str, Array]) -> None:
    """Print the least memory with which each function answers at full speed."""
    from lamella.packaging.package import build_packages
    from lamella.platforms import load_platform
    from lamella.targets.local.platform import LocalPlatform

    aws = load_platform("aws-lambda")
    limits = replace(aws.limits, memory_min_mb=LEAST_MB)
    # A whole processor at every size: what is slower then is slower for want of memory.
    with LocalPlatform(home / "sweep", limits=limits, mb_per_vcpu=LEAST_MB) as local:
        for way, directory in (("whole", whole), ("sliced", slices)):
            values = dict(inputs)
            for package in build_packages(directory, name=way, platform=aws, cache=home):
                label = "whole model" if way == "whole" else f"slice {package.function.slice}"
                print(f"   {label:32} {Tried(local, package, values).least_mb():4} MB")


class Tried:
    """A function at several memory sizes.

    Args:
        local: Where it runs.
        package: What it runs.
        values: Its inputs, by name; its outputs are added.
    """

    def __init__(self, local: LocalPlatform, package: Package, values: dict[str, Array]) -> None:
        from lamella.runtime.payload import Event, decode_answer, encode_event

        self._local, self._package = local, package
        inputs = {spec.name: values[spec.name] for spec in package.function.inputs}
        self._event = encode_event(Event("demo", inputs))
        self._plenty = self._version(MOST_MB)
        values.update(decode_answer(local.invoke(package.function.name, self._event).payload).tensors)

    def least_mb(self) -> int:
        """The least size at which it takes no longer than with plenty of memory, by bisection."""
        low, high = LEAST_MB - STEP_MB, MOST_MB  # `high` is known to do, `low` not to
        while high - low > STEP_MB:
            middle = (low + high) // (2 * STEP_MB) * STEP_MB
            if self._does(middle):
                high = middle
            else:
                low = middle
        return high

    def _does(self, memory_mb: int) -> bool:
        version, seconds = self._version(memory_mb), {}
        for _ in range(REQUESTS):
            for each in (self._plenty, version):  # in turn, since the machine may be busy
                began = perf_counter()
                if self._local.invoke(self._package.function.name, self._event, qualifier=each).error_type:
                    return False
                seconds[each] = min(perf_counter() - began, seconds.get(each, float("inf")))
        return seconds[version] <= SLOWER * seconds[self._plenty] + TICK_S

    def _version(self, memory_mb: int) -> str:
        from lamella.targets.local.platform import FunctionSpec

        spec = FunctionSpec(self._package.function.name, self._package.folder, memory_mb=memory_mb, timeout_s=30)
        return self._local.create(spec)
