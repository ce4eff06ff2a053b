"""Sizes and counts as flags take them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from lamella.errors import UsageError

UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
"""Powers of 1000, as disks and models are measured, and of 1024, as memory is. A unit is never assumed."""


def parse_size(text: str, *, flag: str) -> int:
    """Bytes of a size such as `512MB` or `1.5GiB`.

    Args:
        text: A positive number and a unit, in upper or lower case.
        flag: The flag that it was given for, for the message.

    Raises:
        UsageError: It is no such size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower(), re.ASCII)
    unit = UNITS.get(match[2]) if match else None
    size = 0 if match is None or unit is None else int(Decimal(match[1]) * unit)
    if size < 1:
        raise UsageError(
            f"`{flag}` takes a size, not `{text}`", hint="write it like `512MB`, `2GB`, `512MiB`, `1.5GiB`"
        )
    return size


def parse_memory_mb(text: str) -> int:
    """The memory of a function, in the MB that platforms count in: 1024 KB, whichever way the unit is written.

    Raises:
        UsageError: It is no number of MB, or a size that is no whole one.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(?:(m|g)i?b)?", text.strip().lower(), re.ASCII)
    size = Decimal(0) if match is None else Decimal(match[1]) * (1024 if match[2] == "g" else 1)
    if size < 1 or size % 1:
        raise UsageError(
            f"`--memory` takes a whole number of MB or a size, not `{text}`",
            hint="write it like `1769`, `2048MiB`, `2GB`; an MB has 1024 KB here, as platforms count",
        )
    return int(size)


def parse_slices(text: str) -> int | Literal["max"]:
    """The number of slices, or `max` for one at every legal cut.

    Raises:
        UsageError: It is neither.
    """
    if text == "max":
        return "max"
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise UsageError(
            f"`--slices` takes a number, not `{text}`", hint="write it like `4`, or `max` for every legal cut"
        )
    return int(text)


def parse_dims(texts: Sequence[str]) -> dict[str, int]:
    """Sizes of symbolic dimensions, given as `NAME=N`.

    Raises:
        UsageError: One is written otherwise.
    """
    dims: dict[str, int] = {}
    for text in texts:
        name, _, size = text.partition("=")
        if not name or not re.fullmatch(r"[1-9]\d{0,8}", size, re.ASCII):
            raise UsageError(f"`--dim` takes a name and a size, not `{text}`", hint="write it like `sequence=128`")
        dims[name] = int(size)
    return dims
