"""Whether several rows may be sent in one request: the answer for each must not depend on the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lamella.errors import InputError
from lamella.graph.samples import sample_inputs
from lamella.packaging.baked import baked_node
from lamella.packaging.measuring import SEQUENCES, Measurement, available_bytes
from lamella.packaging.report import Check, Verdict
from lamella.packaging.setting import Setting
from lamella.packaging.subject import Subject, Subjects, batch_inputs, with_batch
from lamella.packaging.trial import Run, try_out
from lamella.slicing.differences import difference
from lamella.tensors import Array

BATCHES = (5, 2, 1, 1)
"""Rows that are run; one row twice, to see whether the model answers the same way twice."""

SOURCE = "each row of a batch must get the answer that it gets alone"

_TIME_LIMIT_S = 900.0


def batch_check(setting: Setting, subjects: Subjects, measurement: Measurement, *, run: bool) -> Iterator[Check]:
    """Run 1, 2 and 5 rows, and compare what each row gets.

    A model that takes one row only is a violation where more were asked for, and else a warning.
    """
    model = subjects.parts[0].model
    inputs = [value.spec for value in model.graph.required_inputs]
    if not subjects.is_whole or not inputs:
        return
    batched = batch_inputs(inputs)
    if not batched:
        fixed = next((spec for spec in inputs if spec.shape), inputs[0])
        rows = fixed.shape[0] if fixed.shape else 1
        detail = f"the first dimension of input `{fixed.name}` is fixed at {rows}"
        yield _found(setting, int(rows) if isinstance(rows, int) else 1, detail, "export it with a dynamic batch")
        return
    figures = measurement.figures[0]
    free = available_bytes()
    if not run or measurement.inputs is None or figures.error is not None:
        yield _unknown("nothing was run")
    elif free is not None and figures.peak_bytes + max(BATCHES) * float(figures.load.activations_bytes) > free:
        yield _unknown(f"{max(BATCHES)} rows were not run: this machine has {free >> 20} MiB free")
    else:
        yield _compared(setting, subjects, batched, measurement)


def _found(setting: Setting, rows: int, detail: str, hint: str) -> Check:
    verdict: Verdict = "violated" if setting.batch > rows else "warning"
    way_out = f"{hint}, or send one row at a time" if rows == 1 else hint
    return Check("batch", "batch", setting.batch, rows, "rows", verdict, "measured", SOURCE, detail, way_out)


def _unknown(reason: str | None) -> Check:
    return Check("batch", "batch", None, None, "rows", "skipped", "measured", SOURCE, reason)


def _compared(setting: Setting, subjects: Subjects, batched: Sequence[str], measurement: Measurement) -> Check:
    part = subjects.parts[0]
    reason: str | None = None
    for sequence in (measurement.sequence,) if measurement.figures[0].measured else SEQUENCES:
        try:
            requests = _requests(subjects, batched, sequence)
        except InputError as error:
            return _unknown(error.message)
        trial = try_out(
            part.model.path, requests, threads=1, time_limit_s=_TIME_LIMIT_S, rounds=1, custom_ops=part.custom_ops
        )
        if len(trial.runs) == len(requests) and trial.runs[-1].error is None:
            return _judged(setting, part, requests, trial.runs)
        reason = trial.error or trial.runs[-1].error
    return _unknown(reason)


def _judged(setting: Setting, part: Subject, requests: Sequence[Mapping[str, Array]], runs: Sequence[Run]) -> Check:
    reason = _difference(runs)
    if reason is None:
        detail = f"{', '.join(str(rows) for rows in sorted(set(BATCHES)))} rows give equal rows"
        return Check("batch", "batch", setting.batch, None, "rows", "ok", "measured", SOURCE, detail)
    node = baked_node(part, requests[-1], requests[1])
    does = "mixes the rows" if all(run.error is None for run in runs) else "bakes the batch in"
    where = "" if node is None else f"; {node} {does}"
    return _found(setting, 1, reason + where, "export it with a dynamic batch and without operators over all rows")


def _requests(subjects: Subjects, batched: Sequence[str], sequence: int) -> list[dict[str, Array]]:
    """Inputs of the most rows, and the first rows of these."""
    most = max(BATCHES)
    inputs = [value.spec for value in subjects.parts[0].model.graph.required_inputs]
    whole = sample_inputs(with_batch(inputs, most), bounds=subjects.index_bounds, sequence=sequence)
    return [{name: array[:rows] if name in batched else array for name, array in whole.items()} for rows in BATCHES]


def _difference(runs: Sequence[Run]) -> str | None:
    """Why the rows of larger batches are not those of a smaller one; None where they are."""
    alone, again = runs[2].outputs or {}, runs[3].outputs or {}
    random = [name for name, array in alone.items() if array is not None and not _same(name, array, again.get(name))]
    for run, rows in zip(runs[:2], BATCHES[:2], strict=True):
        if run.error is not None:
            return f"{rows} rows do not run: {_short(run.error)}"
        for name, array in (run.outputs or {}).items():
            single = alone.get(name)
            if name in random or array is None or single is None:
                continue
            if not array.shape or not single.shape or len(array) != rows * len(single):
                return f"output `{name}` has shape {list(array.shape)} for {rows} rows, {list(single.shape)} for one"
            if not _same(name, single, array[: len(single)]):
                apart = difference(name, single, array[: len(single)]).max_abs_diff
                return f"output `{name}` of the first of {rows} rows differs by {apart:.3g} from what it is alone"
    return None


def _same(name: str, expected: Array, actual: Array | None) -> bool:
    return actual is not None and difference(name, expected, actual).ok


def _short(reason: str) -> str:
    return reason if len(reason) <= 160 else f"{reason[:157]}..."
