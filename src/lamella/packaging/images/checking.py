"""Whether what the cache holds of images is what its digests say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.images.blobs import MANIFEST, TAR_GZIP, Blobs, Descriptor, descriptor_of, document
from lamella.packaging.images.contents import digests_of
from lamella.packaging.images.layers import ImageLayer, all_noted, measured

Digest = Callable[[Path], str]
"""SHA-256 of a file, in hexadecimal digits."""


class ImageCheck:
    """Compares what lies in the images' part of the cache with its digests.

    Args:
        blobs: The blobs there.
        digest: Reads a file.
    """

    def __init__(self, blobs: Blobs, digest: Digest) -> None:
        self._blobs, self._digest = blobs, digest
        self._layers = [layer for layer in all_noted(blobs).values() if layer is not None]

    def is_blob_right(self, path: Path) -> bool:
        """Whether a blob has its digest, and unpacks to what was noted of it.

        Raises:
            OSError: It cannot be read.
        """
        if self._digest(path) != path.name:
            return False
        noted = (layer for layer in self._layers if layer.blob.digest == f"sha256:{path.name}")
        return all(_content_digest(layer, self._blobs) == layer.diff_id for layer in noted)

    def is_unpacked_right(self, folder: Path) -> bool:
        """Whether the folder of a layer holds what the layer does. Where that is gone nobody knows: then it is not.

        Raises:
            OSError: It cannot be read.
        """
        layer = next((layer for layer in self._layers if layer.diff_id == f"sha256:{folder.name}"), None)
        return layer is not None and self._holds(folder, [layer])

    def is_function_right(self, folder: Path) -> bool:
        """Whether the folder of a function holds what its image's layers do. Where one is gone nobody knows.

        Raises:
            OSError: It cannot be read.
        """
        digest, known = f"sha256:{folder.name}", {layer.blob.digest: layer for layer in self._layers}
        try:
            manifest = Descriptor(MANIFEST, digest, self._blobs.path(digest).stat().st_size)
            listed = document(self._blobs.read(manifest), f"the manifest `{digest}`").get("layers")
            layers = [known[descriptor_of(one).digest] for one in (listed if isinstance(listed, list) else ())]
        except (PackageError, KeyError):
            return False
        return self._holds(folder, layers)

    def _holds(self, folder: Path, layers: list[ImageLayer]) -> bool:
        try:
            expected = digests_of(layers, self._blobs)
        except PackageError:
            return False
        paths = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
        return {path.relative_to(folder).as_posix(): self._digest(path) for path in paths} == expected


def _content_digest(layer: ImageLayer, blobs: Blobs) -> str:
    """The digest of what is in a layer whose blob has its own."""
    try:
        return measured(layer.blob, blobs).diff_id if layer.blob.media_type == TAR_GZIP else layer.blob.digest
    except PackageError:
        return ""
