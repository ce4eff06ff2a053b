"""What is found out about a model when it is loaded: whether requests may be computed together, and what that brings.

Batching must never change an answer. Whether it does is no matter of shapes alone: an operator may work across rows, as
the scale of a dynamically quantised tensor does. So it is tried: two made-up requests alone, then both together. Each
comes first once, since an operator may carry something from a row to those behind it, or put rows in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from lamella.errors import EngineError, InputError, LamellaError
from lamella.gateway.serving.joining import Feeds, Layout, output_rows, rows_of
from lamella.graph.samples import sample_inputs
from lamella.tensors import Array, TensorSpec

Infer = Callable[[Mapping[str, Array]], dict[str, Array]]

_LOUDER = 8
"""The second request's floats are so much larger: what depends on the largest value of all rows shows."""

_SHORT, _LONG = 5, 11
"""Lengths of the two texts that are padded."""

_TOLERANCE = {"f": (1e-3, 1e-4), "e": (1e-2, 1e-2)}
"""Relative, and absolute against the largest value: sums are added up in another order in a batch."""

_MEASURING_S = 0.5


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found out.

    Attributes:
        layout: How requests are put together.
        reason: Why they are not, or why texts of different lengths are not; empty where there is nothing to say.
        measured_ms: What batches take by their rows.
    """

    layout: Layout
    reason: str = ""
    measured_ms: Mapping[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be tried.

    Attributes:
        infer: Runs it.
        inputs: What it takes.
        outputs: What it gives.
        bounds: For inputs that pick rows of a table, its length.
    """

    infer: Infer
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    bounds: Mapping[str, int]

    def sample(self, seed: int, sizes: Mapping[str, int]) -> dict[str, Array]:
        """A made-up request."""
        return sample_inputs(self.inputs, bounds=self.bounds, seed=seed, given=sizes)


def try_out(subject: Subject, *, largest: int, padding: bool) -> Trial:
    """Find out how requests to a model may be put together, and how long batches take.

    Args:
        subject: The model.
        largest: Rows of a batch at most; 1: there is nothing to find out.
        padding: Whether texts of different lengths may be put together.
    """
    if largest < 2:
        return Trial(Layout(joins=False))
    try:
        reason = _fixed(subject) or _mixes(subject)
    except LamellaError as error:
        reason = f"made-up requests fail: {error.message}"
    if reason:
        return Trial(Layout(joins=False), reason)
    layout, reason = _padding(subject) if padding else (_layout(subject), "")
    return Trial(layout, reason, _measured(subject, largest))


def _fixed(subject: Subject) -> str:
    """Why shapes alone forbid it."""
    if not subject.inputs:
        return "it takes no inputs"
    for kind, specs in (("input", subject.inputs), ("output", subject.outputs)):
        for spec in specs:
            if spec.shape == () or (spec.shape and isinstance(spec.shape[0], int)):
                return f"the first dimension of {kind} `{spec.name}` takes no other number of rows"
    return ""


def _layout(subject: Subject) -> Layout:
    return Layout(inputs=frozenset(spec.name for spec in subject.inputs))


def _mixes(subject: Subject) -> str:
    """How requests get into each other's answers when they are put together; empty: they do not."""
    one, two = _pair(subject)
    layout, other = _layout(subject), _with_zeros(subject, two)
    reason = _differs(subject, layout, [one, two]) or _differs(subject, layout, [two, one])
    return reason or ("" if other is None else _differs(subject, layout, [one, other]))


def _with_zeros(subject: Subject, feeds: Feeds) -> Feeds | None:
    """Made-up whole numbers are ones in every request, which shows nothing; None where they may not be zeros."""
    whole = [name for name, array in feeds.items() if array.dtype.kind in "iu" and name not in subject.bounds]
    zeros = {**feeds, **{name: np.zeros_like(feeds[name]) for name in whole}}
    try:
        subject.infer(zeros)
    except LamellaError:
        return None
    return zeros if whole else None


def _pair(subject: Subject) -> list[dict[str, Array]]:
    """Two requests, the first of one row, the second of two."""
    names = [spec.shape[0] for spec in subject.inputs if spec.shape and isinstance(spec.shape[0], str)]
    soft, loud = (subject.sample(seed, dict.fromkeys(names, rows)) for seed, rows in ((1, 1), (2, 2)))
    louder = {
        name: (array * _LOUDER).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in loud.items()
    }
    return [soft, louder]


def _differs(subject: Subject, layout: Layout, parts: Sequence[Feeds]) -> str:
    """How the answers to requests differ when they are put together; empty: they do not."""
    if len({layout.key(part) for part in parts}) != 1 or not layout.key(parts[0])[0]:
        return "its inputs have different numbers of rows"
    alone = [subject.infer(part) for part in parts]
    together = subject.infer(layout.join(parts))
    rows = [rows_of(part) for part in parts]
    for name in together:
        if [output_rows(answer[name]) for answer in (*alone, together)] != [*rows, sum(rows)]:
            return f"output `{name}` has no row for each row of a request"
    for found, wanted in zip(layout.split(together, parts), alone, strict=True):
        for name, array in wanted.items():
            if not _equal(found[name], array):
                return f"output `{name}` of a request depends on the others in its batch"
    return ""


def _equal(found: Array, wanted: Array) -> bool:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    if found.dtype.kind in "biuOSU":
        return bool((found == wanted).all())
    relative, absolute = _TOLERANCE["e" if found.dtype.itemsize < 4 else "f"]
    left, right = found.astype(np.float64), wanted.astype(np.float64)
    size = np.abs(right[np.isfinite(right)]).max(initial=0.0)
    return bool(np.allclose(left, right, rtol=relative, atol=absolute * size, equal_nan=True))


def _padding(subject: Subject) -> tuple[Layout, str]:
    """How texts of different lengths are put together, where the model has a mask for what is padding."""
    masks = [spec for spec in subject.inputs if "mask" in spec.name.lower() and len(spec.shape or ()) > 1]
    length = masks[0].shape[1] if masks and masks[0].shape else None
    if not isinstance(length, str):
        return _layout(subject), ""
    padded = frozenset(spec.name for spec in subject.inputs if len(spec.shape or ()) > 1 and spec.shape[1] == length)  # type: ignore[index]
    try:
        parts = [subject.sample(seed, {length: size}) for seed, size in ((1, _SHORT), (2, _LONG))]
        layout = replace(_layout(subject), padded=padded, cropped=_following(subject, parts))
        key = layout.key(parts[0])
        reason = "" if key[0] else "its inputs have different lengths"
        reason = reason or _differs_padded(subject, layout, parts)
    except (InputError, EngineError) as error:
        reason = f"made-up requests fail: {error.message}"
    if reason:
        return _layout(subject), f"texts of different lengths are not put together: {reason}"
    return layout, ""


def _following(subject: Subject, parts: Sequence[Feeds]) -> frozenset[str]:
    """Outputs whose second dimension is the length of the text."""
    lengths = [_outputs_lengths(subject.infer(part)) for part in parts]
    return frozenset(name for name, size in lengths[0].items() if size == _SHORT and lengths[1].get(name) == _LONG)


def _outputs_lengths(outputs: Mapping[str, Array]) -> dict[str, int]:
    return {name: array.shape[1] for name, array in outputs.items() if output_rows(array) and array.ndim > 1}


def _differs_padded(subject: Subject, layout: Layout, parts: Sequence[Feeds]) -> str:
    alone = [subject.infer(part) for part in parts]
    found = layout.split(subject.infer(layout.join(parts)), parts)
    for one, wanted in zip(found, alone, strict=True):
        for name, array in wanted.items():
            if not _equal(one[name], array):
                return f"output `{name}` depends on the padding"
    return ""


def _measured(subject: Subject, largest: int) -> dict[int, float]:
    """Milliseconds of batches of 1, 2, 4 and so on, until more rows bring nothing, or it takes too long."""
    one = _pair(subject)[0]
    found: dict[int, float] = {}
    began_s, size = perf_counter(), 1
    while size <= largest:
        feeds = {name: np.concatenate([array] * size) for name, array in one.items()}
        try:
            subject.infer(feeds)  # the engine sets memory aside for the new shape
        except LamellaError:
            break  # it does not take so many
        started_s = perf_counter()
        subject.infer(feeds)
        ended_s = perf_counter()
        found[size] = (ended_s - started_s) * 1000
        if ended_s - began_s + 4 * (ended_s - started_s) > _MEASURING_S:
            break
        size *= 2
    return found
