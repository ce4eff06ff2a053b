"""Base images: the system and the Python below a function's own layers. Their layers are taken as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.images.blobs import (
    INDEX,
    MANIFEST,
    TAR,
    TAR_GZIP,
    Blobs,
    Descriptor,
    descriptor_of,
    document,
)
from lamella.packaging.images.layers import ImageLayer, keep_note, measured, noted
from lamella.packaging.images.references import parse_reference
from lamella.packaging.images.registry import open_registry
from lamella.packaging.images.sources import ImageSource, LayoutSource, only_image
from lamella.platforms.base import Architecture

DEFAULT_BASES = {"aws-lambda": "public.ecr.aws/lambda/python:{python}"}
"""By platform. https://docs.aws.amazon.com/lambda/latest/dg/python-image.html, read 2026-11-21"""

NO_BASE = "none"
"""What stands for no base image at all."""

ARCHITECTURES: Mapping[Architecture, str] = {"x86_64": "amd64", "arm64": "arm64"}
"""As images call processors. https://go.dev/doc/install/source#environment"""

_INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_LAYERS = {
    TAR: TAR,
    TAR_GZIP: TAR_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar": TAR,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": TAR_GZIP,
}
"""What Lambda takes, by what Docker and OCI call the very same bytes."""

_MOST_INDEXES = 4


@dataclass(frozen=True)
class BaseImage:
    """An image to put layers on, all of it in the cache.

    Attributes:
        name: Where it came from.
        config: Its configuration, as it stands there.
        layers: Its layers.
    """

    name: str
    config: Mapping[str, object]
    layers: tuple[ImageLayer, ...]


def open_base(
    reference: str | Path, *, architecture: Architecture, blobs: Blobs, plain_http: bool = False
) -> BaseImage:
    """Fetch a base image, unless its layers are there already, and verify every layer.

    Args:
        reference: The name of an image in a registry, or a folder with an OCI image layout.
        architecture: Which of its images is taken.
        blobs: Where its blobs are kept.
        plain_http: Speak HTTP without TLS also to registries that are not on this machine.

    Raises:
        UsageError: `reference` names no image.
        PackageError: It has no image for that processor, or is damaged, or has layers that Lambda does not take.
        RegistryError: The registry is unreachable, or refuses.
    """
    source = _source(str(reference), plain_http=plain_http)
    manifest = _manifest(source, ARCHITECTURES[architecture])
    config_blob = descriptor_of(manifest.get("config"))
    _bring(source, config_blob, blobs)
    config = document(blobs.read(config_blob), f"the config of `{source.name}`")
    if (config.get("os"), config.get("architecture")) != ("linux", ARCHITECTURES[architecture]):
        raise PackageError(
            f"`{source.name}` is an image for {config.get('os')}/{config.get('architecture')}, not for "
            f"linux/{ARCHITECTURES[architecture]}",
            hint="choose another base image, or another architecture",
        )
    return BaseImage(source.name, config, tuple(_layers(source, manifest, config, blobs)))


def is_layout(reference: str) -> bool:
    """Whether a base image is said to be a folder, and not a name: `oci:FOLDER`, or a folder that is there."""
    return reference.startswith("oci:") or Path(reference).is_dir()


def _source(reference: str, *, plain_http: bool) -> ImageSource:
    if is_layout(reference):
        return LayoutSource(Path(reference.removeprefix("oci:")))
    return open_registry(parse_reference(reference), plain_http=plain_http)


def _manifest(source: ImageSource, architecture: str) -> dict[str, object]:
    """The manifest of the image for a processor, through as many indexes as lead there."""
    digest = None
    for _ in range(_MOST_INDEXES):
        content, kind = source.manifest(digest)
        found = document(content, f"the manifest of `{source.name}`")
        if kind in _MANIFESTS or (not kind and "layers" in found):
            return found
        manifests = found.get("manifests")
        if kind not in _INDEXES or not isinstance(manifests, list):
            break
        digest = only_image(manifests, source.name, architecture).digest
    raise PackageError(f"`{source.name}` is no image: its manifest is a `{kind}`", hint="name a container image")


def _layers(
    source: ImageSource, manifest: Mapping[str, object], config: Mapping[str, object], blobs: Blobs
) -> list[ImageLayer]:
    listed, rootfs = manifest.get("layers"), config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(listed, list) or not isinstance(diff_ids, list) or len(listed) != len(diff_ids):
        raise PackageError(
            f"the manifest and the config of `{source.name}` disagree about its layers", hint="choose another image"
        )
    return [_layer(source, descriptor_of(found), str(d), blobs) for found, d in zip(listed, diff_ids, strict=True)]


def _layer(source: ImageSource, found: Descriptor, diff_id: str, blobs: Blobs) -> ImageLayer:
    kind = _LAYERS.get(found.media_type)
    if kind is None:
        raise PackageError(
            f"`{source.name}` has a layer of type `{found.media_type}`, which AWS Lambda does not take",
            hint="choose an image with gzip layers; `skopeo copy --dest-compress-format gzip` makes one",
        )
    _bring(source, found, blobs)
    key = found.digest.removeprefix("sha256:")
    known = noted(blobs, key)
    if known is None:
        known = measured(Descriptor(kind, found.digest, found.size), blobs)
        keep_note(blobs, key, known)
    if known.diff_id != diff_id:
        raise PackageError(
            f"layer `{found.digest}` of `{source.name}` unpacks to `{known.diff_id}`, not to `{diff_id}`",
            hint="the image is damaged: choose another",
        )
    return known


def _bring(source: ImageSource, blob: Descriptor, blobs: Blobs) -> None:
    if not blobs.find(blob.digest, blob.size):
        source.fetch(blob, blobs)
