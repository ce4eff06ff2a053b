"""Images, texts and questions as they come over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lamella.errors import InputError
from lamella.tasks.base import Item

MOST_ITEMS = 1024
"""Of one request."""

_HINT = (
    'send an image or a text as it is, or JSON: `{"text": "..."}`, `{"question": "...", "context": "..."}`, '
    '`{"items": [...]}`'
)


def read_items(content_type: str, body: bytes) -> list[Item]:
    """What a request asks about: one item, or several in JSON.

    Args:
        content_type: `application/json`, `text/...`, or of whatever file the body is.
        body: The text, the file, or JSON: an object whose `items` is a list, or that is an item itself. An item in JSON
            is a text, or an object; one whose only field is `text` is that text.

    Raises:
        InputError: It is none of these.
    """
    if not body:
        raise InputError("the body is empty", hint=_HINT)
    if content_type.startswith("text/"):
        return [_text(body)]
    if content_type != "application/json":
        return [body]
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is no JSON: {error}", hint=_HINT) from error
    several = content.get("items") if isinstance(content, dict) and "items" in content else [content]
    if not isinstance(several, list) or not 0 < len(several) <= MOST_ITEMS:
        raise InputError(f"`items` is no list of 1 to {MOST_ITEMS} items", hint=_HINT)
    return [_item(each) for each in several]


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the text is not UTF-8: {error}", hint="send it as UTF-8") from error


def _item(given: object) -> Item:
    if isinstance(given, str):
        return given
    if not isinstance(given, Mapping):
        raise InputError(f"an item is neither a text nor an object: {given!r:.40}", hint=_HINT)
    return str(given["text"]) if set(given) == {"text"} else given
