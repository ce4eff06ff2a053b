"""Whether several rows may be sent in one request: the answer for each must not depend on the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lamella.checking.baked import baked_node
from lamella.checking.measuring import SEQUENCES, Measurement, available_bytes
from lamella.checking.report import Check, Verdict
from lamella.checking.setting import Setting
from lamella.checking.subject import Subjects, batch_inputs, with_batch
from lamella.checking.trial import Run, try_out
from lamella.errors import LamellaError
from lamella.graph.samples import sample_inputs
from lamella.slicing.differences import difference
from lamella.tensors import Array, TensorSpec

BATCHES = (5, 2, 1, 1)
"""Rows that are run; one row twice, to see whether the model answers the same way twice."""

SOURCE = "each row of a batch must get the answer that it gets alone"

_TIME_LIMIT_S = 900.0


def batch_check(setting: Setting, subjects: Subjects, measurement: Measurement, *, run: bool) -> Iterator[Check]:
    """Run 1, 2 and 5 rows, and compare what each row gets.

    A model that does not take the rows that were asked for is a violation, or a warning where that was one. Where
    several were asked for and nothing can be told, that is a warning too.
    """
    inputs = subjects.declared
    batched = batch_inputs(inputs)
    if not batched:
        yield from _fixed(setting, inputs)
        return
    figures = measurement.figures
    free = available_bytes()
    needed = sum(found.peak_bytes + max(BATCHES) * float(found.load.activations_bytes) for found in figures)
    if not run or measurement.inputs is None or any(found.error is not None for found in figures):
        yield _unknown(setting, "nothing was run")
    elif free is not None and needed > free:
        yield _unknown(setting, f"{max(BATCHES)} rows were not run: this machine has {free >> 20} MiB free")
    else:
        yield _compared(setting, subjects, batched, measurement)


def _fixed(setting: Setting, inputs: Sequence[TensorSpec]) -> Iterator[Check]:
    """What is to be said where no input takes several rows, or all take a number of their own."""
    if not inputs:
        return
    first = next((spec for spec in inputs if spec.shape), None)
    rows = first.shape[0] if first is not None and first.shape else 1
    assert isinstance(rows, int)
    detail = f"input `{inputs[0].name}` has no dimension for rows"
    if first is not None:
        detail = f"the first dimension of input `{first.name}` is fixed at {rows}"
    if setting.batch == rows > 1:
        yield Check("batch", "batch", rows, rows, "rows", "ok", "counted", SOURCE, detail)
    else:
        yield _found(setting, rows, detail, "export it with a dynamic batch")


def _found(setting: Setting, rows: int, detail: str, hint: str) -> Check:
    verdict: Verdict = "warning" if setting.batch == 1 else "violated"
    way_out = f"{hint}, or send {'one row' if rows == 1 else f'{rows} rows'} at a time"
    return Check("batch", "batch", setting.batch, rows, "rows", verdict, "measured", SOURCE, detail, way_out)


def _unknown(setting: Setting, reason: str | None) -> Check:
    """Nothing was found out: that matters where several rows were asked for."""
    if setting.batch == 1:
        return Check("batch", "batch", None, None, "rows", "skipped", "measured", SOURCE, reason)
    hint = "compare what a row gets alone and among others before you send several"
    return Check("batch", "batch", setting.batch, None, "rows", "warning", "estimated", SOURCE, reason, hint)


def _compared(setting: Setting, subjects: Subjects, batched: Sequence[str], measurement: Measurement) -> Check:
    reason: str | None = None
    ran = any(found.measured for found in measurement.figures)
    for sequence in (measurement.sequence,) if ran else SEQUENCES:
        try:
            requests = _requests(subjects, batched, sequence)
            trial = try_out(
                Path(subjects.path),
                requests,
                threads=1,
                time_limit_s=_TIME_LIMIT_S,
                rounds=1,
                custom_ops=subjects.parts[0].custom_ops,
            )
        except LamellaError as error:  # inputs that cannot be made up, or do not travel
            return _unknown(setting, error.message)
        if len(trial.runs) == len(requests) and trial.runs[-1].error is None:
            return _judged(setting, subjects, requests, trial.runs, measurement)
        reason = trial.error or trial.runs[-1].error
    return _unknown(setting, reason)


def _judged(
    setting: Setting,
    subjects: Subjects,
    requests: Sequence[Mapping[str, Array]],
    runs: Sequence[Run],
    measurement: Measurement,
) -> Check:
    reason = _difference(runs)
    failure = next((found.failure for found in measurement.figures if found.failure is not None), None)
    if reason is None and setting.batch > 1 and failure is not None:
        reason = f"{setting.batch} rows do not run: {_short(failure)}"
    if reason is None and not _settled(runs):
        return _unknown(setting, "no output answers the same way twice, so no rows were compared")
    if reason is None:
        detail = f"{', '.join(str(rows) for rows in sorted(set(BATCHES)))} rows give equal rows"
        return Check("batch", "batch", setting.batch, None, "rows", "ok", "measured", SOURCE, detail)
    node = baked_node(subjects.parts[0], requests[-1], requests[1]) if subjects.is_whole else None
    does = "mixes the rows" if all(run.error is None for run in runs) else "bakes the batch in"
    where = "" if node is None else f"; {node} {does}"
    return _found(setting, 1, reason + where, "export it with a dynamic batch and without operators over all rows")


def _requests(subjects: Subjects, batched: Sequence[str], sequence: int) -> list[dict[str, Array]]:
    """Inputs of the most rows, and the first rows of these."""
    most = max(BATCHES)
    whole = sample_inputs(with_batch(subjects.declared, most), bounds=subjects.index_bounds, sequence=sequence)
    return [{name: array[:rows] if name in batched else array for name, array in whole.items()} for rows in BATCHES]


def _difference(runs: Sequence[Run]) -> str | None:
    """Why the rows of larger batches are not those of a smaller one; None where they are."""
    alone, settled = runs[2].outputs or {}, _settled(runs)
    for run, rows in zip(runs[:2], BATCHES[:2], strict=True):
        if run.error is not None:
            return f"{rows} rows do not run: {_short(run.error)}"
        for name, array in (run.outputs or {}).items():
            single = alone.get(name)
            if name not in settled or array is None or single is None:
                continue
            if not array.shape or not single.shape or len(array) != rows * len(single):
                return f"output `{name}` has shape {list(array.shape)} for {rows} rows, {list(single.shape)} for one"
            if not _same(name, single, array[: len(single)]):
                apart = difference(name, single, array[: len(single)]).max_abs_diff
                return f"output `{name}` of the first of {rows} rows differs by {apart:.3g} from what it is alone"
    return None


def _settled(runs: Sequence[Run]) -> list[str]:
    """Names of the outputs that are tensors and answer one row the same way twice."""
    alone, again = runs[2].outputs or {}, runs[3].outputs or {}
    return [name for name, array in alone.items() if array is not None and _same(name, array, again.get(name))]


def _same(name: str, expected: Array, actual: Array | None) -> bool:
    return actual is not None and difference(name, expected, actual).ok


def _short(reason: str) -> str:
    return reason if len(reason) <= 160 else f"{reason[:157]}..."
