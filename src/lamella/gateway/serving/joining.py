"""Requests put together to one batch, and its outputs taken apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamella.errors import EngineError
from lamella.tensors import Array

Feeds = Mapping[str, Array]
Key = tuple[object, ...]
"""What requests have in common: names, datatypes and shapes of inputs, behind whether they may join each other."""

_CLASSES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""Lengths up to which texts are padded to that of the longest among them: at most half of it is padding."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the requests of a model are put together.

    Attributes:
        joins: Whether they are at all.
        inputs: With which this was tried. A request that brings others, such as weights, goes alone; empty: none does.
        padded: Inputs whose second dimension is a text's length: they are filled up with zeros.
        cropped: Outputs whose second dimension is that length.
    """

    joins: bool = True
    inputs: frozenset[str] = frozenset()
    padded: frozenset[str] = frozenset()
    cropped: frozenset[str] = frozenset()

    def key(self, feeds: Feeds) -> Key:
        """What must be equal in requests that join each other."""
        if not self.joins or not self._is_regular(feeds):
            return (False, *((name, array.dtype, array.shape) for name, array in feeds.items()))
        return (True, *((name, feeds[name].dtype, self._shape(name, feeds[name])) for name in sorted(feeds)))

    def _is_regular(self, feeds: Feeds) -> bool:
        """Whether it has the inputs that were tried, all with as many rows, and one length where they are padded."""
        if self.inputs and feeds.keys() != self.inputs:
            return False
        rows = {array.shape[0] if array.ndim else 0 for array in feeds.values()}
        lengths = {feeds[name].shape[1] for name in self.padded if name in feeds}
        return len(rows) == 1 and min(rows) > 0 and len(lengths) < 2

    def _shape(self, name: str, array: Array) -> tuple[int, ...]:
        if name not in self.padded:
            return array.shape[1:]
        length = array.shape[1]
        return (next((most for most in _CLASSES if length <= most), length), *array.shape[2:])

    def join(self, parts: Sequence[Feeds]) -> dict[str, Array]:
        """One batch of several requests with the same key. Copies every tensor once, unless there is one request."""
        if len(parts) == 1:
            return dict(parts[0])
        return {name: self._joined(name, [part[name] for part in parts]) for name in parts[0]}

    def _joined(self, name: str, arrays: Sequence[Array]) -> Array:
        if name not in self.padded:
            return np.concatenate(arrays)
        longest = max(array.shape[1] for array in arrays)
        first = arrays[0]
        joined = np.zeros((sum(len(array) for array in arrays), longest, *first.shape[2:]), first.dtype)
        start = 0
        for array in arrays:
            joined[start : start + len(array), : array.shape[1]] = array
            start += len(array)
        return joined

    def split(self, outputs: Mapping[str, Array], parts: Sequence[Feeds]) -> list[dict[str, Array]]:
        """The outputs of each request: views of the batch's.

        Raises:
            EngineError: An output has not as many rows as the batch: nobody knows whose they are.
        """
        if len(parts) == 1:
            return [dict(outputs)]
        self._check_rows(outputs, sum(rows_of(part) for part in parts))
        found: list[dict[str, Array]] = []
        start = 0
        for part in parts:
            end = start + rows_of(part)
            length = self._length(part)
            found.append(
                {
                    name: array[start:end, :length] if name in self.cropped else array[start:end]
                    for name, array in outputs.items()
                }
            )
            start = end
        return found

    def _check_rows(self, outputs: Mapping[str, Array], rows: int) -> None:
        for name, array in outputs.items():
            if output_rows(array) != rows:
                raise EngineError(
                    f"output `{name}` of a batch of {rows} rows has {output_rows(array)}",
                    hint="serve the model with `--max-batch-size 1`",
                )

    def _length(self, part: Feeds) -> int | None:
        return next((part[name].shape[1] for name in self.padded if name in part), None)


def rows_of(feeds: Feeds) -> int:
    """Rows of a request that may be put together with others."""
    return len(next(iter(feeds.values())))


def output_rows(output: object) -> int:
    """How many an output has; a sequence or map has none."""
    return len(output) if isinstance(output, np.ndarray) and output.ndim else 0


def joins(key: Key) -> bool:
    """Whether requests with this key may join each other."""
    return bool(key[0])
