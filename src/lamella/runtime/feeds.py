"""Checks what a caller gives against what a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lamella.errors import InputError, UnsupportedModelError
from lamella.tensors import Array, TensorSpec, array_from, datatype, datatype_of, native


def check_feeds(
    given: Mapping[str, object], inputs: Sequence[TensorSpec], optional: Sequence[TensorSpec] = ()
) -> dict[str, Array]:
    """Check names, datatypes and shapes.

    Nested lists and scalars become arrays of the input's datatype where no value changes. Arrays keep their datatype;
    text becomes Python strings, and another machine's byte order this one's.

    Raises:
        InputError: An input is missing, unknown, or of another datatype or shape; the message names it.
    """
    specs = {spec.name: spec for spec in (*inputs, *optional)}
    for name in given:
        if name not in specs:
            from difflib import get_close_matches

            close = get_close_matches(name, specs, 1)
            hint = f"did you mean `{close[0]}`?" if close else f"the inputs are {_names(inputs)}"
            raise InputError(f"the model has no input `{name}`", hint=hint)
    missing = [spec for spec in inputs if spec.name not in given]
    if missing:
        raise InputError(
            f"input `{missing[0].name}` is missing ({_described(missing[0])})", hint=f"the inputs are {_names(inputs)}"
        )
    return {name: _checked(value, specs[name]) for name, value in given.items()}


def _checked(value: object, spec: TensorSpec) -> Array:
    try:
        kind = datatype(spec.datatype)
    except UnsupportedModelError:
        return value  # type: ignore[return-value]  # a sequence, map or optional: the engine checks it
    try:
        array = native(value, kind) if isinstance(value, np.ndarray) else array_from(value, kind)
        found = datatype_of(array)
    except (TypeError, ValueError, OverflowError, UnsupportedModelError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"input `{spec.name}` is no {kind.name} tensor: {reason}", hint=f"give an array of `{kind.numpy}`"
        ) from error
    if found.name != kind.name:
        raise InputError(
            f"input `{spec.name}` is {found.name}, but the model takes {_described(spec)}",
            hint=f"convert it with `.astype('{kind.numpy}')`",
        )
    _check_shape(array, spec)
    return array


def _check_shape(value: Array, spec: TensorSpec) -> None:
    if spec.shape is None:
        return
    fits = value.ndim == len(spec.shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(spec.shape, value.shape, strict=False)
    )
    if not fits:
        raise InputError(
            f"input `{spec.name}` has shape {list(value.shape)}, but the model takes {_described(spec)}",
            hint="named dimensions take any size, numbers only themselves",
        )


def _described(spec: TensorSpec) -> str:
    shape = "" if spec.shape is None else f"[{', '.join('?' if d is None else str(d) for d in spec.shape)}]"
    return f"{spec.datatype}{shape}"


def _names(inputs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"`{spec.name}`" for spec in inputs) or "none"
