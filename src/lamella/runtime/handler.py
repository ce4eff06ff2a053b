"""What a platform calls: `lamella.runtime.handler.handle`.

Importing this module is the INIT phase: the slice is loaded before the first request comes. It does so by itself, since
that is when platforms give a function a whole processor, and what makes a started instance a warm one.
"""

from __future__ import annotations

from time import perf_counter

_STARTED = perf_counter()

from collections.abc import Mapping  # noqa: E402 - the clock runs while everything else is imported

from lamella.runtime.function import package_folder  # noqa: E402
from lamella.runtime.slice_function import SliceFunction, explained  # noqa: E402

with explained():
    _FUNCTION = SliceFunction(package_folder(), started=_STARTED)


def slice_function() -> SliceFunction:
    """The slice that was loaded, for what else answers in this function."""
    return _FUNCTION


def handle(event: Mapping[str, object], context: object) -> dict[str, object]:
    """Answer an event that the platform's runtime has parsed (see `lamella.runtime.payload`)."""
    return _FUNCTION.answer(event, context)


def _handle_bytes(event: bytes, context: object) -> bytes:
    return _FUNCTION.answer_bytes(event, context)


handle.takes_bytes = _handle_bytes  # type: ignore[attr-defined]  # `lamella.runtime.client` calls it with what came
