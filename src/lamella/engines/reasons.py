"""What an engine written in C++ says of a failure, as one line for a user."""

from __future__ import annotations

import re

_READ = 4000  # characters; a model's own names may make a message as long as they like
_CATEGORY = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACE = re.compile(r"(?<!\S)\S+?\.(?:h|hpp|cc|cpp|cu):\d+ ")
_PARENTHESES = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_SIGNATURE = re.compile(
    rf"[^()]*{_PARENTHESES}(?:[^\s()]*{_PARENTHESES})*[^\s()]*(?: const)?(?: noexcept)?(?: \[with [^\]]*\])? "
)
_NAME = re.compile(r"\w+ ")


def plain_reason(message: str) -> str:
    """An engine's message on one line, without its category and where in the engine's source code it comes from.

    That place is `file:line function`, with the function's whole signature where the file has its whole path.
    """
    reason = _CATEGORY.sub("", " ".join(message[:_READ].split()))
    place = _PLACE.search(reason)
    if place is None:
        return reason
    has_path = "/" in place[0] or "\\" in place[0]
    function = (_SIGNATURE if has_path else _NAME).match(reason, place.end())
    return reason[: place.start()] + reason[function.end() if function else place.end() :]
