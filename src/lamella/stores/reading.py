"""Reading large objects: many ranges at once, straight into memory that is there already.

Digests and thread pools are imported where they are used: functions that read nothing start 10 ms sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import StoreError
from lamella.stores.base import Store

if TYPE_CHECKING:
    from concurrent.futures import Future
    from hashlib import _Hash

RANGE_BYTES = 8 << 20
"""What one request reads. One connection to S3 gives about 85 MB/s, and S3 advises ranges of 8 to 16 MB side by side.

https://docs.aws.amazon.com/whitepapers/latest/s3-optimizing-performance-best-practices/use-byte-range-fetches.html
"""

PARALLEL = 8
"""Requests at once: S3's share of 8 connections is what a function's network takes in a burst (600 MB/s)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object to read whole.

    Attributes:
        store: Where it lies.
        key: Its key there.
        uri: Its URI, for messages.
        buffer: As long as the object; it is filled.
        sha256: Its digest, or None to take what comes.
    """

    store: Store
    key: str
    uri: str
    buffer: memoryview
    sha256: str | None


def read_objects(wanted: Sequence[Wanted]) -> None:
    """Read objects in parallel ranges; digests are computed while later ranges arrive.

    Raises:
        StoreError: One is missing, cannot be read, or is not what its digest says; the message names it.
    """
    ranges = [(entry, start) for entry in wanted for start in range(0, len(entry.buffer), RANGE_BYTES)]
    if len(ranges) <= 1:
        for entry in wanted:
            entry.store.read_into(entry.key, entry.buffer)
            _verify(entry, _digest(entry, entry.buffer))
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="lamella-read")
    try:
        _follow(wanted, [pool.submit(_read, entry, start) for entry, start in ranges])
    finally:
        pool.shutdown(cancel_futures=True)


def _read(entry: Wanted, start: int) -> memoryview:
    part = entry.buffer[start : start + RANGE_BYTES]
    entry.store.read_into(entry.key, part, offset=start)
    return part


def _follow(wanted: Sequence[Wanted], parts: Sequence[Future[memoryview]]) -> None:
    following = iter(parts)
    for entry in wanted:
        digest = _digest(entry)
        for _ in range(0, len(entry.buffer), RANGE_BYTES):
            part = next(following).result()
            if digest is not None:
                digest.update(part)
        _verify(entry, digest)


def _digest(entry: Wanted, content: bytes | memoryview = b"") -> _Hash | None:
    if entry.sha256 is None:
        return None
    from hashlib import sha256

    return sha256(content)


def _verify(entry: Wanted, digest: _Hash | None) -> None:
    if digest is not None and digest.hexdigest() != entry.sha256:
        raise StoreError(
            f"the object `{entry.uri}` is not what was written: its SHA-256 is {digest.hexdigest()}",
            hint="something else was written there; delete it, then deploy, or send the request, again",
        )
