"""Values out of a JSON document, each checked as it is taken.

A TypeError says what was expected; who reads the document makes an error of its own of it, and of a KeyError.
"""

from __future__ import annotations

from lamella.tensors import Dimension, TensorSpec


def text(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def size(value: object) -> int:
    """An integer that is not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"expected a size, found {value!r:.40}")
    return value


def number(value: object) -> float:
    """A number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"expected a number, found {value!r:.40}")
    return float(value)


def items(value: object) -> list[object]:
    """A list."""
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    return value


def members(value: object) -> dict[str, object]:
    """An object."""
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    return value


def objects(value: object) -> list[dict[str, object]]:
    """A list of objects."""
    return [members(item) for item in items(value)]


def sizes(value: object) -> tuple[int, ...]:
    """A list of integers that are not negative."""
    return tuple(size(item) for item in items(value))


def spec(value: object) -> TensorSpec:
    """What `dataclasses.asdict` makes of a `TensorSpec`."""
    entry = members(value)
    shape = entry["shape"]
    dims = None if shape is None else tuple(_dimension(dim) for dim in items(shape))
    return TensorSpec(text(entry["name"]), text(entry["datatype"]), dims)


def specs(value: object) -> tuple[TensorSpec, ...]:
    """A list of them."""
    return tuple(spec(item) for item in items(value))


def _dimension(value: object) -> Dimension:
    return value if value is None or isinstance(value, str) else size(value)
