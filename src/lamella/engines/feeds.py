"""Arrays for engines that check little themselves: they compute with what is wrong, and say nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lamella.engines.base import Item
from lamella.errors import InputError
from lamella.tensors import Array, Dimension, TensorSpec, datatype, datatype_of, native

_INT32 = np.iinfo(np.int32)


def checked(feeds: Mapping[str, Item], inputs: Sequence[TensorSpec], engine: str) -> dict[str, Array]:
    """An array for each input, contiguous and in this machine's byte order.

    Raises:
        InputError: One is missing, unknown, or of another datatype or shape, or holds an integer beyond 32 bits, in
            which `engine` computes those of 64; the message names it.
    """
    specs = {spec.name: spec for spec in inputs}
    names = ", ".join(f"`{name}`" for name in specs) or "none"
    for name in feeds:
        if name not in specs:
            raise InputError(f"the model has no input `{name}`", hint=f"the inputs are {names}")
    for name in specs:
        if name not in feeds:
            raise InputError(f"input `{name}` is missing", hint=f"the inputs are {names}")
    arrays = {name: _array(feeds[name], spec) for name, spec in specs.items()}
    for name, array in arrays.items():
        if array.dtype.kind in "iu" and array.itemsize == 8 and array.size:
            _check_range(name, array, engine)
    return arrays


def _check_range(name: str, array: Array, engine: str) -> None:
    if int(array.max()) > _INT32.max or int(array.min()) < _INT32.min:
        raise InputError(
            f"input `{name}` holds integers beyond 32 bits, in which {engine} computes",
            hint="use ONNX Runtime: `--engine onnxruntime`",
        )


def _array(item: Item, spec: TensorSpec) -> Array:
    kind = datatype(spec.datatype)
    if not isinstance(item, np.ndarray):
        raise InputError(f"input `{spec.name}` is no tensor", hint=f"give an array of `{kind.numpy}`")
    found = datatype_of(item)
    if found.name != kind.name:
        raise InputError(
            f"input `{spec.name}` is {found.name}, but the model takes {kind.name}", hint=f"give it as {kind.name}"
        )
    if not fits(item.shape, spec.shape):
        raise InputError(
            f"input `{spec.name}` has shape {list(item.shape)}, but the model takes {described(spec.shape)}",
            hint="named dimensions take any size, numbers only themselves",
        )
    array = native(item)
    return np.ascontiguousarray(array) if array.ndim else array


def fits(shape: tuple[int, ...], wanted: Sequence[Dimension] | None) -> bool:
    """Whether an array of this shape is what a specification says."""
    return wanted is None or (
        len(shape) == len(wanted)
        and all(not isinstance(size, int) or size == found for size, found in zip(wanted, shape, strict=True))
    )


def described(shape: Sequence[Dimension] | None) -> str:
    """A specification's shape for people."""
    return f"[{', '.join('?' if size is None else str(size) for size in shape or ())}]"
