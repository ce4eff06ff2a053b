"""Blobs: what images consist of, each a file that is named by its digest, kept in the cache for the next time.

https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkstemp
from time import time
from typing import BinaryIO

from lamella.errors import PackageError
from lamella.packaging.cache import FILE_MODE

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"

LARGEST_DOCUMENT_BYTES = 4 << 20
"""Manifests above this size are refused, as registries do."""

BLOCK_BYTES = 1 << 20

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARTIAL = ".building-"
_ABANDONED_AFTER_S = 3600.0
_DAMAGED = "pull or build the image again"


@dataclass(frozen=True)
class Descriptor:
    """What a blob is.

    Attributes:
        media_type: Its type.
        digest: `sha256:` and 64 hexadecimal digits.
        size: In bytes.
        annotations: What else is said of it.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    def view(self) -> dict[str, object]:
        """As JSON has it."""
        said = {"annotations": dict(self.annotations)} if self.annotations else {}
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **said}


def descriptor_of(found: object) -> Descriptor:
    """A descriptor from JSON.

    Raises:
        PackageError: It is none, or has a digest other than SHA-256.
    """
    entry = found if isinstance(found, dict) else {}
    digest, size, kind = entry.get("digest"), entry.get("size"), entry.get("mediaType", "")
    said = entry.get("annotations") or {}
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise PackageError(f"`{digest!s:.80}` is no SHA-256 digest", hint="choose an image whose blobs have such")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not isinstance(said, dict):
        raise PackageError(f"the descriptor of `{digest}` is damaged", hint=_DAMAGED)
    return Descriptor(str(kind), digest, size, {str(key): str(value) for key, value in said.items()})


def document(content: bytes, what: str) -> dict[str, object]:
    """A JSON object from an image.

    Raises:
        PackageError: It is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{what} is no JSON: {error}", hint=_DAMAGED) from error
    if not isinstance(found, dict):
        raise PackageError(f"{what} is no JSON object", hint=_DAMAGED)
    return found


def digest_of_bytes(content: bytes) -> str:
    """The digest of a document."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class NewBlob:
    """A blob while it is written: a file that knows its digest.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, block: bytes | memoryview) -> int:
        """Write a block."""
        self._hash.update(block)
        self._file.write(block)
        self.size += len(block)
        return len(block)

    def flush(self) -> None:
        """Nothing is held back here."""

    def tell(self) -> int:
        """The position."""
        return self.size


@dataclass(frozen=True)
class Blobs:
    """Blobs in a folder, laid out as an OCI image layout has them: `blobs/sha256/DIGEST`. Several processes may add.

    Attributes:
        folder: Where they lie.
    """

    folder: Path

    @property
    def _place(self) -> Path:
        return self.folder / "blobs" / "sha256"

    def path(self, digest: str) -> Path:
        """Where a blob lies, or would lie."""
        return self._place / digest.removeprefix("sha256:")

    def has(self, digest: str, size: int) -> bool:
        """Whether a blob is there, in its full size."""
        try:
            return os.stat(self.path(digest)).st_size == size
        except OSError:
            return False

    def find(self, digest: str, size: int) -> bool:
        """The same, for somebody who wants it: when that last was is the blob's time of modification."""
        if not self.has(digest, size):
            return False
        with suppress(OSError):  # a cache that is read-only, or somebody else's
            os.utime(self.path(digest))
        return True

    def read(self, blob: Descriptor) -> bytes:
        """The content of a small blob.

        Raises:
            PackageError: It is missing, too large for a document, or damaged.
        """
        try:
            if blob.size > LARGEST_DOCUMENT_BYTES:
                raise PackageError(f"`{blob.digest}` is too large for a document", hint=_DAMAGED)
            content = self.path(blob.digest).read_bytes()
        except OSError as error:
            raise PackageError(f"blob `{blob.digest}` is missing: {error.strerror}", hint=_DAMAGED) from error
        if digest_of_bytes(content) != blob.digest:
            raise PackageError(f"blob `{blob.digest}` is damaged", hint=_DAMAGED)
        return content

    def add(self, content: bytes, media_type: str) -> Descriptor:
        """Keep a document."""
        digest = digest_of_bytes(content)
        if not self.find(digest, len(content)):
            with self.new() as blob:
                blob.write(content)
        return Descriptor(media_type, digest, len(content))

    @contextmanager
    def new(self, expected: Descriptor | None = None) -> Iterator[NewBlob]:
        """A blob to write, which is found under its digest once it is whole, and never before.

        Args:
            expected: What it must be.

        Raises:
            PackageError: It cannot be written, or is not what was expected.
        """
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            descriptor, name = mkstemp(prefix=_PARTIAL, dir=self._place)
            partial = Path(name)
            try:
                with os.fdopen(descriptor, "wb", buffering=BLOCK_BYTES) as file:
                    blob = NewBlob(file)
                    yield blob
                    file.flush()
                    os.fchmod(file.fileno(), FILE_MODE)
                    os.fsync(file.fileno())
                _check(blob, expected)
                os.replace(partial, self.path(blob.digest))
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise PackageError(
                f"a blob cannot be written to `{self._place}`: {error.strerror or error}",
                hint="make room, or let `LAMELLA_HOME` name a folder that has some",
            ) from error

    def _remove_abandoned(self) -> None:
        """Remove what processes left that were killed: nobody has written to it for an hour."""
        for path in self._place.glob(f"{_PARTIAL}*"):
            with suppress(FileNotFoundError):
                if time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                    path.unlink()


def _check(blob: NewBlob, expected: Descriptor | None) -> None:
    if expected is not None and (blob.digest, blob.size) != (expected.digest, expected.size):
        raise PackageError(
            f"blob `{expected.digest}` of {expected.size:,} bytes came as `{blob.digest}` of {blob.size:,}",
            hint="something changed it on its way: try again, or choose another source",
        )
