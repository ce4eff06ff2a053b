"""Inputs made up from what the graph says: sizes for symbolic dimensions, and tensors that the model can run on."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from math import prod

import numpy as np

from lamella.errors import InputError, UnsupportedModelError, UsageError
from lamella.graph.model import Model
from lamella.tensors import Array, Dimension, TensorSpec, datatype

BATCH, SEQUENCE, SIDE = 1, 64, 224
"""Sizes assumed for symbolic dimensions: the first axis, the sides of images, and any other."""

_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}


_MOST_ELEMENTS = 1 << 27  # 1 GiB while they are made


def assumed_dims(
    inputs: Sequence[TensorSpec], *, sequence: int = SEQUENCE, given: Mapping[str, int] | None = None
) -> dict[str, int]:
    """A size for every named dimension of the inputs: the one in `given`, else an assumed one.

    Raises:
        UsageError: `given` has a name that no input has, not even in arithmetic such as `2*sequence`.
    """
    names = list(dict.fromkeys(dim for spec in inputs for dim in spec.shape or () if isinstance(dim, str)))
    known = {part for name in names for part in (name, *re.split(r"[^\w.]+", name))}
    for name in given or ():
        if name not in known:
            raise _unknown_dimension(name, names)
    return _completed(inputs, sequence, given or {})


def _unknown_dimension(name: str, names: Sequence[str]) -> UsageError:
    close = get_close_matches(name, names, 1)
    hint = f"they have {', '.join(f'`{known}`' for known in names)}" if names else "leave it out: they have none"
    return UsageError(
        f"the inputs have no symbolic dimension `{name}`", hint=f"did you mean `{close[0]}`?" if close else hint
    )


def _completed(inputs: Sequence[TensorSpec], sequence: int, given: Mapping[str, int]) -> dict[str, int]:
    dims = dict(given)
    for spec in inputs:
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str):
                dims.setdefault(dim, _assumed(spec, axis, sequence))
    return dims


def _assumed(spec: TensorSpec, axis: int, sequence: int) -> int:
    if axis == 0:
        return BATCH
    image = spec.datatype in ("FP32", "FP16", "UINT8") and len(spec.shape or ()) == 4 and axis >= 2
    return SIDE if image else sequence


def evaluate(dimension: Dimension, dims: Mapping[str, int]) -> int | None:
    """The size of a dimension, which may be arithmetic such as `2*sequence`; None where it is not known."""
    if dimension is None or isinstance(dimension, int):
        return dimension
    if dimension in dims:
        return dims[dimension]
    if len(dimension) > 200 or not any(c in dimension for c in "+-*/"):
        return None
    try:
        size = _evaluate(ast.parse(dimension, mode="eval").body, dims)
        return size if size >= 0 else None
    except (SyntaxError, ValueError, KeyError, TypeError, ZeroDivisionError, MemoryError, RecursionError):
        return None


def _evaluate(node: ast.expr, dims: Mapping[str, int]) -> int:
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_evaluate(node.left, dims), _evaluate(node.right, dims))
    if isinstance(node, ast.Name):
        return dims[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    raise TypeError


def sample_inputs(
    inputs: Sequence[TensorSpec],
    *,
    bounds: Mapping[str, int],
    seed: int = 0,
    sequence: int = SEQUENCE,
    given: Mapping[str, int] | None = None,
) -> dict[str, Array]:
    """Random tensors for `inputs`: normal floats, indices below their bound, ones for other integers.

    Args:
        inputs: What to make.
        bounds: For inputs that index a table, its length (`index_bounds`).
        seed: Of the random generator; the same seed gives the same tensors.
        sequence: Size of symbolic dimensions that are neither a batch nor the side of an image.
        given: Sizes of symbolic dimensions, by name, of these inputs or others; those not given are assumed.

    Raises:
        InputError: An input is no tensor, or has a type or rank that cannot be made up.
    """
    generator = np.random.default_rng(seed)
    dims = _completed(inputs, sequence, given or {})
    made: dict[str, Array] = {}
    for spec in inputs:
        shape = tuple(_size(spec, axis, dims, sequence) for axis in range(len(spec.shape or ())))
        made[spec.name] = _sample(spec, shape, bounds.get(spec.name), generator)
    return made


def _size(spec: TensorSpec, axis: int, dims: Mapping[str, int], sequence: int) -> int:
    size = evaluate((spec.shape or ())[axis], dims)
    return _assumed(spec, axis, sequence) if size is None else size


def _sample(spec: TensorSpec, shape: tuple[int, ...], bound: int | None, generator: np.random.Generator) -> Array:
    try:
        kind = datatype(spec.datatype)
    except UnsupportedModelError as error:
        raise InputError(
            f"input `{spec.name}` is a {spec.datatype}, which cannot be made up", hint="give it with `--input`"
        ) from error
    if min(shape, default=0) < 0 or prod(shape) > _MOST_ELEMENTS:
        raise InputError(
            f"an input `{spec.name}` of shape {list(shape)} cannot be made up",
            hint="give it with `--input`",
        )
    if kind.name == "BYTES":
        words = np.array(["lamella", "slice", "a b c", ""], object)
        return words[generator.integers(0, len(words), shape)].reshape(shape)
    if kind.name == "BOOL":
        return generator.integers(0, 2, shape).astype(bool)
    if bound is not None:
        return generator.integers(0, max(1, bound), shape).astype(kind.dtype)
    if kind.name.startswith(("INT", "UINT")):
        eight_bits = kind.bits == 8  # pixels or quantised values; wider integers are masks, types, lengths
        return (generator.integers(0, 100, shape) if eight_bits else np.ones(shape)).astype(kind.dtype)
    return generator.standard_normal(shape).astype(kind.dtype)


def index_bounds(model: Model) -> dict[str, int]:
    """For each model input that picks rows of an initializer (`Gather`), the number of rows."""
    names = {value.name for value in model.graph.required_inputs}
    bounds: dict[str, int] = {}
    renamed: dict[str, str] = {}
    for node in model.graph.nodes:
        if node.op[1] in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten") and node.inputs:
            source = renamed.get(node.inputs[0], node.inputs[0])
            if source in names:
                renamed.update(dict.fromkeys(node.outputs, source))
        if node.op[1] in ("Gather", "GatherElements") and len(node.inputs) == 2:
            table = model.graph.initializers.get(node.inputs[0])
            source = renamed.get(node.inputs[1], node.inputs[1])
            if table is not None and table.shape and source in names:
                bounds[source] = min(bounds.get(source, table.shape[0]), table.shape[0])
    return bounds
