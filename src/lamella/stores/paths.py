"""Keys as paths in a folder, one name a segment.

A segment is its own name wherever a file system can hold that, so that files which somebody puts into the folder by
hand are objects, too. What it cannot hold (nothing at all, NUL, more than 255 bytes), and what would be taken for such,
becomes a mark and the segment's bytes in hexadecimal, in several names in a row where it is too long for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_MARK, _CONTINUED = "%~", "+"
TEMPORARY = "%."
"""What names of unfinished files begin with: no key gives such a name."""

_LONGEST_NAME = 255
_PIECE = 240
"""Digits in one name."""


def names_of(key: str) -> list[str]:
    """Names of the folders and the file for a key, or for a part of one that ends before a slash."""
    return [name for segment in key.split("/") for name in _names(segment)]


def key_of(names: Iterable[str]) -> str | None:
    """The inverse; None for names that no key gives."""
    names = list(names)
    try:
        key = "/".join(_segments(names))
        return key if names_of(key) == names else None
    except ValueError:  # no hexadecimal digits, or no Unicode
        return None


def _names(segment: str) -> Iterator[str]:
    encoded = segment.encode()
    reserved = segment.startswith((_MARK, TEMPORARY))
    if segment and not reserved and b"\0" not in encoded and len(encoded) <= _LONGEST_NAME:
        yield segment
        return
    digits = encoded.hex()
    last = max(0, (len(digits) - 1) // _PIECE * _PIECE)
    for start in range(0, last, _PIECE):
        yield f"{_MARK}{digits[start : start + _PIECE]}{_CONTINUED}"
    yield f"{_MARK}{digits[last:]}"


def _segments(names: list[str]) -> Iterator[str]:
    digits = ""
    for name in names:
        if not name.startswith(_MARK):
            if digits:
                raise ValueError("a name that is to be continued is not")
            yield name
            continue
        digits += name.removeprefix(_MARK)
        if digits.endswith(_CONTINUED):
            digits = digits.removesuffix(_CONTINUED)
        else:
            yield bytes.fromhex(digits).decode()
            digits = ""
    if digits:
        raise ValueError("a name that is to be continued is not")
