"""What a pipeline runs: slices from a directory, or a whole model as a single part."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lamella.engines.opening import EngineName, is_onnx, open_engine
from lamella.errors import ModelError
from lamella.tensors import TensorSpec
from lamella.workflow.manifest import FILE_NAME, WeightRange, read_manifest

if TYPE_CHECKING:
    from lamella.graph.model import Model


@runtime_checkable
class InDirectory(Protocol):
    """What knows its slices directory, such as the result of `lamella.slice`."""

    @property
    def directory(self) -> Path:
        """The slices directory."""
        ...


@dataclass(frozen=True)
class Part:
    """One model file to run.

    Attributes:
        model: Its file, or its bytes with references.
        folder: Where references in bytes start from.
        inputs: Names of the values that it takes.
        outputs: Names of the values that it gives; without any, it need not run.
        optional_inputs: Weights that the caller may override.
        weights: Byte ranges of its weights, absolute paths.
    """

    model: Path | bytes
    folder: Path | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    optional_inputs: tuple[str, ...]
    weights: tuple[WeightRange, ...]


@dataclass(frozen=True)
class Source:
    """Everything that a pipeline needs to know of what it runs.

    Attributes:
        inputs: What the caller must give.
        optional_inputs: What the caller may give.
        outputs: What the caller gets.
        parts: The parts, in the order they run.
        optimized: Whether the graph is optimised already.
        index_bounds: For inputs that pick rows of a table, its length.
    """

    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parts: tuple[Part, ...]
    optimized: bool
    index_bounds: Mapping[str, int]


def open_source(path: Path, engine: EngineName = "onnxruntime") -> Source:
    """A source from a slices directory or a model file, for an engine.

    Raises:
        SlicesError: The directory is no complete slices directory.
        ModelError: The file is no model that can be read.
        EngineError: The file has the engine's own format, and the engine refuses it.
        MissingDependencyError: It has, and the engine's library is not installed.
    """
    if path.is_dir():
        return _from_directory(path)
    if path.name == FILE_NAME:
        return _from_directory(path.parent)
    if not path.exists():
        raise ModelError(f"`{path}` does not exist", hint="give an `.onnx` file or a slices directory")
    if not is_onnx(path):
        return _described(path, engine)
    from lamella.graph.reader import load

    return whole(load(path), engine)


def _described(path: Path, engine: EngineName) -> Source:
    """A model in an engine's own format, of which that engine alone knows anything."""
    inputs, outputs = (tuple(specs) for specs in open_engine(engine).describe(path))
    takes, gives = (tuple(spec.name for spec in specs) for specs in (inputs, outputs))
    return Source(inputs, (), outputs, (Part(path, None, takes, gives, (), ()),), False, {})


def _from_directory(directory: Path) -> Source:
    manifest = read_manifest(directory)
    parts = [
        Part(
            directory / entry.file,
            None,
            entry.inputs,
            entry.outputs,
            entry.optional_inputs,
            tuple(WeightRange(str(directory / w.file), w.offset, w.length) for w in entry.weights),
        )
        for entry in manifest.slices
    ]
    return Source(
        manifest.inputs,
        manifest.optional_inputs,
        manifest.outputs,
        tuple(parts),
        manifest.optimized,
        manifest.index_bounds,
    )


def whole(model: Model, engine: EngineName = "onnxruntime") -> Source:
    """The whole model as one part: by reference for ONNX Runtime, which maps weights wherever they lie; or its file."""
    from lamella.graph.loadable import loadable
    from lamella.graph.samples import index_bounds

    graph = model.graph
    optional = [value.spec for value in model.optional_inputs]
    required = tuple(value.name for value in graph.required_inputs)
    content, folder = loadable(model, model.structure) if engine == "onnxruntime" else (model.path, None)
    part = Part(
        content,
        folder,
        required,
        tuple(value.name for value in graph.outputs if value.name not in required),
        tuple(spec.name for spec in optional),
        (),
    )
    return Source(
        tuple(value.spec for value in graph.required_inputs),
        tuple(optional),
        tuple(value.spec for value in graph.outputs),
        (part,),
        False,
        index_bounds(model),
    )


def read_ahead(ranges: tuple[WeightRange, ...]) -> None:
    """Ask the kernel to read these bytes into the page cache, without waiting for it."""
    if not hasattr(os, "posix_fadvise"):
        return
    for weight in ranges:
        descriptor = os.open(weight.file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, weight.offset, weight.length, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
