"""From a plan to a slices directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Literal

from lamella import __version__
from lamella.errors import SlicesError, UsageError
from lamella.graph.model import Model
from lamella.graph.references import Range
from lamella.graph.samples import index_bounds
from lamella.planner.plan import Plan, plan, structure_sha256
from lamella.planner.plan import Slice as PlannedSlice
from lamella.slicing.assemble import assemble
from lamella.slicing.copied import CopiedWeights
from lamella.slicing.placement import Placement
from lamella.slicing.verification import Verification, verify_slices
from lamella.slicing.weights import DECODED_NAME, ReferencedWeights, Weights
from lamella.tensors import Array
from lamella.workflow.manifest import FILE_NAME, FileEntry, Manifest, SliceEntry, WeightRange, read_manifest

_STANDARD_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}


@dataclass(frozen=True)
class Sliced:
    """A slices directory that has just been written.

    Attributes:
        directory: Where it is.
        plan: What was written.
        manifest: What `slices.json` says.
        placements: How the weights came into the directory; `copy` has a reason where it was not asked for.
        verification: The comparison with the whole model, unless it was not wanted.
        seconds: Time to write, without verification.
    """

    directory: Path
    plan: Plan
    manifest: Manifest
    placements: tuple[Placement, ...]
    verification: Verification | None
    seconds: float


def slice(  # noqa: PLR0913 - one argument a flag of `lamella slice`
    source: Plan | Model,
    directory: str | Path,
    *,
    slices: int | Literal["max"] | None = None,
    max_memory_bytes: int | None = None,
    copy_weights: bool = False,
    optimize_first: bool = False,
    verify: bool = True,
    inputs: Mapping[str, Array] | None = None,
    custom_ops: tuple[str | Path, ...] = (),
) -> Sliced:
    """Write a model's slices into a directory, and prove that they give the whole model's answer.

    No weight is read to write them: slices refer to the model's own bytes (a hard link brings its files into the
    directory), or get a copy that the kernel makes. Verification reads them, by mapping.

    Args:
        source: A plan, or a model to plan by `slices` or `max_memory_bytes` (see `lamella.plan`).
        directory: A new or empty folder, one that holds slices already (they are replaced), or the model's own.
        slices: How many slices, for a model.
        max_memory_bytes: Memory for each slice's process, for a model.
        copy_weights: Give each slice a page-aligned copy of just its own weights.
        optimize_first: Let ONNX Runtime optimise the whole graph before it is cut, so that no fusion is lost at a cut.
            This loads the weights once.
        verify: Compare with the whole model at the end.
        inputs: Inputs to compare on; made up by default.
        custom_ops: Shared libraries with custom operators, to plan and verify with.

    Raises:
        PlanError: No cuts satisfy the criterion.
        UsageError: The directory holds something else, or the arguments contradict each other.
        VerificationError: The slices differ from the whole model; the files stay for inspection.
    """
    directory = Path(directory)
    planned = _planned(source, slices, max_memory_bytes, custom_ops, optimize_first=optimize_first)
    _check_names(planned)
    _prepare(directory, planned.model)
    started = perf_counter()
    if optimize_first:
        from lamella.slicing.optimize import optimized_model

        planned = plan(
            optimized_model(planned.model, directory, custom_ops=custom_ops),
            slices=len(planned.slices) if max_memory_bytes is None else None,
            max_memory_bytes=max_memory_bytes,
            custom_ops=custom_ops,
        )
    weights: Weights
    weights = CopiedWeights(planned.model, directory) if copy_weights else ReferencedWeights(planned.model, directory)
    entries = tuple(_write(planned, part, directory, weights) for part in planned.slices)
    placements = tuple(weights.files())
    manifest = _manifest(planned, entries, placements, directory, optimized=optimize_first)
    manifest.write(directory)
    sliced = Sliced(directory, planned, manifest, placements, None, perf_counter() - started)
    if not verify:
        return sliced
    verification = verify_slices(planned, directory, inputs=inputs, custom_ops=custom_ops)
    manifest = replace(manifest, verified=True, files=tuple(_digested(directory, f) for f in manifest.files))
    manifest.write(directory)
    return replace(sliced, verification=verification, manifest=manifest)


def _planned(
    source: Plan | Model,
    slices: int | Literal["max"] | None,
    max_memory_bytes: int | None,
    custom_ops: tuple[str | Path, ...],
    *,
    optimize_first: bool,
) -> Plan:
    if isinstance(source, Model):
        return plan(source, slices=slices, max_memory_bytes=max_memory_bytes, custom_ops=custom_ops)
    if slices is not None or max_memory_bytes is not None:
        raise UsageError("a plan says already where to cut", hint="give the model itself, or leave the criterion out")
    if optimize_first:
        raise UsageError(
            "a plan is for the model as it is, and optimising changes its nodes", hint="give the model itself"
        )
    return source


def _check_names(planned: Plan) -> None:
    """Refuse a model whose own files would be written over, before anything is written."""
    written = {FILE_NAME, DECODED_NAME}
    for part in planned.slices:
        written |= {f"slice_{part.index:03d}.onnx", f"slice_{part.index:03d}.data"}
    taken = sorted(written & planned.model.files.keys())
    if taken:
        raise UsageError(f"the model's own file is called `{taken[0]}`, as one that slicing writes", hint="rename it")


def _prepare(directory: Path, model: Model) -> None:
    """Make the directory, and remove the slices that an earlier run left in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in directory.iterdir()}
    except OSError as error:
        raise UsageError(
            f"`{directory}` cannot be made: {error.strerror}", hint="give a folder that can be written"
        ) from error
    beside = directory.resolve() == model.path.parent.resolve()
    if found and FILE_NAME not in found and not beside:
        raise UsageError(
            f"`{directory}` is not empty and holds no slices", hint="give a new folder, or the model's own"
        )
    if FILE_NAME in found:
        _remove_slices(directory)


def _remove_slices(directory: Path) -> None:
    """Remove the files of an earlier slicing, but no file of weights that was there before it."""
    try:
        old = read_manifest(directory)
    except SlicesError:
        old = None
    (directory / FILE_NAME).unlink()
    if old is None:
        return
    for name in (*(s.file for s in old.slices), *(f.file for f in old.files if f.method != "in-place")):
        (directory / name).unlink(missing_ok=True)


def _write(planned: Plan, part: PlannedSlice, directory: Path, weights: Weights) -> SliceEntry:
    data, ranges = weights.settle(assemble(planned, part), part.index)
    path = directory / f"slice_{part.index:03d}.onnx"
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)
    graph = planned.model.graph
    used = {name for index in part.nodes for name in graph.nodes[index].uses} | set(part.outputs)
    return SliceEntry(
        index=part.index,
        file=path.name,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        inputs=part.inputs,
        outputs=part.outputs,
        optional_inputs=tuple(value.name for value in planned.model.optional_inputs if value.name in used),
        nodes=len(part.nodes),
        weights_bytes=part.weights_bytes,
        memory_mb=part.memory_mb,
        weights=tuple(_weight_range(place) for place in ranges),
    )


def _weight_range(place: Range) -> WeightRange:
    return WeightRange(place.location, place.offset, place.length)


def _manifest(
    planned: Plan,
    entries: tuple[SliceEntry, ...],
    placements: tuple[Placement, ...],
    directory: Path,
    *,
    optimized: bool,
) -> Manifest:
    model, graph = planned.model, planned.model.graph
    files = [FileEntry(str(p.path.relative_to(directory)), p.path.stat().st_size, p.method, None) for p in placements]
    used_domains = {op[0] for node in graph.nodes for op in (node.op, *node.calls) if op not in model.functions}
    return Manifest(
        model=model.path.name,
        structure_sha256=structure_sha256(model),
        optimized=optimized,
        inputs=tuple(value.spec for value in graph.required_inputs),
        optional_inputs=tuple(value.spec for value in model.optional_inputs),
        outputs=tuple(value.spec for value in graph.outputs),
        index_bounds=index_bounds(model),
        slices=entries,
        crossing_bytes=planned.crossing_bytes,
        files=tuple(files),
        custom_ops_needed=tuple(sorted(used_domains - _STANDARD_DOMAINS)),
        versions={"lamella": __version__},
    )


def _digested(directory: Path, entry: FileEntry) -> FileEntry:
    with (directory / entry.file).open("rb") as file:
        return replace(entry, sha256=hashlib.file_digest(file, "sha256").hexdigest())
