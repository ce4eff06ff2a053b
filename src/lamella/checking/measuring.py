"""Memory and time of each function: measured by running it here, or estimated where that is not wanted or fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from lamella.checking.subject import Subject, Subjects
from lamella.checking.trial import Trial, try_out
from lamella.errors import InputError, LamellaError
from lamella.graph.samples import SEQUENCE, sample_inputs
from lamella.planner.cost import CostModel, Load
from lamella.planner.residency import model_held_bytes
from lamella.planner.timing import node_times
from lamella.platforms.base import MB
from lamella.runtime.cpu import thread_count
from lamella.tensors import Array
from lamella.wire import encode

SEQUENCES = (SEQUENCE, 16, 4, 1, 224)
"""Sizes tried for symbolic dimensions until the model runs."""

_NO_LIMIT_S = 900.0


@dataclass(frozen=True)
class Figures:
    """What one function takes.

    Attributes:
        subject: What it runs.
        load: What the cost model is asked with: measured where it was, else estimated.
        peak_bytes: Resident memory at its worst, with `added_bytes`.
        measured: Whether `peak_bytes` and the time come from a run.
        error: Why it could not be loaded, in the engine's words.
        killed: Whether the process that ran it was killed, as the system does where memory runs out.
        failure: Why it was loaded and did not run, in the engine's words.
        added_bytes: The part of `peak_bytes` that the platform's own runtime takes beyond the one here.
    """

    subject: Subject
    load: Load
    peak_bytes: int
    measured: bool
    error: str | None = None
    killed: bool = False
    failure: str | None = None
    added_bytes: int = 0


@dataclass(frozen=True)
class Measurement:
    """What was learnt of everything that is checked.

    Attributes:
        figures: One entry a function.
        inputs: A request that ran, or the first that was made up; None where none can be.
        outputs: What it gave; None for what is no tensor. Empty where nothing ran.
        sequence: Size of the symbolic dimensions in it.
        notes: Why something is estimated that should have been measured.
    """

    figures: tuple[Figures, ...]
    inputs: Mapping[str, Array] | None
    outputs: Mapping[str, Array | None] = field(default_factory=dict)
    sequence: int = SEQUENCE
    notes: tuple[str, ...] = ()


def measure(subjects: Subjects, model: CostModel, memory_mb: int, *, run: bool) -> Measurement:
    """Find out what each function takes, by running one after the other in processes of their own.

    Each process loads what its function would, with the threads that `memory_mb` is worth, and stays below no limit:
    what is measured is what the model takes, not what it could be squeezed into.

    Args:
        subjects: What to run.
        model: The platform's cost model, for estimates.
        memory_mb: Memory of the functions.
        run: Whether to run anything.
    """
    try:
        requests = {sequence: _request(subjects, sequence) for sequence in SEQUENCES}
    except InputError as error:
        note = f"nothing was run: {error.message}"
        return Measurement(tuple(_estimated(part, model) for part in subjects.parts), None, notes=(note,))
    if not _is_symbolic(subjects):
        requests = {SEQUENCE: requests[SEQUENCE]}
    if not run:
        return Measurement(tuple(_estimated(part, model) for part in subjects.parts), requests[SEQUENCE])
    return _Measuring(subjects, model, memory_mb, requests).measurement()


def _request(subjects: Subjects, sequence: int) -> dict[str, Array]:
    return sample_inputs(subjects.inputs, bounds=subjects.index_bounds, sequence=sequence)


def _is_symbolic(subjects: Subjects) -> bool:
    return any(not isinstance(dim, int) for spec in subjects.inputs for dim in spec.shape or ())


class _Measuring:
    """The functions one after the other, each given what those before it made."""

    def __init__(
        self, subjects: Subjects, model: CostModel, memory_mb: int, requests: Mapping[int, Mapping[str, Array]]
    ) -> None:
        self._subjects, self._model, self._requests = subjects, model, requests
        self._threads = thread_count(memory_mb=memory_mb)
        self._notes: list[str] = []
        self._sequence = SEQUENCE
        self._time_limit_s = max(_NO_LIMIT_S, model.platform.limits.timeout_s or 0)

    def measurement(self) -> Measurement:
        values: dict[str, Array | None] = {}
        figures: list[Figures] = []
        for part in self._subjects.parts:
            trial = self._tried(part, values)
            figures.append(self._figures(part, trial))
        inputs = self._requests[self._sequence]
        outputs = {name: values[name] for name in self._subjects.outputs if name in values}
        return Measurement(tuple(figures), inputs, outputs, self._sequence, tuple(self._notes))

    def _tried(self, part: Subject, values: dict[str, Array | None]) -> Trial | None:
        """Run one function and add what it makes to `values`; None where that is not possible."""
        needed = _estimated(part, self._model).peak_bytes
        free = available_bytes()
        if free is not None and needed > free:
            self._notes.append(f"memory{part.label} is estimated: this machine has {free >> 20} MiB free")
            return None
        names = [value.name for value in part.model.graph.required_inputs]
        first = part.index in (None, 0)
        sources: Iterable[Mapping[str, Array | None]] = self._requests.values() if first else [values]
        requests = [{name: source[name] for name in names if source.get(name) is not None} for source in sources]
        if any(len(request) < len(names) for request in requests):
            self._notes.append(f"memory{part.label} is estimated: what it takes was not made")
            return None
        try:
            trial = try_out(
                part.model.path,
                [{name: array for name, array in request.items() if array is not None} for request in requests],
                threads=self._threads,
                time_limit_s=self._time_limit_s,
                until_first=True,
                custom_ops=part.custom_ops,
            )
        except LamellaError as error:  # an input of less than 8 bits an element, which does not travel
            self._notes.append(f"memory{part.label} is estimated: {error.message}")
            return None
        if trial.runs and trial.runs[-1].outputs is not None:
            if first:
                self._sequence = list(self._requests)[len(trial.runs) - 1]
                values.update(self._requests[self._sequence])
            values.update(trial.runs[-1].outputs)
        return trial

    def _figures(self, part: Subject, trial: Trial | None) -> Figures:
        estimated = _estimated(part, self._model)
        if trial is None:
            return estimated
        if trial.error is not None:
            return Figures(part, estimated.load, estimated.peak_bytes, False, trial.error, trial.killed)
        run = trial.runs[-1]
        if run.error is not None:
            self._notes.append(f"memory{part.label} is estimated: it does not run on made-up inputs: {run.error}")
            return replace(estimated, failure=run.error)
        platform = self._model.platform
        there = self._model.speedup(self._threads * platform.speeds.mb_per_vcpu)
        compute_ms = median(run.infer_ms[1:] or run.infer_ms) * float(there)
        load = _load(part, compute_ms, platform.speeds.inline_bytes)
        added = max(0, int(platform.speeds.floor_mb * MB) - trial.floor_bytes)
        return Figures(part, load, trial.peak_bytes + added, True, added_bytes=added)


def _estimated(part: Subject, model: CostModel) -> Figures:
    sizes, values = part.values
    times = node_times(part.model, values, part.all_dims, model.platform.speeds, sizes=sizes)
    load = _load(part, sum(times), model.platform.speeds.inline_bytes)
    return Figures(part, load, int(model.peak_bytes(load)), False)


def _load(part: Subject, compute_ms: float, inline_bytes: int) -> Load:
    """What a function is asked for; values larger than `inline_bytes` come and go through the object store."""
    sizes, _ = part.values
    weights, activations = part.cuts.needs(0, len(part.cuts.order))
    taken = [sizes.get(value.name, 0) for value in part.model.graph.required_inputs]
    given = [sizes.get(value.name, 0) for value in part.model.graph.outputs]
    fetched, put = ([size for size in found if size > inline_bytes] for found in (taken, given))
    return Load(
        compute_ms=compute_ms,
        nodes=len(part.model.graph.nodes),
        weights_bytes=weights,
        held_bytes=model_held_bytes(part.model),
        activations_bytes=activations,
        inline_bytes=sum(taken) + sum(given) - sum(fetched) - sum(put),
        object_in_bytes=sum(fetched),
        object_out_bytes=sum(put),
        objects_in=len(fetched),
        objects_out=len(put),
    )


def frame_bytes(tensors: Mapping[str, Array], *, response: bool = False) -> int:
    """Bytes of tensors as a frame in base64, as it stands in a JSON payload.

    Raises:
        UnsupportedModelError: A tensor does not travel.
    """
    return encoded_bytes(len(encode(tensors, kind="outputs" if response else "inputs").to_bytes()))


def encoded_bytes(size: int) -> int:
    """Bytes of base64 for `size` bytes: four for every three begun (RFC 4648, section 4)."""
    return 4 * -(-size // 3)


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that this machine could give now; None where it does not say."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(size) * 1024 for size in found), None)
