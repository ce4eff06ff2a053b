"""Images as files: an OCI image layout, in a folder or in one tar file, as podman and skopeo read them.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lamella.errors import PackageError, UsageError
from lamella.packaging.cache import link_or_copy
from lamella.packaging.images.bases import ARCHITECTURES
from lamella.packaging.images.blobs import BLOCK_BYTES, INDEX, Blobs, document
from lamella.packaging.images.building import Image
from lamella.slicing.placement import write_atomically

_LAYOUT_FILE, _INDEX_FILE = "oci-layout", "index.json"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_NAME = "org.opencontainers.image.ref.name"


def write_layout(images: Sequence[Image], folder: str | Path) -> None:
    """Write images into one OCI image layout, each found under its name; what they share is there once.

    A layout that is there already is replaced. Blobs are second names of those in the cache where that can be.

    Raises:
        UsageError: The folder holds something else.
        PackageError: It cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / _LAYOUT_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"`{folder}` is no image layout, and not empty", hint="name a new folder")
    target = Blobs(folder)
    try:
        for image in images:
            for blob in image.descriptors:
                path = target.path(blob.digest)
                path.parent.mkdir(parents=True, exist_ok=True)
                if not target.has(blob.digest, blob.size):
                    write_atomically(path, partial(link_or_copy, image.blobs.path(blob.digest)))
        write_atomically(folder / _INDEX_FILE, lambda file: file.write_bytes(_index(images)))
        write_atomically(folder / _LAYOUT_FILE, lambda file: file.write_bytes(_LAYOUT))
        _drop_others(target, {blob.digest for image in images for blob in image.descriptors})
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_archive(image: Image, path: str | Path) -> None:
    """Write an image into one tar file, for `podman load` and `skopeo copy oci-archive:FILE`; whole or not at all.

    Raises:
        PackageError: It cannot be written.
    """
    path = Path(path)
    try:
        write_atomically(path, partial(_write_archive, image))
    except OSError as error:
        raise _unwritable(path, error) from error


def _write_archive(image: Image, path: Path) -> None:
    with tarfile.TarFile(path, "w", format=tarfile.PAX_FORMAT, copybufsize=BLOCK_BYTES) as archive:
        for name, content in ((_LAYOUT_FILE, _LAYOUT), (_INDEX_FILE, _index([image]))):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for digest, size in sorted({(blob.digest, blob.size) for blob in image.descriptors}):
            entry = tarfile.TarInfo(f"blobs/sha256/{digest.removeprefix('sha256:')}")
            entry.size = size
            with image.blobs.path(digest).open("rb") as source:
                archive.addfile(entry, source)


def _index(images: Sequence[Image]) -> bytes:
    entries = []
    for image in images:
        architecture = document(image.blobs.read(image.config), "the config")["architecture"]
        assert architecture in ARCHITECTURES.values(), "it is one that was built here"
        platform = {"architecture": architecture, "os": "linux"}
        entries.append({**image.manifest.view(), "platform": platform, "annotations": {_NAME: image.name}})
    content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _drop_others(blobs: Blobs, kept: set[str]) -> None:
    """Remove blobs that an earlier index named."""
    for path in blobs.path("").iterdir():
        if f"sha256:{path.name}" not in kept:
            path.unlink()


def _unwritable(path: Path, error: OSError) -> PackageError:
    return PackageError(
        f"`{path}` cannot be written: {error.strerror or error}", hint="give a folder that exists and has room"
    )
