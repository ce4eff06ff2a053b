"""The slices of a directory as packages hold them: each a file, and a file with just its own weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from lamella.errors import SlicesError
from lamella.graph.model import Model
from lamella.graph.reader import load
from lamella.graph.references import Range
from lamella.graph.stored import StoredTensor
from lamella.packaging.gathered import GatheredWeights, Piece, UnreadWeights, next_start
from lamella.runtime.function import WeightTensor
from lamella.slicing.verification import sha256_of
from lamella.slicing.weights import references
from lamella.tensors import TensorSpec
from lamella.workflow.manifest import SliceEntry

_DISTRUST = "slice the model again"


@dataclass(frozen=True)
class SliceFiles:
    """One slice.

    Attributes:
        entry: What `slices.json` says of it.
        name: Name of the slice file.
        data: Its content; references lead into `weights`.
        weights: The file beside it; None where the slice has no large weights.
        tensors: What lies in that file.
        inputs: What the slice takes.
        outputs: What it gives.
        optional_inputs: Weights that the caller may override.
    """

    entry: SliceEntry
    name: str
    data: bytes
    weights: GatheredWeights | None
    tensors: tuple[WeightTensor, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]

    def unread(self) -> SliceFiles:
        """The slice with a digest of the right length in place of its weights' own, which takes reading them."""
        weights = self.weights
        return self if weights is None else replace(self, weights=UnreadWeights(weights.name, weights.pieces))

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Everything that goes into the slice or comes out of it."""
        return (*self.inputs, *self.optional_inputs, *self.outputs)


def read_slice(directory: Path, entry: SliceEntry) -> SliceFiles:
    """Read a slice's structure; its weights stay where they are.

    Raises:
        SlicesError: The slice file has changed, or is not what `slices.json` says.
        ModelError: It is no model that can be read.
    """
    path = directory / entry.file
    if sha256_of(path) != entry.sha256:
        raise SlicesError(f"`{path}` has changed since the model was sliced", hint=_DISTRUST)
    model = load(path)
    gathering = _Gathering(model, f"{PurePosixPath(entry.file).stem}.data")
    data, _ = references(model.structure, gathering.settle)
    specs = {value.name: value.spec for value in (*model.graph.inputs, *model.graph.outputs)}
    return SliceFiles(
        entry,
        PurePosixPath(entry.file).name,
        data,
        gathering.weights,
        tuple(gathering.tensors),
        _specs(specs, entry.inputs, path),
        _specs(specs, entry.outputs, path),
        _specs(specs, entry.optional_inputs, path),
    )


class _Gathering:
    """Gives every weight of a slice its place in the slice's own file."""

    def __init__(self, model: Model, name: str) -> None:
        self.tensors: list[WeightTensor] = []
        self._model, self._name = model, name
        self._pieces: dict[Range, Piece] = {}
        self._end = 0
        self._initializers = {n: w.range for n, w in model.graph.initializers.items() if not w.sparse}

    @property
    def weights(self) -> GatheredWeights | None:
        """The file of all weights that were settled."""
        return GatheredWeights(self._name, tuple(self._pieces.values())) if self._pieces else None

    def settle(self, tensor: StoredTensor, old: Range) -> Range:
        """The new place of a tensor that lies at `old`."""
        if not old.is_plain or old.length != tensor.nbytes:
            raise SlicesError(
                f"tensor {tensor.label} of `{self._model.path}` is stored as no slicing stores it", hint=_DISTRUST
            )
        if old not in self._pieces:
            start = next_start(self._end, old.offset, old.length)
            self._pieces[old] = Piece(self._model.files[old.location].path, old.offset, old.length, start)
            self._end = start + old.length
        new = Range(self._name, self._pieces[old].start, old.length)
        # An engine takes initializers of the main graph by name, and nothing else; a second one of a name is another.
        name = tensor.name if self._initializers.pop(tensor.name, None) == old else None
        shape = tuple(tensor.dims)
        self.tensors.append(WeightTensor(name, tensor.datatype.name, shape, new.location, new.offset, new.length))
        return new


def _specs(known: dict[str, TensorSpec], names: Sequence[str], path: Path) -> tuple[TensorSpec, ...]:
    for name in names:
        if name not in known:
            raise SlicesError(f"`{path}` has no input or output `{name}`, which `slices.json` names", hint=_DISTRUST)
    return tuple(known[name] for name in names)
