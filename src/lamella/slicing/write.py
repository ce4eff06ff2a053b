"""From a plan to a slices directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Literal

from lamella import __version__
from lamella.errors import UsageError, VerificationError
from lamella.graph.model import Model
from lamella.graph.references import Range
from lamella.graph.samples import index_bounds
from lamella.planner.plan import Plan, plan, structure_sha256
from lamella.planner.plan import Slice as PlannedSlice
from lamella.slicing.assemble import assemble
from lamella.slicing.copied import CopiedWeights
from lamella.slicing.directory import DECODED_NAME, OutputDirectory
from lamella.slicing.placement import Placement
from lamella.slicing.verification import Verification, different, sha256_of, verify_slices
from lamella.slicing.weights import ReferencedWeights, Weights
from lamella.tensors import Array
from lamella.workflow.manifest import FILE_NAME, FileEntry, Manifest, SliceEntry, WeightRange

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


class UnverifiedError(VerificationError):
    """Slices are written, and differ from the whole model, or could not be compared with it.

    Attributes:
        sliced: What was written, with the comparison where there was one.
    """

    def __init__(self, error: VerificationError, sliced: Sliced) -> None:
        super().__init__(error.message, hint=error.hint)
        self.sliced = sliced


def slice(  # noqa: PLR0913 - one argument a flag of `lamella slice`
    source: Plan | Model | str | Path,
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
        source: A plan, or a model or its file to plan by `slices` or `max_memory_bytes` (see `lamella.plan`).
        directory: A new or empty folder, one that holds slices already (they are replaced), or the model's own.
        slices: How many slices, for a model.
        max_memory_bytes: Memory for each slice's process, for a model.
        copy_weights: Give each slice a copy of just its own weights.
        optimize_first: Let ONNX Runtime optimise the whole graph before it is cut, so that no fusion is lost at a cut.
            This loads the weights once.
        verify: Compare with the whole model at the end.
        inputs: Inputs to compare on; made up by default.
        custom_ops: Shared libraries with custom operators, to plan and verify with.

    Raises:
        PlanError: No cuts satisfy the criterion.
        UsageError: The directory holds something else, or the arguments contradict each other.
        UnverifiedError: The slices differ from the whole model; the files stay for inspection.
    """
    directory = Path(directory)
    planned = _planned(source, slices, max_memory_bytes, custom_ops, optimize_first=optimize_first)
    original, output = planned.whole, OutputDirectory(directory, planned.whole)
    started = perf_counter()
    with ExitStack() as cleanup:
        with output.staging() as staging:
            if optimize_first:
                optimized = _optimized(original, output, staging, custom_ops)
                planned = plan(optimized, slices=slices, max_memory_bytes=max_memory_bytes, custom_ops=custom_ops)
            manifest, placements = _write_all(
                planned, output, staging, copy_weights=copy_weights, optimized=optimize_first
            )
        if optimize_first:
            planned = _published(planned, directory)
            if copy_weights:  # else the slices refer to the optimised model
                cleanup.callback(_remove, planned.whole)
        sliced = Sliced(directory, planned, manifest, placements, None, perf_counter() - started)
        if not verify:
            return sliced
        if optimize_first:
            sliced = _compared(sliced, planned.whole, inputs, custom_ops)
        sliced = _compared(sliced, original, inputs, custom_ops)  # the model that was given: what counts for the user
    files = tuple(replace(entry, sha256=sha256_of(directory / entry.file)) for entry in manifest.files)
    versions = {**manifest.versions, "onnxruntime": version("onnxruntime")}
    manifest = replace(manifest, verified=True, files=files, versions=versions)
    manifest.write(directory)
    return replace(sliced, manifest=manifest)


def _compared(
    sliced: Sliced, model: Model, inputs: Mapping[str, Array] | None, custom_ops: tuple[str | Path, ...]
) -> Sliced:
    """What was written, with its comparison with a model.

    Raises:
        UnverifiedError: They differ, or could not be run.
    """
    try:
        found = verify_slices(model, sliced.directory, inputs=inputs, custom_ops=custom_ops)
        sliced = replace(sliced, verification=found)
        if not found.ok:
            raise different(found)
    except VerificationError as error:
        raise UnverifiedError(error, sliced) from error
    return sliced


def _optimized(model: Model, output: OutputDirectory, staging: Path, custom_ops: tuple[str | Path, ...]) -> Model:
    """The optimised model, beside the new slices: an earlier one of its name is what the old slices run from."""
    from lamella.slicing.optimize import optimized_model, optimized_names

    output.claim(optimized_names(model))
    return optimized_model(model, staging, custom_ops=custom_ops)


def _published(planned: Plan, directory: Path) -> Plan:
    """A plan of a model whose files have been moved from the staging folder into the directory."""

    def moved(model: Model) -> Model:
        files = {name: replace(file, path=directory / name) for name, file in model.files.items()}
        return replace(model, path=directory / model.path.name, files=files)

    original = None if planned.original is None else moved(planned.original)
    return replace(planned, model=moved(planned.model), original=original)


def _remove(model: Model) -> None:
    for file in model.files.values():
        file.path.unlink(missing_ok=True)


def _planned(
    source: Plan | Model | str | Path,
    slices: int | Literal["max"] | None,
    max_memory_bytes: int | None,
    custom_ops: tuple[str | Path, ...],
    *,
    optimize_first: bool,
) -> Plan:
    if not isinstance(source, Plan):
        return plan(source, slices=slices, max_memory_bytes=max_memory_bytes, custom_ops=custom_ops)
    if slices is not None or max_memory_bytes is not None:
        raise UsageError("a plan says already where to cut", hint="give the model itself, or leave the criterion out")
    if optimize_first:
        raise UsageError(
            "a plan is for the model as it is, and optimising changes its nodes",
            hint="leave one of the two out: the plan (or platform), or `--optimize-first`",
        )
    return source


def _write_all(
    planned: Plan, output: OutputDirectory, staging: Path, *, copy_weights: bool, optimized: bool
) -> tuple[Manifest, tuple[Placement, ...]]:
    """Write every slice, or none: the files appear in the directory when all of them are there."""
    names = {DECODED_NAME, FILE_NAME}
    for part in planned.slices:
        names |= {f"slice_{part.index:03d}.onnx", f"slice_{part.index:03d}.data"}
    output.claim(names)
    folder = staging if optimized else output.path  # where the weights are, or are linked to
    weights: Weights = (
        CopiedWeights(planned.model, staging) if copy_weights else ReferencedWeights(planned.model, folder, staging)
    )
    entries = tuple(_write(planned, part, staging, weights) for part in planned.slices)
    placements = tuple(weights.files())
    files = tuple(_file_entry(placement, output.path, staging) for placement in placements)
    manifest = _manifest(planned, entries, files, optimized=optimized)
    output.publish(staging, manifest)
    return manifest, placements


def _file_entry(placement: Placement, directory: Path, staging: Path) -> FileEntry:
    folder = staging if placement.path.is_relative_to(staging) else directory
    name = placement.path.relative_to(folder).as_posix()
    return FileEntry(name, placement.path.stat().st_size, placement.method, None)


def _write(planned: Plan, part: PlannedSlice, directory: Path, weights: Weights) -> SliceEntry:
    data, ranges = weights.settle(assemble(planned, part), part.index)
    path = directory / f"slice_{part.index:03d}.onnx"
    path.write_bytes(data)
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
    files: tuple[FileEntry, ...],
    *,
    optimized: bool,
) -> Manifest:
    model, graph = planned.model, planned.model.graph
    used_domains = {op[0] for node in graph.nodes for op in (node.op, *node.calls) if op not in model.functions}
    return Manifest(
        model=model.path.name,
        structure_sha256=structure_sha256(planned.whole),
        optimized=optimized,
        inputs=tuple(value.spec for value in graph.required_inputs),
        optional_inputs=tuple(value.spec for value in model.optional_inputs),
        outputs=tuple(value.spec for value in graph.outputs),
        index_bounds=index_bounds(planned.whole),
        slices=entries,
        crossing_bytes=planned.crossing_bytes,
        files=files,
        custom_ops_needed=tuple(sorted(used_domains - _STANDARD_DOMAINS)),
        versions={"lamella": __version__} | ({"onnxruntime": version("onnxruntime")} if optimized else {}),
        platform=planned.platform,
    )
