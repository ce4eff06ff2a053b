"""Requests that a model takes, made up from what it says of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from lamella.errors import LamellaError
from lamella.gateway.openapi.schemas import TRAVELLING
from lamella.graph.samples import assumed_dims, evaluate
from lamella.tensors import TensorSpec

_SEQUENCE = 4
_MOST_ELEMENTS = 1024
"""Larger tensors are no example that anybody reads; they travel as bytes."""


def infer_example(inputs: Sequence[TensorSpec]) -> dict[str, object] | None:
    """The body of an infer request; None where it would be too large, or nothing can be made up."""
    try:
        dims = assumed_dims(inputs, sequence=_SEQUENCE)
        shapes = [[evaluate(dim, dims) or 1 for dim in spec.shape or (1,)] for spec in inputs]
    except LamellaError:  # arithmetic that makes no sense
        return None
    if any(spec.datatype not in TRAVELLING for spec in inputs) or sum(map(prod, shapes)) > _MOST_ELEMENTS:
        return None
    return {"inputs": [_tensor(spec, shape) for spec, shape in zip(inputs, shapes, strict=True)]}


def _tensor(spec: TensorSpec, shape: list[int]) -> dict[str, object]:
    shape = [] if spec.shape == () else shape
    return {
        "name": spec.name,
        "shape": shape,
        "datatype": spec.datatype,
        "data": [_value(spec.datatype)] * prod(shape),
    }


def _value(datatype: str) -> object:
    """One that models take: 1 is in most tables, and a mask of it hides nothing."""
    if datatype == "BYTES":
        return "text"
    if datatype == "BOOL":
        return True
    return 1 if "INT" in datatype else 0.5
