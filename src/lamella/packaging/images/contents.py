"""What a layer puts into `/var/task`, read from its blob: the layer is verified, compressed and unpacked, on the way.

An image may come from elsewhere, so nothing in it is trusted: only plain files and folders are taken, and only those
inside of the folder.

https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#applying-changesets
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol, cast

from lamella.errors import PackageError
from lamella.packaging.images.blobs import BLOCK_BYTES, TAR_GZIP, Blobs
from lamella.packaging.images.layers import TASK_ROOT, ImageLayer

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_UNTRUSTED = "build or pull the image again, or do not trust where it comes from"


class Target(Protocol):
    """What takes the contents of one layer, above what it has of lower ones. Paths are those in `/var/task`."""

    def put(self, path: PurePosixPath, content: BinaryIO | None) -> None:
        """Take a file with its content; None: a folder."""
        ...

    def remove(self, path: PurePosixPath, *, itself: bool) -> None:
        """Remove what lower layers have at a path and below, or only what is below."""
        ...


def read_contents(layer: ImageLayer, blobs: Blobs, target: Target) -> None:
    """Read what a layer says of `/var/task`, in its order; what lies elsewhere is left out.

    Raises:
        PackageError: It is damaged, leads out of the folder, or holds links or devices there. What was read of it until
            then is of no use.
    """
    try:
        with blobs.path(layer.blob.digest).open("rb") as file:
            packed = _Verified(file)
            gzipped = layer.blob.media_type == TAR_GZIP
            content = cast("BinaryIO", gzip.GzipFile(fileobj=cast("BinaryIO", packed))) if gzipped else packed
            tar = _Verified(cast("BinaryIO", content))
            with tarfile.open(fileobj=cast("BinaryIO", tar), mode="r|", bufsize=BLOCK_BYTES) as archive:
                for entry in archive:
                    _read(entry, archive, target)
            tar.finish()
            packed.finish()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, FileNotFoundError) as error:
        raise PackageError(f"layer `{layer.blob.digest}` cannot be read: {error}", hint=_UNTRUSTED) from error
    for what, found, wanted in (("blob", packed, layer.blob.digest), ("content", tar, layer.diff_id)):
        if found.digest != wanted:
            raise PackageError(f"the {what} of layer `{wanted}` is `{found.digest}`", hint=_UNTRUSTED)


def digests_of(layers: Iterable[ImageLayer], blobs: Blobs) -> dict[str, str]:
    """SHA-256 of each file that layers, one upon the other, put into `/var/task`. Reads all of them.

    Raises:
        PackageError: As `read_contents`.
    """
    found: dict[PurePosixPath, str] = {}
    for layer in layers:
        digests = _Digests(found)
        read_contents(layer, blobs, digests)
        found |= digests.own
    return {str(path): digest for path, digest in found.items()}


class _Digests:
    """Digests of a layer's files, above those of lower layers."""

    def __init__(self, lower: dict[PurePosixPath, str]) -> None:
        self.own: dict[PurePosixPath, str] = {}
        self._lower = lower

    def put(self, path: PurePosixPath, content: BinaryIO | None) -> None:
        if content is None:
            self._lower.pop(path, None)  # a folder where a file was
            return
        self.remove(path, itself=True)
        self.own[path] = _digest(content)

    def remove(self, path: PurePosixPath, *, itself: bool) -> None:
        for found in [found for found in self._lower if found.is_relative_to(path) and (itself or found != path)]:
            del self._lower[found]


def _digest(content: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := content.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _read(entry: tarfile.TarInfo, archive: tarfile.TarFile, target: Target) -> None:
    path = PurePosixPath(entry.name.removeprefix("./"))
    if path.is_absolute() or ".." in path.parts or "\0" in entry.name:
        raise PackageError(f"a layer names `{entry.name}`, outside of the image", hint=_UNTRUSTED)
    if path == PurePosixPath(TASK_ROOT) or not path.is_relative_to(TASK_ROOT):
        return
    path = path.relative_to(TASK_ROOT)
    if path.name == _OPAQUE:
        target.remove(path.parent, itself=False)
    elif path.name.startswith(_WHITEOUT):
        if path.name.removeprefix(_WHITEOUT) not in ("", ".", ".."):
            target.remove(path.with_name(path.name.removeprefix(_WHITEOUT)), itself=True)
    elif entry.isdir():
        target.put(path, None)
    elif entry.isreg():
        target.put(path, cast("BinaryIO", archive.extractfile(entry)))
    else:
        raise PackageError(f"a layer holds `{entry.name}`, which is no plain file", hint=_UNTRUSTED)


class _Verified:
    """What is read through it, and the digest of that."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._hash = source, hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1, /) -> bytes:
        block = self._source.read(size)
        self._hash.update(block)
        return block

    def finish(self) -> None:
        """Read what is left: readers stop at the end that the content declares."""
        while self.read(BLOCK_BYTES):
            pass
