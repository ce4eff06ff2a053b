"""What a platform calls for a door: `lamella.runtime.door.handler.handle`.

In a package with a slice the same function runs that, too: it answers a slice's events as `lamella.runtime.handler`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lamella.runtime import models
from lamella.runtime.door.door import Context, Door
from lamella.runtime.function import FILE_NAME, package_folder

if TYPE_CHECKING:
    from lamella.runtime.slice_function import SliceFunction

_DOORS = (b'"requestContext"', b'"Records"', b'"lamella"')


def _slice_function() -> SliceFunction | None:
    if not (_FOLDER / FILE_NAME).is_file():
        return None
    from lamella.runtime.handler import slice_function

    return slice_function()


_FOLDER = package_folder(models.FILE_NAME)
_SLICE = _slice_function()
_DOOR = Door(_FOLDER, _SLICE)


def handle(event: Mapping[str, object], context: Context | None) -> object:
    """Answer an event that the platform's runtime has parsed."""
    if _SLICE is not None and not _DOOR.takes(event):
        return _SLICE.answer(event, context)
    return _DOOR.answer(event, context)


def _handle_bytes(event: bytes, context: Context | None) -> bytes:
    if _SLICE is not None and not _is_for_door(event):
        return _SLICE.answer_bytes(event, context)
    return json.dumps(handle(json.loads(event), context), ensure_ascii=False, separators=(",", ":")).encode()


def _is_for_door(event: bytes) -> bool:
    """Whether an event may be the door's: a slice's begins with its frame or parts, which need not be parsed."""
    head = event[:64].lstrip()
    return not head.startswith((b'{"frame"', b'{"parts"')) and any(mark in event for mark in _DOORS)


handle.takes_bytes = _handle_bytes  # type: ignore[attr-defined]  # `lamella.runtime.client` calls it with what came
