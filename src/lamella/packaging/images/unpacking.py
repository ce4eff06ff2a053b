"""What a function finds in `/var/task`, taken from an image's layers: so that what runs here is what would be pushed.

Every layer is verified before anything of it is used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from lamella.packaging.cache import ensure, has_sizes, link_or_copy
from lamella.packaging.images.blobs import BLOCK_BYTES, Blobs
from lamella.packaging.images.building import Image, build_image
from lamella.packaging.images.contents import read_contents
from lamella.packaging.images.layers import SHARED, ImageLayer
from lamella.packaging.layers import LayerFile
from lamella.packaging.package import Package

FUNCTIONS, UNPACKED = "functions", "unpacked"
"""Where beside the blobs what functions find lies, by the image's digest, and what they share, by the layer's."""


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
    folder = image.blobs.folder / FUNCTIONS / image.manifest.digest.removeprefix("sha256:")
    ensure(folder, partial(_fill, image), lambda found: has_sizes(found, ((file.path, file.size) for file in files)))
    return folder


def _fill(image: Image, folder: Path) -> None:
    for layer in image.layers:
        if layer.kind in SHARED:
            _link(_unpacked(layer, image.blobs), folder)
        else:
            apply_layer(layer, image.blobs, folder)


def _unpacked(layer: ImageLayer, blobs: Blobs) -> Path:
    """A layer by itself, in a folder that is shared."""
    folder = blobs.folder / UNPACKED / layer.diff_id.removeprefix("sha256:")

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
    read_contents(layer, blobs, _Folder(folder))


class _Folder:
    """A folder that a layer is applied to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: set[Path] = set()  # what this layer has put there, which its own whiteouts do not concern

    def put(self, path: PurePosixPath, content: BinaryIO | None) -> None:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._own.add(target)
        if content is not None:
            _remove(target)  # not written into: it may be a second name of a file that others have
            with target.open("xb") as file:
                shutil.copyfileobj(content, file, BLOCK_BYTES)
        elif not target.is_dir():
            target.unlink(missing_ok=True)
            target.mkdir()

    def remove(self, path: PurePosixPath, *, itself: bool) -> None:
        target = self._folder / path
        if itself:
            _remove(target)
        elif target.is_dir():
            for found in target.iterdir():
                if not any(own.is_relative_to(found) for own in self._own):
                    _remove(found)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
