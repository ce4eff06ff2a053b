"""How far two results are apart, and how far they may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lamella.tensors import Array, datatype_of

TOLERANCES = {
    "FP64": (1e-9, 1e-12),
    "FP32": (1e-4, 1e-5),
    "COMPLEX64": (1e-4, 1e-5),
    "COMPLEX128": (1e-9, 1e-12),
    "FP16": (1e-2, 1e-3),
    "BF16": (4e-2, 1e-2),
}
"""Relative and absolute tolerance by datatype: some 1,000 roundings; 8-bit floats get one step; all else is exact."""

_EIGHT_BIT_FLOATS = (0.25, 0.03)


@dataclass(frozen=True)
class OutputDifference:
    """How far one output is from the expected one.

    Attributes:
        name: Its name.
        datatype: Its datatype, or what it is where it is no tensor.
        ok: Whether it is within tolerance.
        max_abs_diff: The largest absolute difference; infinite where shapes, types or text differ.
        max_rel_diff: The largest difference relative to the expected element; elements expected to be 0 do not count.
    """

    name: str
    datatype: str
    ok: bool
    max_abs_diff: float
    max_rel_diff: float


def difference(name: str, expected: object, actual: object, *, tolerance: float | None = None) -> OutputDifference:
    """Compare two results: arrays, or lists and dicts of them. NaN equals NaN.

    Args:
        name: For the report.
        expected: What the whole model gave.
        actual: What the slices gave.
        tolerance: Relative and absolute, instead of `TOLERANCES`.
    """
    pairs = list(_pairs(expected, actual))
    kinds = {datatype_of(pair[0]).name for pair in pairs if pair is not None}
    kind = kinds.pop() if len(kinds) == 1 and isinstance(expected, np.ndarray) else type(expected).__name__
    found = [_array_difference(*pair, tolerance) if pair is not None else _DIFFERENT for pair in pairs]
    return OutputDifference(
        name,
        kind,
        all(ok for ok, _, _ in found),
        max((absolute for _, absolute, _ in found), default=0.0),
        max((relative for _, _, relative in found), default=0.0),
    )


_Found = tuple[bool, float, float]
_DIFFERENT: _Found = (False, float("inf"), float("inf"))
_EQUAL: _Found = (True, 0.0, 0.0)


def _pairs(expected: object, actual: object) -> Iterator[tuple[Array, Array] | None]:
    """Arrays to compare with each other; None where the two have different structure."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        if expected.keys() != actual.keys():
            yield None
        else:
            for key in expected:
                yield from _pairs(expected[key], actual[key])
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield None
        else:
            for left, right in zip(expected, actual, strict=True):
                yield from _pairs(left, right)
    elif expected is None or actual is None:
        if expected is not actual:
            yield None
    else:
        yield np.asarray(expected), np.asarray(actual)


def _array_difference(expected: Array, actual: Array, tolerance: float | None) -> _Found:
    if expected.shape != actual.shape or expected.dtype.kind != actual.dtype.kind:
        return _DIFFERENT
    kind = datatype_of(expected).name
    if kind in ("BYTES", "BOOL"):
        return _EQUAL if np.array_equal(expected, actual) else _DIFFERENT
    if expected.tobytes() == actual.tobytes():
        return _EQUAL
    rtol, atol = TOLERANCES.get(kind, _EIGHT_BIT_FLOATS if kind.startswith("FLOAT") else (0.0, 0.0))
    if tolerance is not None:
        rtol = atol = tolerance
    return _numeric_difference(_wide(expected), _wide(actual), rtol, atol)


def _wide(array: Array) -> npt.NDArray[Any]:
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    return array if array.dtype.kind in "iu" and array.dtype.itemsize == 8 else array.astype(np.float64)


def _numeric_difference(expected: npt.NDArray[Any], actual: npt.NDArray[Any], rtol: float, atol: float) -> _Found:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
        larger, smaller = np.maximum(expected, actual), np.minimum(expected, actual)  # uint64 has no negative
        apart = np.abs(expected - actual) if expected.dtype.kind == "c" else (larger - smaller).astype(np.float64)
        gap = np.where(same, 0.0, apart)
        size = np.abs(expected).astype(np.float64)
        gap = np.where(np.isnan(gap), np.inf, gap)
        relative = np.where((size > 0) & (gap > 0), gap / size, 0.0)
        ok = bool(np.all(gap <= atol + rtol * np.where(np.isfinite(size), size, 0.0)))
    return ok, float(gap.max(initial=0.0)), float(np.nan_to_num(relative, nan=np.inf).max(initial=0.0))
