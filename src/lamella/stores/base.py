"""What a store is: bytes under keys, each written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lamella.errors import StoreError

Buffer = bytes | bytearray | memoryview

MAX_KEY_BYTES = 1024
"""S3's limit, in UTF-8.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object in a listing.

    Attributes:
        key: Its key.
        size: Its size in bytes.
        modified: When it was written, in seconds since 1970.
        etag: Changes whenever the object is written again.
    """

    key: str
    size: int
    modified: float
    etag: str


class Store(Protocol):
    """A place for objects. All methods may be called from several threads at once, and raise `StoreError`."""

    @property
    def uri(self) -> str:
        """What `open_store` opens it by."""
        ...

    def put(self, key: str, *buffers: Buffer, lasting: bool = True) -> str:
        """Write an object from buffers in a row, whole or not at all; return its URI.

        `lasting` is False for what nobody needs after a power cut, such as values between slices.
        """
        ...

    def create(self, key: str, *buffers: Buffer) -> bool:
        """Write it unless another is there: of several writers at once, one. False if another was there already.

        One with the same bytes counts as written: where a connection breaks, nobody can tell who wrote it.
        """
        ...

    def get(self, key: str) -> bytes:
        """The whole object."""
        ...

    def read_into(self, key: str, buffer: memoryview, *, offset: int = 0) -> None:
        """Fill `buffer` with the object's bytes from `offset` on, without another copy of all of them."""
        ...

    def size(self, key: str) -> int:
        """Its size in bytes."""
        ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, in the order of the keys' code points."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error if there is none."""
        ...

    def delete_all(self, prefix: str, *, older_than_s: float | None = None) -> int:
        """Remove every object whose key begins with `prefix`, or those of them that were written so many seconds ago.

        Return how many there were.
        """
        ...


def check_key(key: str) -> str:
    """The key, if it is one: segments between slashes, none of them `.` or `..`, no slash in front.

    Raises:
        StoreError: It is none.
    """
    if not key or key.startswith("/") or not {".", ".."}.isdisjoint(key.split("/")):
        raise StoreError(
            f"`{key}` is no key of an object", hint="give names between slashes, no slash in front, and no `..`"
        )
    try:
        length = len(key.encode())
    except UnicodeEncodeError as error:
        raise StoreError(f"`{key!r}` is no key of an object: it is not Unicode", hint="rename it") from error
    if length > MAX_KEY_BYTES:
        raise StoreError(
            f"a key of {length} bytes is above the limit of {MAX_KEY_BYTES}: `{key}`", hint="give a shorter one"
        )
    return key


def may_begin_a_key(prefix: str) -> bool:
    """Whether there can be a key that begins so; where not, a listing is empty, and looks at nothing."""
    *segments, _ = prefix.split("/")
    return {".", ".."}.isdisjoint(segments) and not re.search("[\ud800-\udfff]", prefix)


def missing(uri: str) -> StoreError:
    """The error for an object that is not there."""
    return StoreError(
        f"there is no object `{uri}`", hint="it was deleted, has expired, or was never written; see the store's listing"
    )


def too_short(uri: str, offset: int, wanted: int) -> StoreError:
    """The error for an object that ends before the bytes that were asked for."""
    return StoreError(
        f"the object `{uri}` ends before byte {offset + wanted:,}", hint="it was replaced by another; write it again"
    )
