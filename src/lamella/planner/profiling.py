"""Measures a model on this machine, operator by operator, as it runs in production: with every optimisation.

Fresh processes do it, so that nothing else is in their memory. One runs the model with the engine's own profiler, which
tells what each optimised operator took, and `attribution` finds the operators of the model behind them. The other runs
it without, since a profiler costs time with every operator: the whole time is its median, and what no operator accounts
for is spread evenly over those that ran.
"""

from __future__ import annotations

import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from lamella import __version__
from lamella.errors import EngineError, InputError, LamellaError, UsageError
from lamella.graph.model import Model
from lamella.graph.reader import load
from lamella.graph.samples import assumed_dims, index_bounds, sample_inputs
from lamella.planner.attribution import Executed, attributed, read_executed
from lamella.planner.measuring import Measured, Request
from lamella.planner.plan import structure_sha256
from lamella.planner.profile import Machine, Profile
from lamella.planner.sizes import value_sizes
from lamella.planner.work import works_of
from lamella.tensors import Array

_STARTS = 3
_START = """
from time import process_time
import lamella.engines.onnxruntime
from lamella.runtime.memory import peak_rss_bytes
print(peak_rss_bytes(), process_time())
"""
_MEASURE = "from lamella.planner.measuring import main; main()"


def measure_profile(
    model_path: str | Path,
    *,
    threads: int = 1,
    inputs: Mapping[str, Array] | None = None,
    dims: Mapping[str, int] | None = None,
    rounds: int | None = None,
    custom_ops: Sequence[str | Path] = (),
) -> Profile:
    """Run a model here and find how long each of its operators takes.

    Takes three loads of the model and about five seconds of runs; memory as the model itself needs. What the engine's
    optimisation makes of the weights is written to the folder for temporary files, and removed.

    Args:
        model_path: An `.onnx` file.
        threads: Threads for one operator; 1 measures what one virtual processor does.
        inputs: Arrays for inputs by name; the others are made up.
        dims: Sizes of symbolic dimensions that no given input tells; the others are assumed.
        rounds: Runs to take the median of; by default as many as two seconds take, from 5 to 50.
        custom_ops: Shared libraries with custom operators.

    Raises:
        InputError: An input is unknown, or one that is not given cannot be made up.
        EngineError: The engine refuses the model, or fails on these inputs.
    """
    if threads < 1 or (rounds is not None and rounds < 1):
        raise UsageError("a profile needs 1 thread and 1 round, or more", hint="leave both out")
    model = load(model_path)
    feeds, sizes_of_dims = _feeds(model, inputs or {}, dims or {})
    libraries = tuple(Path(library).absolute() for library in custom_ops)
    with TemporaryDirectory(prefix="lamella-profile-") as folder:
        scratch = Path(folder)
        path = model.path.absolute()
        spent_ms = _measured(Request("operators", threads, path, feeds, rounds, libraries, scratch), inputs is None)
        whole = _measured(Request("whole", threads, path, feeds, rounds, libraries, scratch), inputs is None)
        executed = _completed(read_executed(scratch / "graph.onnx", spent_ms), spent_ms, whole["measured_ms"])
    machine = _machine(whole)
    sizes, values = value_sizes(model, custom_ops=custom_ops, dims=sizes_of_dims)
    works = works_of(model, values, sizes_of_dims, sizes=sizes)
    expected = [work.milliseconds(gflops=machine.gflops, memory_gb_s=machine.memory_gb_s) for work in works]
    return Profile(
        structure_sha256=structure_sha256(model),
        machine=machine,
        versions={
            "lamella": __version__,
            "onnxruntime": version("onnxruntime"),
            "python": platform.python_version(),
        },
        threads=threads,
        dims=sizes_of_dims,
        rounds=int(whole["rounds"]),
        measured_ms=whole["measured_ms"],
        node_ms=tuple(attributed(model, executed, expected)),
        session_ms=whole["session_ms"],
        resident_bytes=int(whole["resident_bytes"]),
        peak_bytes=int(whole["peak_bytes"]),
    )


def measure_machine(*, threads: int = 1) -> Machine:
    """How fast this machine is, through the engine, in fresh processes: about a second."""
    return _machine(_measured(Request("machine", threads), True))


def _feeds(
    model: Model, given: Mapping[str, Array], dims: Mapping[str, int]
) -> tuple[dict[str, Array], dict[str, int]]:
    """An array for each input, and the sizes of the symbolic dimensions in them."""
    specs = [value.spec for value in model.graph.required_inputs]
    unknown = given.keys() - {value.name for value in model.graph.inputs}
    if unknown:
        names = ", ".join(f"`{spec.name}`" for spec in specs)
        raise InputError(f"the model has no input `{min(unknown)}`", hint=f"the inputs are {names}")
    sizes = dict(dims)
    for spec in specs:
        if spec.name in given:
            pairs = zip(spec.shape or (), np.shape(given[spec.name]), strict=False)
            sizes.update((dim, size) for dim, size in pairs if isinstance(dim, str))
    sizes = assumed_dims(specs, given=sizes)
    missing = [spec for spec in specs if spec.name not in given]
    return {**given, **sample_inputs(missing, bounds=index_bounds(model), given=sizes)}, sizes


def _completed(executed: Sequence[Executed], spent_ms: Measured, whole_ms: float) -> list[Executed]:
    """The nodes that ran with times that add up to the whole: each takes an equal part of what none accounts for."""
    ran = [node for node in executed if node.name in spent_ms]
    known_ms = sum(node.ms for node in ran)
    if not ran:
        return []
    if known_ms > whole_ms:
        return [Executed(n.name, n.inputs, n.outputs, n.ms * whole_ms / known_ms) for n in ran]
    each_ms = (whole_ms - known_ms) / len(ran)
    return [Executed(n.name, n.inputs, n.outputs, n.ms + each_ms) for n in ran]


def _machine(measured: Measured) -> Machine:
    starts = [_start() for _ in range(_STARTS)]
    return Machine(
        processor=_processor(),
        gflops=measured["gflops"],
        memory_gb_s=measured["memory_gb_s"],
        floor_bytes=int(median(floor for floor, _ in starts)),
        runtime_ms=median(time for _, time in starts),
    )


def _start() -> tuple[int, float]:
    """Resident bytes of a process with the engine and no model, and milliseconds of the processor to start it."""
    printed = subprocess.run([sys.executable, "-c", _START], env=_environment(), capture_output=True, check=True).stdout
    floor, seconds = printed.split()
    return int(floor), float(seconds) * 1000


def _measured(request: Request, made_up: bool) -> Measured:
    """Let a fresh process measure."""
    finished = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        input=pickle.dumps(request),
        env=_environment(),
        capture_output=True,
        check=False,
    )
    if finished.returncode:
        last = (finished.stderr.decode(errors="replace").strip() or "it said nothing").splitlines()[-1]
        raise EngineError(
            f"the process that measures the model ended with status {finished.returncode}: {last}",
            hint="-9 means that the system ran out of memory" if finished.returncode == -9 else None,
        )
    answer: Measured | LamellaError = pickle.loads(finished.stdout)  # noqa: S301 - from the process just started
    if isinstance(answer, EngineError) and made_up:
        raise EngineError(answer.message, hint="inputs were made up: give real ones with `--input`") from answer
    if isinstance(answer, LamellaError):
        raise answer
    return answer


def _environment() -> dict[str, str]:
    """This process's environment, and where it finds its modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
