"""Outputs of a run: what is shown of them, and how they are saved."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

import numpy as np

from lamella.slicing.placement import write_atomically
from lamella.tensors import Array, TensorSpec, datatype_of

_VALUES_SHOWN = 3
Number = int | float


@dataclass(frozen=True)
class Summary:
    """One output in numbers; those that make no sense for it are None.

    Attributes:
        name: Its name.
        datatype: Its datatype, or `sequence`, `map`, `optional`.
        shape: Its shape.
        min: Its smallest element; NaN where one is.
        max: Its largest element.
        mean: The mean of its elements.
        preview: Its first elements, for people.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    min: Number | None
    max: Number | None
    mean: Number | None
    preview: str


def summary(spec: TensorSpec, value: object) -> Summary:
    """An output in numbers."""
    if not isinstance(value, np.ndarray):
        return Summary(spec.name, spec.datatype, None, None, None, None, _short(value))
    kind = datatype_of(value).name
    least, most, mean = _statistics(value, kind)
    return Summary(spec.name, kind, value.shape, least, most, mean, _preview(value))


def _statistics(array: Array, kind: str) -> tuple[Number | None, Number | None, Number | None]:
    if array.size == 0 or kind in ("BYTES", "BOOL") or array.dtype.kind == "c":
        return None, None, None
    numbers = array if array.dtype.kind in "iuf" else array.astype(np.float32)  # a type that NumPy lacks
    with np.errstate(all="ignore"):
        return numbers.min().item(), numbers.max().item(), float(numbers.mean(dtype=np.float64))


def _preview(array: Array) -> str:
    flat = array.ravel()[:_VALUES_SHOWN].tolist()
    more = ", ..." if array.size > _VALUES_SHOWN else ""
    return ", ".join(_element(item) for item in flat) + more


def _element(item: object) -> str:
    return f"{item:.4g}" if isinstance(item, float) else repr(item)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def save(target: BinaryIO | Path, outputs: Mapping[str, object]) -> None:
    """Write outputs as `.npz`, without pickle: sequences of tensors as `NAME.0`, `NAME.1`; maps as JSON text.

    A file is there whole, or as it was before. Not `numpy.savez`, whose own arguments' names (`file`) no output could
    have.
    """
    if isinstance(target, Path):
        write_atomically(target, lambda partial: _save(partial, outputs))
    else:
        _save(target, outputs)


def _save(target: BinaryIO | Path, outputs: Mapping[str, object]) -> None:
    with ZipFile(target, "w") as archive:
        for name, value in outputs.items():
            for key, array in _arrays(name, value):
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


def _arrays(name: str, value: object) -> Iterator[tuple[str, Array]]:
    if isinstance(value, np.ndarray):
        yield name, value.astype(str) if value.dtype.kind == "O" else value
    elif isinstance(value, Sequence) and all(isinstance(item, np.ndarray) for item in value):
        for index, item in enumerate(value):
            yield from _arrays(f"{name}.{index}", item)
    else:
        yield name, np.array(json.dumps(_plain(value)))


def _plain(value: object) -> object:
    """What JSON can hold: keys as text, arrays as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
