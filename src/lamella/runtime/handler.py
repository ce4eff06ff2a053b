"""What a platform calls: `lamella.runtime.handler.handle`.

Importing this module is the INIT phase: the slice is loaded before the first request comes. It does so by itself, since
that is when platforms give a function a whole processor, and what makes a started instance a warm one.
"""

from __future__ import annotations

from time import perf_counter

_STARTED = perf_counter()

import os  # noqa: E402 - the clock runs while everything else is imported
from collections.abc import Mapping  # noqa: E402
from pathlib import Path  # noqa: E402

from lamella.runtime.function import FILE_NAME  # noqa: E402
from lamella.runtime.slice_function import SliceFunction, explained  # noqa: E402

TASK_ROOT_VARIABLE = "LAMBDA_TASK_ROOT"


def package_folder() -> Path:
    """The package's root: what the platform says, or else where `lamella` lies."""
    given = os.environ.get(TASK_ROOT_VARIABLE)
    if given and (Path(given) / FILE_NAME).is_file():
        return Path(given)
    return Path(__file__).parents[2]


with explained():
    _FUNCTION = SliceFunction(package_folder(), started=_STARTED)


def handle(event: Mapping[str, object], _context: object) -> dict[str, object]:
    """Answer an event that the platform's runtime has parsed (see `lamella.runtime.payload`)."""
    return _FUNCTION.answer(event)


def _handle_bytes(event: bytes, _context: object) -> bytes:
    return _FUNCTION.answer_bytes(event)


handle.takes_bytes = _handle_bytes  # type: ignore[attr-defined]  # `lamella.runtime.client` calls it with what came
