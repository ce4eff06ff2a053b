"""`check`: every limit of a platform against a model and the runtime that would be bundled with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from lamella.checking.compatibility import compatibility_checks
from lamella.checking.fewest import Cutting, fewest_slices
from lamella.checking.measuring import Figures, Measurement, measure
from lamella.checking.payloads import payload_checks
from lamella.checking.report import Check, Report
from lamella.checking.rows import batch_check
from lamella.checking.running import running_checks
from lamella.checking.saturation import saturation_check
from lamella.checking.setting import Setting, memory_of
from lamella.checking.sizes import size_checks
from lamella.checking.subject import Subjects, open_subjects
from lamella.errors import UsageError
from lamella.graph.model import Model
from lamella.packaging.closure import closure_of
from lamella.packaging.interpreter import architecture_of
from lamella.platforms import load_platform
from lamella.platforms.base import MB, Platform
from lamella.tensors import datatype

_FIRST_FOREIGN = 16  # from this datatype on, NumPy needs `ml_dtypes`


def check(
    model: Model | str | Path,
    *,
    platform: Platform | str | Path,
    profile: str | None = None,
    architecture: str | None = None,
    memory_mb: int | None = None,
    batch: int = 1,
    run: bool = True,
    custom_ops: Sequence[str | Path] = (),
) -> Report:
    """Check whether a platform takes a model, or each slice of a directory.

    The model runs here a few times, in processes of its own, whose memory and time are measured. The engine's wheels
    for the platform are measured too: those of other versions than the ones that Lamella has figures for are fetched
    once (some 40 MB).

    Args:
        model: A model from `lamella.load`, its file, or a slices directory.
        platform: A platform, its name such as `aws-lambda`, or a user's `.toml` file.
        profile: A variant of it, such as `new-account`.
        architecture: `x86_64` or `arm64`; the platform's first by default.
        memory_mb: Memory of the functions; the platform's largest by default.
        batch: Rows in one request, where the model takes several.
        run: Whether to run the model and fetch wheels; without, memory and time are estimated.
        custom_ops: Shared libraries with custom operators; they go into the package.

    Returns:
        One entry for each check that was made, and the verdict.

    Raises:
        UsageError: The platform has no such architecture, memory or profile, or a number makes no sense.
        ModelError: The model cannot be read.
        SlicesError: The slices directory is incomplete or damaged.

    Example:
        ```python
        report = lamella.check("bert.onnx", platform="aws-lambda")
        for found in report.violations:
            print(found.limit, found.value, found.allowed, found.hint)
        ```
    """
    if batch < 1:
        raise UsageError(f"a batch of {batch} rows makes no sense", hint="ask for 1 or more")
    resolved = platform if isinstance(platform, Platform) else load_platform(platform, profile=profile)
    chosen = architecture_of(resolved, architecture)
    memory = memory_of(resolved, memory_mb)
    subjects = open_subjects(model, batch=batch, custom_ops=custom_ops)
    extra = ("ml-dtypes",) if _needs_ml_dtypes(subjects) else ()
    closure = closure_of(resolved, chosen, extra=extra, fetch=run)
    setting = Setting(resolved, chosen, memory, memory == memory_of(resolved, None), closure, batch)
    measurement = measure(subjects, setting.cost_model, memory, run=run)
    cuttings = [fewest_slices(setting, figures) for figures in measurement.figures]
    counts = [cutting.count for cutting in cuttings]
    fewest = None if None in counts else sum(count for count in counts if count is not None)
    return Report(
        model=subjects.path,
        platform=resolved.name,
        profile=resolved.profile,
        architecture=chosen,
        memory_mb=memory,
        batch=batch,
        closure=closure,
        checks=tuple(_checks(setting, subjects, measurement, cuttings, run=run)),
        minimum_slices=fewest,
        notes=(*((closure.note,) if closure.note else ()), *measurement.notes),
    )


def _checks(
    setting: Setting, subjects: Subjects, measurement: Measurement, cuttings: Sequence[Cutting], *, run: bool
) -> Iterator[Check]:
    for figures, cutting in zip(measurement.figures, cuttings, strict=True):
        for found in _function_checks(setting, figures, cutting):
            yield replace(found, slice=figures.subject.index)
    yield from payload_checks(setting, subjects, measurement)
    yield from batch_check(setting, subjects, measurement, run=run)


def _function_checks(setting: Setting, figures: Figures, cutting: Cutting) -> Iterator[Check]:
    """The checks of one function; those of its format first, since nothing else matters where they fail."""
    way_out = _way_out(setting, figures, cutting)
    versions = list(compatibility_checks(setting, figures.subject.model))
    yield from versions
    yield from size_checks(setting, figures.subject, way_out)
    too_new = any(found.limit in ("opset", "ir_version") and found.verdict == "violated" for found in versions)
    if figures.error is None or figures.killed or not too_new:  # else the reason has been told
        yield from running_checks(setting, figures, way_out)
    yield from saturation_check(setting, figures.subject)


def _way_out(setting: Setting, figures: Figures, cutting: Cutting) -> str:
    subject = figures.subject
    what = "the model" if subject.index is None else "this slice"
    larger = "a platform with larger functions" if setting.largest else "larger functions"
    if not cutting.activations_fit:
        return f"no cut helps {what}, whose activations alone are too large: send smaller inputs, or choose {larger}"
    if cutting.count is None:
        return f"no number of slices fits {what}: choose {larger}"
    advice = f"cut {what} into at least {max(2, cutting.count)} slices"
    if cutting.count > 1 and cutting.max_memory_bytes is None:
        return advice
    most = cutting.max_memory_bytes or 0
    size = f"{most >> 10}KiB" if most % MB else f"{most >> 20}MiB"
    flag = f"--max-memory {size}" if cutting.count > 1 else "--slices 2"
    path = quote(str(subject.model.path)) if subject.index is None else "MODEL"
    return f"{advice} (`lamella slice {path} {flag}`)"


def _needs_ml_dtypes(subjects: Subjects) -> bool:
    graphs = [part.model.graph for part in subjects.parts]
    specs = (value.spec for graph in graphs for value in (*graph.inputs, *graph.outputs))
    kinds = (spec.datatype for spec in specs if spec.datatype.isupper())
    return any(datatype(kind).onnx >= _FIRST_FOREIGN for kind in kinds)
