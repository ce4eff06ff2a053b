"""What is checked: a whole model, or each slice of a directory. Weights stay on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lamella.graph.model import Model, Value
from lamella.graph.reader import load
from lamella.graph.samples import assumed_dims, index_bounds
from lamella.planner.cuts import Cuts, cuts_of
from lamella.planner.flow import Flow, flow_of
from lamella.planner.order import candidate_orders
from lamella.planner.sizes import value_sizes
from lamella.tensors import TensorSpec
from lamella.workflow.manifest import FILE_NAME, read_manifest


@dataclass(frozen=True)
class Subject:
    """What one function runs.

    Attributes:
        model: Its model: the whole one, or that of a slice.
        index: The slice's index; None for a whole model.
        dims: Sizes of symbolic dimensions that were asked for.
        custom_ops: Shared libraries with custom operators.
    """

    model: Model
    index: int | None
    dims: Mapping[str, int]
    custom_ops: tuple[Path, ...]

    @property
    def label(self) -> str:
        """What titles append: nothing for a whole model."""
        return "" if self.index is None else f" of slice {self.index}"

    @property
    def file_bytes(self) -> int:
        """Its bytes in a package: structure and weights."""
        return len(self.model.structure) + self.model.weights_bytes

    @cached_property
    def all_dims(self) -> dict[str, int]:
        """A size for every symbolic dimension."""
        return assumed_dims([value.spec for value in self.model.graph.required_inputs], given=self.dims)

    @cached_property
    def values(self) -> tuple[dict[str, int], dict[str, Value]]:
        """Bytes and type of every value, by name. May run the model once, where inference knows too little."""
        return value_sizes(self.model, custom_ops=self.custom_ops, dims=self.dims)

    @cached_property
    def flow(self) -> Flow:
        """Its nodes as the planner sees them."""
        return flow_of(self.model)

    @cached_property
    def cuts(self) -> Cuts:
        """What could be cut, in the planner's first order."""
        return cuts_of(self.flow, candidate_orders(self.flow)[0], *self.values)


@dataclass(frozen=True)
class Subjects:
    """Everything that was given.

    Attributes:
        path: The model's file, or the slices directory.
        declared: What a request holds, as the model declares it.
        inputs: The same with the batch that was asked for.
        outputs: Names of what a response holds.
        index_bounds: For inputs that pick rows of a table, its length.
        parts: The model, or its slices in the order they run.
        crossing_bytes: Bytes alive across each cut of a slices directory; None for a whole model.
    """

    path: str
    declared: tuple[TensorSpec, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    index_bounds: Mapping[str, int]
    parts: tuple[Subject, ...]
    crossing_bytes: tuple[int, ...] | None

    @property
    def is_whole(self) -> bool:
        """Whether it is a model that has not been cut."""
        return self.crossing_bytes is None


def open_subjects(source: Model | str | Path, *, batch: int, custom_ops: Sequence[str | Path]) -> Subjects:
    """Open a model or a slices directory. Reads no weights.

    Raises:
        ModelError: The file is no model that can be read.
        SlicesError: The directory is no complete slices directory.
    """
    libraries = tuple(Path(library) for library in custom_ops)
    if not isinstance(source, Model):
        path = Path(source)
        if path.is_dir() or path.name == FILE_NAME:
            return _from_directory(path if path.is_dir() else path.parent, batch, libraries)
        source = load(path)
    inputs = [value.spec for value in source.graph.required_inputs]
    subject = Subject(source, None, dict.fromkeys(batch_names(inputs), batch), libraries)
    return Subjects(
        str(source.path),
        tuple(inputs),
        with_batch(inputs, batch),
        tuple(value.name for value in source.graph.outputs),
        index_bounds(source),
        (subject,),
        None,
    )


def _from_directory(directory: Path, batch: int, libraries: tuple[Path, ...]) -> Subjects:
    manifest = read_manifest(directory)
    dims = dict.fromkeys(batch_names(manifest.inputs), batch)
    models = ((entry.index, load(directory / entry.file)) for entry in manifest.slices)
    parts = (Subject(model, index, _own_dims(model, dims), libraries) for index, model in models)
    return Subjects(
        str(directory),
        tuple(manifest.inputs),
        with_batch(manifest.inputs, batch),
        tuple(spec.name for spec in manifest.outputs),
        manifest.index_bounds,
        tuple(parts),
        manifest.crossing_bytes,
    )


def _own_dims(model: Model, dims: Mapping[str, int]) -> dict[str, int]:
    """Those dimensions that a slice has, too: rows may be baked in on the way to it."""
    names = {dim for value in model.graph.required_inputs for dim in value.spec.shape or ()}
    return {name: size for name, size in dims.items() if name in names}


def batch_inputs(inputs: Sequence[TensorSpec]) -> list[str]:
    """Names of the inputs whose first dimension is not fixed: what several rows can be given for."""
    return [spec.name for spec in inputs if spec.shape and not isinstance(spec.shape[0], int)]


def batch_names(inputs: Sequence[TensorSpec]) -> list[str]:
    """Names of the dimensions that stand first in an input."""
    return list(dict.fromkeys(spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], str)))


def with_batch(inputs: Sequence[TensorSpec], batch: int) -> tuple[TensorSpec, ...]:
    """The inputs with `batch` rows, wherever their first dimension is not fixed."""
    names = batch_names(inputs)
    return tuple(replace(spec, shape=_shape(spec, names, batch)) for spec in inputs)


def _shape(spec: TensorSpec, names: Sequence[str], batch: int) -> tuple[int | str | None, ...] | None:
    if spec.shape is None:
        return None
    sizes = (batch if dim in names or (axis == 0 and dim is None) else dim for axis, dim in enumerate(spec.shape))
    return tuple(sizes)
