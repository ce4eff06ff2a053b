"""Where images come from: the one thing that base images need of a registry or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from lamella.errors import PackageError
from lamella.packaging.images.blobs import (
    BLOCK_BYTES,
    INDEX,
    Blobs,
    Descriptor,
    descriptor_of,
    digest_of_bytes,
    document,
)


class ImageSource(Protocol):
    """Somewhere that images can be taken from.

    Attributes:
        name: For people.
    """

    name: str

    def manifest(self, digest: str | None = None) -> tuple[bytes, str]:
        """A manifest or index with its media type: the image that this source is for, or the one with a digest."""
        ...

    def fetch(self, blob: Descriptor, blobs: Blobs) -> None:
        """Put a blob, verified, among `blobs`."""
        ...


class LayoutSource:
    """An image in an OCI image layout: a folder, as `skopeo copy ... oci:FOLDER` writes it.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md

    Args:
        folder: It holds `index.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.name, self._blobs, self._index = str(folder), Blobs(folder), folder / "index.json"

    def manifest(self, digest: str | None = None) -> tuple[bytes, str]:
        """The layout's index, or what has a digest.

        Raises:
            PackageError: It is missing.
        """
        try:
            content = (self._index if digest is None else self._blobs.path(digest)).read_bytes()
        except OSError as error:
            raise PackageError(
                f"`{self.name}` is no whole OCI image layout: {error}",
                hint="write it with `skopeo copy ... oci:FOLDER`",
            ) from error
        if digest is None:
            return content, INDEX
        if digest_of_bytes(content) != digest:
            raise PackageError(f"blob `{digest}` of `{self.name}` is damaged", hint="write the layout again")
        return content, str(document(content, f"blob `{digest}`").get("mediaType", ""))

    def fetch(self, blob: Descriptor, blobs: Blobs) -> None:
        """Copy a blob, and verify it.

        Raises:
            PackageError: It is missing or damaged.
        """
        try:
            with self._blobs.path(blob.digest).open("rb") as source, blobs.new(blob) as target:
                while block := source.read(BLOCK_BYTES):
                    target.write(block)
        except FileNotFoundError as error:
            raise PackageError(f"`{self.name}` lacks blob `{blob.digest}`", hint="write the layout again") from error


def only_image(found: list[object], name: str, architecture: str) -> Descriptor:
    """The one image of an index that runs on a processor, of Linux.

    Args:
        found: The index's manifests.
        name: Of the index, for messages.
        architecture: As images call it: `amd64`, `arm64`.

    Raises:
        PackageError: There is none, or several.
    """
    fitting = [entry for entry in found if isinstance(entry, dict) and _runs_on(entry, architecture)]
    if len(fitting) != 1:
        raise PackageError(
            f"`{name}` has {len(fitting) or 'no'} images for linux/{architecture}",
            hint="name an image for that processor" if not fitting else "name a layout or tag of just one image",
        )
    return descriptor_of(fitting[0])


def _runs_on(entry: dict[str, object], architecture: str) -> bool:
    """Without a platform, as in layouts of one image, the image's own config says it later."""
    platform = entry.get("platform")
    if not isinstance(platform, dict):
        return True
    return (platform.get("os"), platform.get("architecture")) == ("linux", architecture)
