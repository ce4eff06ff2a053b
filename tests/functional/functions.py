"""Packages of functions without the closure, as packaging lays them out: `function.json` and the model."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lamella
from lamella.graph.reader import load
from lamella.graph.references import find_references
from lamella.runtime.function import FunctionConfig, ObjectFile, WeightTensor
from lamella.stores.opening import open_store
from lamella.tensors import TensorSpec, datatype
from lamella.workflow.manifest import SliceEntry, read_manifest


def sliced(path: Path, *, slices: int, optimize_first: bool = False) -> Path:
    """A slices directory beside a model, with copied weights."""
    folder = path.parent / f"{path.stem}.slices"
    lamella.slice(
        lamella.load(path), folder, slices=slices, verify=False, copy_weights=True, optimize_first=optimize_first
    )
    return folder


def build(directory: Path, into: Path, *, store: str | None = None) -> list[Path]:
    """A package for each slice; with `store`, the weights go there and the packages do not have them."""
    manifest = read_manifest(directory)
    return [
        _build(directory, entry, into / f"slice-{entry.index}", store, optimized=manifest.optimized)
        for entry in manifest.slices
    ]


def _build(directory: Path, entry: SliceEntry, folder: Path, store: str | None, *, optimized: bool) -> Path:
    (folder / "model").mkdir(parents=True)
    function = config(directory, entry, optimized=optimized)
    (folder / "model" / entry.file).write_bytes((directory / entry.file).read_bytes())
    files = sorted({place.file for place in entry.weights})
    if store is None:
        for file in files:
            (folder / "model" / file).write_bytes((directory / file).read_bytes())
    else:
        objects = [_sent(directory / file, file, store) for file in files]
        weights = _tensors(directory / entry.file)
        function = replace(function, delivery="object-store", objects=tuple(objects), weights=tuple(weights))
    function.write(folder)
    return folder


def config(directory: Path, entry: SliceEntry, *, optimized: bool = False) -> FunctionConfig:
    """What a function is told of a slice, delivered in its package."""
    graph = lamella.load(directory / entry.file).graph
    specs = {value.name: value.spec for value in (*graph.inputs, *graph.outputs)}

    def of(names: Sequence[str]) -> tuple[TensorSpec, ...]:
        return tuple(specs[name] for name in names)

    return FunctionConfig(
        name=f"test-slice-{entry.index}",
        slice=entry.index,
        file=entry.file,
        inputs=of(entry.inputs),
        outputs=of(entry.outputs),
        optional_inputs=of(entry.optional_inputs),
        optimized=optimized,
    )


def _sent(path: Path, file: str, store: str) -> ObjectFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return ObjectFile(file, open_store(store).put(f"weights/{digest}/{file}", content), len(content), digest)


def _tensors(path: Path) -> list[WeightTensor]:
    model = load(path)
    initializers = [w for w in model.graph.initializers.values() if w.range is not None and not w.sparse]
    named = [
        WeightTensor(w.name, datatype(w.datatype).name, w.shape, w.range.location, w.range.offset, w.range.length)
        for w in initializers
        if w.range is not None
    ]
    known = {(w.file, w.offset, w.length) for w in named}
    others = {(r.location, r.offset, r.length) for r in find_references(model.structure)} - known
    return named + [WeightTensor(None, "UINT8", (length,), *place, length) for *place, length in sorted(others)]
