"""Runs a model as a function would: in a process of its own, which holds nothing else, and is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lamella
from lamella.tensors import Array, datatype_of
from lamella.wire import decode, encode

_ROUNDS = 5


@dataclass(frozen=True)
class Run:
    """One request.

    Attributes:
        infer_ms: Each time it was inferred.
        outputs: What came out; None where it is no tensor, or a tensor that does not travel.
        error: Why it failed, or None.
    """

    infer_ms: tuple[float, ...] = ()
    outputs: Mapping[str, Array | None] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Trial:
    """What a process measured.

    Attributes:
        runs: One entry a request; fewer where it stopped at the first that succeeded.
        load_ms: Reading the model and creating the engine's session.
        floor_bytes: Resident memory with Python, NumPy and the engine, before the model.
        peak_bytes: Resident memory at its worst.
        error: Why the model was not loaded, or how the process ended; None where it did its work.
        killed: Whether the process was killed, as the system does where memory runs out.
    """

    runs: tuple[Run, ...] = ()
    load_ms: float = 0.0
    floor_bytes: int = 0
    peak_bytes: int = 0
    error: str | None = None
    killed: bool = False


def try_out(
    model: Path,
    requests: Sequence[Mapping[str, Array]],
    *,
    threads: int,
    time_limit_s: float,
    rounds: int = _ROUNDS,
    until_first: bool = False,
    custom_ops: Sequence[Path] = (),
) -> Trial:
    """Load a model in a fresh process and infer requests.

    Args:
        model: Its file.
        requests: Inputs by name, in the order they are inferred.
        threads: Threads for one operator.
        time_limit_s: Seconds after which the process is stopped.
        rounds: How often each request is inferred.
        until_first: Stop at the first request that succeeds.
        custom_ops: Shared libraries with custom operators.

    Raises:
        UnsupportedModelError: A request holds what does not travel: a tensor of less than 8 bits an element.
    """
    with tempfile.TemporaryDirectory(prefix="lamella-trial-") as folder:
        files = [Path(folder) / f"{index}.in" for index in range(len(requests))]
        for file, request in zip(files, requests, strict=True):
            file.write_bytes(encode(request).to_bytes())
        order = {
            "model": str(model.absolute()),
            "requests": [str(file) for file in files],
            "threads": threads,
            "rounds": rounds,
            "until_first": until_first,
            "custom_ops": [str(library) for library in custom_ops],
            "result": str(Path(folder) / "result.json"),
        }
        return _run(order, time_limit_s)


def _run(order: Mapping[str, object], time_limit_s: float) -> Trial:
    paths = (str(Path(lamella.__file__).parents[1]), os.environ.get("PYTHONPATH"))
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    command = [sys.executable, "-m", "lamella.checking.trial_process"]
    try:
        finished = subprocess.run(
            command,
            input=json.dumps(order),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            timeout=time_limit_s,
            env=surroundings,
        )
    except subprocess.TimeoutExpired:
        return Trial(error=f"it took longer than {time_limit_s:.0f} s")
    if finished.returncode < 0:
        stopped = -finished.returncode
        return Trial(error=f"its process was stopped by signal {stopped}", killed=stopped == signal.SIGKILL)
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Trial(error=f"its process failed: {last}")
    try:
        return _trial(json.loads(Path(str(order["result"])).read_text()))
    except (OSError, ValueError, KeyError):  # it ended early, with an exit status of 0
        return Trial(error="its process left no result that can be read")


def _trial(found: dict[str, object]) -> Trial:
    runs = found["runs"]
    assert isinstance(runs, list)
    return Trial(
        tuple(Run(tuple(run["infer_ms"]), _outputs(run), run["error"]) for run in runs),
        float(str(found["load_ms"])),
        int(str(found["floor_bytes"])),
        int(str(found["peak_bytes"])),
        None if found["error"] is None else str(found["error"]),
    )


def _outputs(run: Mapping[str, object]) -> dict[str, Array | None] | None:
    if run["error"] is not None:
        return None
    names = run["no_tensors"]
    assert isinstance(names, list)
    return {**decode(Path(str(run["outputs"])).read_bytes()), **dict.fromkeys(names)}


def travels(array: object) -> bool:
    """Whether a result is a tensor that a frame can hold."""
    import numpy as np

    return isinstance(array, np.ndarray) and not 0 < datatype_of(array).bits < 8
