"""What a function finds in `/var/task`, taken from an image's layers: so that what runs here is what would be pushed.

Every layer is verified, compressed and unpacked, before anything of it is used. An image may come from elsewhere, so
nothing in it is trusted: only plain files and folders are made, and only inside of the folder.

https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#applying-changesets
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from lamella.errors import PackageError
from lamella.packaging.blobs import BLOCK_BYTES, TAR_GZIP, Blobs
from lamella.packaging.cache import ensure, link_or_copy
from lamella.packaging.image_layers import SHARED, TASK_ROOT, ImageLayer
from lamella.packaging.layers import LayerFile
from lamella.packaging.oci import Image, build_image
from lamella.packaging.package import Package

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_UNTRUSTED = "build or pull the image again, or do not trust where it comes from"


def from_images(packages: Sequence[Package]) -> list[Package]:
    """The same packages, each with the folder that its image unpacks to, and called by the image's digest.

    Raises:
        PackageError: The cache cannot be written.
    """
    images = [build_image(package) for package in packages]
    folders = [unpack_image(image, package.files) for image, package in zip(images, packages, strict=True)]
    return [replace(p, folder=folder, sha256=folder.name) for p, folder in zip(packages, folders, strict=True)]


def unpack_image(image: Image, files: Sequence[LayerFile]) -> Path:
    """The folder `/var/task` of an image, read-only; unpacked once, and then found again.

    What many images have in common is unpacked once and linked into each.

    Args:
        image: The image.
        files: What the folder must hold, to tell whether it still does.

    Raises:
        PackageError: A layer is damaged, or holds what no function's image needs; or the cache cannot be written.
    """
    folder = image.blobs.folder / "functions" / image.manifest.digest.removeprefix("sha256:")
    ensure(folder, partial(_fill, image), lambda found: _is_intact(found, files))
    return folder


def _fill(image: Image, folder: Path) -> None:
    for layer in image.layers:
        if layer.kind in SHARED:
            _link(_unpacked(layer, image.blobs), folder)
        else:
            apply_layer(layer, image.blobs, folder)


def _unpacked(layer: ImageLayer, blobs: Blobs) -> Path:
    """A layer by itself, in a folder that is shared."""
    folder = blobs.folder / "unpacked" / layer.diff_id.removeprefix("sha256:")

    def is_intact(found: Path) -> bool:
        sizes = [path.stat().st_size for path in found.rglob("*") if path.is_file()]
        return bool(sizes) and sum(sizes) == layer.unpacked_bytes

    ensure(folder, lambda staging: apply_layer(layer, blobs, staging), is_intact)
    return folder


def _link(source: Path, target: Path) -> None:
    for place, folders, files in os.walk(source):
        here = target / Path(place).relative_to(source)
        for name in folders:
            (here / name).mkdir(exist_ok=True)
        for name in files:
            (here / name).unlink(missing_ok=True)
            link_or_copy(Path(place) / name, here / name)


def apply_layer(layer: ImageLayer, blobs: Blobs, folder: Path) -> None:
    """Apply what a layer says of `/var/task` to a folder that nobody uses yet; what lies elsewhere is left out.

    Raises:
        PackageError: It is damaged, leads out of the folder, or holds links or devices there. The folder is then of no
            use.
    """
    try:
        with blobs.path(layer.blob.digest).open("rb") as file:
            packed = _Verified(file)
            gzipped = layer.blob.media_type == TAR_GZIP
            content = cast("BinaryIO", gzip.GzipFile(fileobj=cast("BinaryIO", packed))) if gzipped else packed
            tar = _Verified(cast("BinaryIO", content))
            with tarfile.open(fileobj=cast("BinaryIO", tar), mode="r|", bufsize=BLOCK_BYTES) as archive:
                made: set[Path] = set()
                for entry in archive:
                    _apply(entry, archive, folder, made)
            tar.finish()
            packed.finish()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, FileNotFoundError) as error:
        raise PackageError(f"layer `{layer.blob.digest}` cannot be read: {error}", hint=_UNTRUSTED) from error
    for what, found, wanted in (("blob", packed, layer.blob.digest), ("content", tar, layer.diff_id)):
        if found.digest != wanted:
            raise PackageError(f"the {what} of layer `{wanted}` is `{found.digest}`", hint=_UNTRUSTED)


def _apply(entry: tarfile.TarInfo, archive: tarfile.TarFile, folder: Path, made: set[Path]) -> None:
    """Apply one entry; `made` is what this layer has put there, which its own whiteouts do not concern."""
    path = PurePosixPath(entry.name.removeprefix("./"))
    if path.is_absolute() or ".." in path.parts or "\0" in entry.name:
        raise PackageError(f"a layer names `{entry.name}`, outside of the image", hint=_UNTRUSTED)
    if path == PurePosixPath(TASK_ROOT) or not path.is_relative_to(TASK_ROOT):
        return
    target = folder / path.relative_to(TASK_ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.name.startswith(_WHITEOUT):
        _white_out(target, made)
    elif entry.isdir():
        made.add(target)
        if not target.is_dir():
            target.unlink(missing_ok=True)
            target.mkdir()
    elif entry.isreg():
        made.add(target)
        _write(entry, archive, target)
    else:
        raise PackageError(f"a layer holds `{entry.name}`, which is no plain file", hint=_UNTRUSTED)


def _white_out(target: Path, made: set[Path]) -> None:
    """What lower layers put here goes."""
    if target.name == _OPAQUE:
        for path in target.parent.iterdir():
            if not any(own.is_relative_to(path) for own in made):
                _remove(path)
    elif target.name.removeprefix(_WHITEOUT) not in ("", ".", ".."):
        _remove(target.with_name(target.name.removeprefix(_WHITEOUT)))


def _write(entry: tarfile.TarInfo, archive: tarfile.TarFile, target: Path) -> None:
    _remove(target)  # not written into: it may be a second name of a file that others have
    source = archive.extractfile(entry)
    assert source is not None, "it is a plain file"
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, BLOCK_BYTES)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_intact(folder: Path, files: Sequence[LayerFile]) -> bool:
    try:
        return all(os.stat(folder / file.path).st_size == file.size for file in files)
    except OSError:
        return False


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
