"""Bytes of every value, for assumed sizes of the symbolic dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from lamella.errors import LamellaError
from lamella.graph.inference import infer_values, with_outputs
from lamella.graph.model import Model, Value
from lamella.graph.samples import assumed_dims, evaluate, index_bounds, sample_inputs
from lamella.tensors import datatype

_BYTES_PER_STRING = 32


def value_sizes(
    model: Model, *, custom_ops: Sequence[str | Path] = (), dims: Mapping[str, int] | None = None
) -> tuple[dict[str, int], dict[str, Value]]:
    """Size in bytes of every tensor value, and the type of every value, by name.

    `dims` are sizes of symbolic dimensions; those that it does not name are assumed.

    Values that are no tensors have no size. Where inference does not know a shape, the model is run once on made-up
    inputs, by reference and without optimisation; what even that does not tell counts as empty.

    Raises:
        UsageError: `dims` has a name that no input has.
    """
    values = infer_values(model, custom_ops=custom_ops)
    dims = assumed_dims([value.spec for value in model.graph.required_inputs], given=dims)
    used = {name for node in model.graph.nodes for name in node.uses}
    sizes: dict[str, int] = {}
    unknown: list[str] = []
    for name, value in values.items():
        if value.type is not None and value.type.is_tensor:
            size = _size(value, dims)
            if size is None:
                unknown.append(name)
            sizes[name] = size or 0
    made = {name for node in model.graph.nodes for name in node.outputs}
    unknown = [name for name in unknown if name in made and name in used]  # what only the caller gets crosses no cut
    if unknown:
        sizes.update(_measured(model, [values[name] for name in unknown], custom_ops, dims))
    return sizes, values


def _size(value: Value, dims: Mapping[str, int]) -> int | None:
    assert value.type is not None
    if value.type.shape is None:
        return None
    shape = [evaluate(dim, dims) for dim in value.type.shape]
    if any(size is None for size in shape):
        return None
    elements = prod(size for size in shape if size is not None)
    kind = datatype(value.type.datatype)
    return kind.size_bytes(elements) if kind.bits else elements * _BYTES_PER_STRING


def _measured(
    model: Model, values: Sequence[Value], custom_ops: Sequence[str | Path], dims: Mapping[str, int]
) -> dict[str, int]:
    """Sizes read off one run, in which `values` are further outputs; empty where the model does not run."""
    from lamella.engines.base import EngineOptions
    from lamella.engines.onnxruntime import OnnxRuntimeEngine

    declared = {value.name for value in model.graph.outputs}
    inputs = [value.spec for value in model.graph.required_inputs]
    wanted = [value for value in values if value.name not in declared]
    data, folder = with_outputs(model, [value.proto for value in wanted])
    libraries = tuple(Path(library) for library in custom_ops)
    options = EngineOptions(optimization="none", low_memory=True, custom_ops=libraries)
    engine = OnnxRuntimeEngine()
    try:
        session = engine.load(data, options, folder=folder)
        items = session.infer(sample_inputs(inputs, bounds=index_bounds(model), given=dims))
        return {value.name: engine.to_array(items[value.name]).nbytes for value in values}
    except LamellaError:
        return {}
