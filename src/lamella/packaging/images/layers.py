"""Layers of images: files of a package in a tar file, which is the same bytes each time and built once.

A package becomes four, from what changes least to what changes most, so that what has not changed is neither built nor
sent again: the engine with NumPy, Lamella's function side, the model, and `function.json`.

https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from lamella.errors import PackageError
from lamella.packaging.delivery import MODEL_FOLDER
from lamella.packaging.images.blobs import BLOCK_BYTES, TAR, TAR_GZIP, Blobs, Descriptor, NewBlob, descriptor_of
from lamella.packaging.layers import LayerFile
from lamella.runtime.function import FILE_NAME
from lamella.slicing.placement import write_atomically

TASK_ROOT = "var/task"
"""Where a function's files lie in an image. https://docs.aws.amazon.com/lambda/latest/dg/python-image.html"""

KIND = "io.lamella.layer"
"""The annotation that says what a layer holds."""

SCHEMA = "lamella.image-layer/1"

_NOTES = "layers"  # beside the blobs: which layer was made of what

_DEPENDENCIES, _OWN, _MODEL, _FUNCTION = "dependencies", "function-side", "model", "function"
SHARED = (_DEPENDENCIES, _OWN)
"""The kinds that many images have in common."""

_LEVEL = 4  # of an engine with NumPy, 6 saves one more percent and takes twice the time
_SAMPLES, _SAMPLE_BYTES = 32, 64 << 10
_PAYS_BELOW = 0.85  # weights of floats keep 0.9 and more of their size: to deflate them takes time and saves none


@dataclass(frozen=True)
class ImageLayer:
    """A layer in the cache.

    Attributes:
        blob: Its bytes as they are pushed.
        diff_id: Digest of the tar file in it.
        unpacked_bytes: What its files take.
    """

    blob: Descriptor
    diff_id: str
    unpacked_bytes: int

    @property
    def kind(self) -> str:
        """What it holds; empty where nobody has said."""
        return self.blob.annotations.get(KIND, "")


def layers_of(folder: Path, files: Sequence[LayerFile], blobs: Blobs) -> list[ImageLayer]:
    """The layers of a package, built unless they were before.

    Args:
        folder: Where the package lies.
        files: All that it holds.
        blobs: Where layers are kept.

    Raises:
        PackageError: A file is missing, or the cache cannot be written.
    """
    parts: dict[str, list[LayerFile]] = {kind: [] for kind in (_DEPENDENCIES, _OWN, _MODEL, _FUNCTION)}
    for file in sorted(files, key=lambda file: file.path):
        parts[_kind(file.path)].append(file)
    return [_layer(folder, kind, part, blobs) for kind, part in parts.items() if part]


def _kind(path: str) -> str:
    if path == FILE_NAME:
        return _FUNCTION
    return {MODEL_FOLDER: _MODEL, "lamella": _OWN}.get(path.partition("/")[0], _DEPENDENCIES)


def _layer(folder: Path, kind: str, files: Sequence[LayerFile], blobs: Blobs) -> ImageLayer:
    lines = (f"{file.path}\0{file.sha256}" for file in files)
    key = hashlib.sha256("\n".join((SCHEMA, kind, *lines)).encode()).hexdigest()
    found = noted(blobs, key)
    if found is None:
        found = _built(folder, files, blobs)
        found = replace(found, blob=replace(found.blob, annotations={KIND: kind}))
        keep_note(blobs, key, found)
    return found


def _built(folder: Path, files: Sequence[LayerFile], blobs: Blobs) -> ImageLayer:
    try:
        media_type = TAR_GZIP if _compresses(folder, files) else TAR
        with blobs.new() as blob:
            diff_id = _write(folder, files, blob, compressed=media_type == TAR_GZIP)
    except OSError as error:
        raise PackageError(f"package `{folder}` is incomplete: {error}", hint="build it again") from error
    size = sum(file.size for file in files)
    return ImageLayer(Descriptor(media_type, blob.digest, blob.size), diff_id, size)


def _write(folder: Path, files: Sequence[LayerFile], blob: NewBlob, *, compressed: bool) -> str:
    """Write the tar file, through a compressor or not; returns the digest of what went in."""
    if not compressed:
        _write_tar(folder, files, blob)
        return blob.digest
    target = cast("BinaryIO", blob)
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=target, mtime=0) as packed:
        tar = NewBlob(cast("BinaryIO", packed))
        _write_tar(folder, files, tar)
    return tar.digest


def _write_tar(folder: Path, files: Sequence[LayerFile], target: NewBlob) -> None:
    with tarfile.TarFile(
        fileobj=cast("BinaryIO", target), mode="w", format=tarfile.PAX_FORMAT, copybufsize=BLOCK_BYTES
    ) as archive:
        for name in _folders(files):
            archive.addfile(_entry(name, 0o755, tarfile.DIRTYPE))
        for file in files:
            entry = _entry(f"{TASK_ROOT}/{file.path}", 0o644, tarfile.REGTYPE)
            entry.size = file.size
            with (folder / file.path).open("rb") as source:
                archive.addfile(entry, source)


def _entry(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    """Owned by root and dated 1970, as whoever builds it would otherwise show in the digest."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type = mode, kind
    return entry


def _folders(files: Iterable[LayerFile]) -> list[str]:
    paths = (PurePosixPath(TASK_ROOT) / file.path for file in files)
    return sorted({str(parent) for path in paths for parent in path.parents if parent.name})


def _compresses(folder: Path, files: Sequence[LayerFile]) -> bool:
    """Whether samples, evenly spread over all files, become small enough to be worth the time."""
    samples = list(_samples(folder, files))
    size = sum(map(len, samples))
    return sum(len(zlib.compress(sample, 1)) for sample in samples) < _PAYS_BELOW * size


def _samples(folder: Path, files: Sequence[LayerFile]) -> Iterator[bytes]:
    step = max(1, sum(file.size for file in files) // _SAMPLES)
    start = wanted = 0
    for file in files:
        with (folder / file.path).open("rb") as source:
            while wanted < start + file.size:
                source.seek(wanted - start)
                yield source.read(_SAMPLE_BYTES)
                wanted += max(step, _SAMPLE_BYTES)
        start += file.size


def measured(blob: Descriptor, blobs: Blobs) -> ImageLayer:
    """Unpack a layer, to nowhere, for its digest and size.

    Raises:
        PackageError: It cannot be unpacked.
    """
    digest, size = hashlib.sha256(), 0
    with blobs.path(blob.digest).open("rb") as file:
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if blob.media_type == TAR_GZIP else file
        try:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
                size += len(block)
        except (OSError, EOFError, zlib.error) as error:
            raise PackageError(f"layer `{blob.digest}` cannot be unpacked: {error}", hint="pull it again") from error
    return ImageLayer(blob, f"sha256:{digest.hexdigest()}", size)


def noted(blobs: Blobs, key: str) -> ImageLayer | None:
    """The layer that was made of what `key` stands for; None where there is none, or its blob was removed."""
    layer = _read_note(_note(blobs, key))  # where it is None, it is made again, and noted anew
    return layer if layer is not None and blobs.find(layer.blob.digest, layer.blob.size) else None


def all_noted(blobs: Blobs) -> dict[Path, ImageLayer | None]:
    """What every file of notes says; None where that is nothing, or of a blob that was removed."""
    notes = {path: _read_note(path) for path in (blobs.folder / _NOTES).glob("*")}
    return {p: la if la is not None and blobs.has(la.blob.digest, la.blob.size) else None for p, la in notes.items()}


def keep_note(blobs: Blobs, key: str, layer: ImageLayer) -> None:
    """Note down which layer was made of what `key` stands for.

    Raises:
        PackageError: The cache cannot be written.
    """
    content = {"blob": layer.blob.view(), "diff_id": layer.diff_id, "unpacked_bytes": layer.unpacked_bytes}
    note = _note(blobs, key)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, lambda partial: partial.write_text(json.dumps(content)))
    except OSError as error:
        raise PackageError(
            f"`{note}` cannot be written: {error.strerror or error}", hint="let `LAMELLA_HOME` name a folder with room"
        ) from error


def _note(blobs: Blobs, key: str) -> Path:
    return blobs.folder / _NOTES / f"{key}.json"


def _read_note(path: Path) -> ImageLayer | None:
    try:
        found = json.loads(path.read_text())
        return ImageLayer(descriptor_of(found["blob"]), str(found["diff_id"]), int(found["unpacked_bytes"]))
    except (OSError, ValueError, KeyError, TypeError, PackageError):
        return None
