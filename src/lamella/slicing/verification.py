"""Proof that slices give the whole model's answer, and, where they do not, where they part.

Both sides run without graph optimisation: then every node computes the same thing in the same order, and the slices
must be equal to the last bit. The whole runs by reference, so verification needs little memory too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import EngineError, InputError, LamellaError, SlicesError, VerificationError
from lamella.graph.model import Model
from lamella.graph.reader import load
from lamella.graph.samples import SEQUENCE, sample_inputs
from lamella.planner.plan import structure_sha256
from lamella.slicing.bisect import FirstDifference, first_difference
from lamella.slicing.differences import OutputDifference, difference
from lamella.tensors import Array
from lamella.workflow.manifest import Manifest, read_manifest
from lamella.workflow.parts import whole
from lamella.workflow.pipeline import Pipeline

_SEQUENCES = (SEQUENCE, 16, 4, 1, 224)
"""Sizes tried for symbolic dimensions until the whole model runs."""


@dataclass(frozen=True)
class Verification:
    """A comparison of slices with the whole model.

    Attributes:
        outputs: One entry an output of the model.
        first_difference: Where the slices part from the whole model; None where they do not.
        random_outputs: Outputs that differ between two runs of the whole model itself; they are not compared.
        same_structure: Whether the slices say that they were made from this model's graph, or from an optimised one.
    """

    outputs: tuple[OutputDifference, ...]
    first_difference: FirstDifference | None = None
    random_outputs: tuple[str, ...] = ()
    same_structure: bool = True

    @property
    def ok(self) -> bool:
        """Whether every output is within tolerance."""
        return all(output.ok for output in self.outputs)

    @property
    def max_abs_diff(self) -> float:
        """The largest absolute difference of all outputs."""
        return max((output.max_abs_diff for output in self.outputs), default=0.0)

    @property
    def max_rel_diff(self) -> float:
        """The largest relative difference of all outputs."""
        return max((output.max_rel_diff for output in self.outputs), default=0.0)


def verify(
    model: Model | str | Path,
    directory: str | Path,
    *,
    inputs: Mapping[str, Array] | None = None,
    tolerance: float | None = None,
    custom_ops: Sequence[str | Path] = (),
) -> Verification:
    """Compare a slices directory with the whole model.

    Args:
        model: The whole model.
        directory: Its slices.
        inputs: Inputs to compare on; made up by default.
        tolerance: Relative and absolute, instead of those by datatype.
        custom_ops: Shared libraries with custom operators.

    Returns:
        The comparison; see its `ok`.

    Raises:
        EngineError: The whole model itself does not run, or a slice does not.
        SlicesError: The directory is incomplete or damaged, or its slices are another model's.
    """
    model = model if isinstance(model, Model) else load(model)
    directory = Path(directory)
    manifest = read_manifest(directory)
    _check_outputs(model, manifest, directory)
    check_digests(manifest, directory)
    same = manifest.optimized or manifest.structure_sha256 == structure_sha256(model)
    given, expected = _whole_outputs(model, inputs, custom_ops)
    with Pipeline(directory, low_memory=True, optimization="none", custom_ops=custom_ops) as pipeline:
        actual = pipeline.infer(given)
    found = [difference(name, expected[name], actual[name], tolerance=tolerance) for name in expected]
    if all(output.ok for output in found):
        return Verification(tuple(found), same_structure=same)
    again = _run_whole(model, given, custom_ops)
    random = tuple(name for name in expected if not difference(name, expected[name], again[name], tolerance=0).ok)
    kept = tuple(output for output in found if output.name not in random)
    if all(output.ok for output in kept):
        return Verification(kept, None, random, same)
    first = first_difference(model, directory, given, tolerance, custom_ops)
    return Verification(kept, first, random, same)


def check_digests(manifest: Manifest, directory: Path) -> None:
    """Compare all files with the digests that `slices.json` has of them. Reads all of them.

    Raises:
        SlicesError: One has changed.
    """
    recorded = {entry.file: entry.sha256 for entry in manifest.slices}
    recorded |= {entry.file: entry.sha256 for entry in manifest.files if entry.sha256 is not None}
    for file, sha256 in recorded.items():
        if sha256 != sha256_of(directory / file):
            raise SlicesError(
                f"`{directory / file}` has changed since the model was sliced", hint="slice the model again"
            )


def sha256_of(path: Path) -> str:
    """Digest of a file. Reads all of it, in small pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_outputs(model: Model, manifest: Manifest, directory: Path) -> None:
    wanted = {value.name for value in model.graph.outputs}
    found = {spec.name for spec in manifest.outputs}
    if wanted != found:
        names = ", ".join(f"`{name}`" for name in sorted(wanted ^ found)[:3])
        raise SlicesError(
            f"`{directory}` holds the slices of another model: only one of the two has the output {names}",
            hint="give the model that the slices were made from",
        )


def verify_slices(
    model: Model, directory: Path, *, inputs: Mapping[str, Array] | None, custom_ops: Sequence[str | Path]
) -> Verification:
    """Compare slices that have just been written with the model that they were cut from.

    Raises:
        VerificationError: They, or the model, could not be run.
    """
    try:
        return verify(model, directory, inputs=inputs, custom_ops=custom_ops)
    except (EngineError, InputError) as error:
        raise VerificationError(
            f"the slices are written but not verified: {error.message}",
            hint=error.hint and f"{error.hint}; or go on with `--no-verify`",
        ) from error


def different(found: Verification) -> VerificationError:
    """The error for slices that differ from the whole model."""
    worst = max((output for output in found.outputs if not output.ok), key=lambda output: output.max_abs_diff)
    where = "" if found.first_difference is None else f"; they part at {found.first_difference.label}"
    hint = "this is a defect of Lamella or of the engine: please report it with the model's structure"
    if not found.same_structure:
        hint = "the slices were made from another model, or it has changed since: slice it again"
    return VerificationError(
        f"output `{worst.name}` differs from the whole model's by up to {worst.max_abs_diff:.3g}{where}", hint=hint
    )


def _whole_outputs(
    model: Model, inputs: Mapping[str, Array] | None, custom_ops: Sequence[str | Path]
) -> tuple[Mapping[str, Array], dict[str, Array]]:
    """Inputs on which the whole model runs, and what it gives."""
    if inputs is not None:
        return inputs, _run_whole(model, inputs, custom_ops)
    failure: LamellaError | None = None
    for made in _made_up(model):
        try:
            return made, _run_whole(model, made, custom_ops)
        except (EngineError, InputError) as error:
            failure = failure or error
    assert failure is not None
    raise EngineError(
        f"the whole model does not run on made-up inputs: {failure.message}",
        hint="give real ones with `--input NAME=FILE`",
    ) from failure


def _made_up(model: Model) -> Iterable[dict[str, Array]]:
    source = whole(model)
    symbolic = any(not isinstance(dim, int) for spec in source.inputs for dim in spec.shape or ())
    for sequence in _SEQUENCES if symbolic else (SEQUENCE,):
        yield sample_inputs(source.inputs, bounds=source.index_bounds, sequence=sequence)


def _run_whole(model: Model, inputs: Mapping[str, Array], custom_ops: Sequence[str | Path]) -> dict[str, Array]:
    with Pipeline(model, low_memory=True, optimization="none", custom_ops=custom_ops) as pipeline:
        return pipeline.infer(inputs)
