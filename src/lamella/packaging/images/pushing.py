"""Images into a registry: what it has already is not sent again."""

from __future__ import annotations

from lamella.errors import UsageError
from lamella.packaging.images.building import Image
from lamella.packaging.images.credentials import Credentials, Login
from lamella.packaging.images.references import Reference, parse_reference
from lamella.packaging.images.registry import open_registry


def push_image(
    image: Image,
    reference: str,
    *,
    credentials: Credentials | Login | None = None,
    plain_http: bool = False,
) -> str:
    """Push an image: its blobs first, then its manifest.

    Layers of a base from the same registry are mounted from there, where the registry lets them be.

    Args:
        image: What `build_image` made.
        reference: Where to: `REGISTRY/NAME:TAG`. Some registries, as Amazon ECR, want the repository to be made first.
        credentials: Who pushes, or what says so anew when the registry wants to know; by default whoever logged in to
            this registry with docker or podman.
        plain_http: Speak HTTP without TLS also to a registry that is not on this machine.

    Returns:
        The image by its digest: `REGISTRY/NAME@sha256:...`.

    Raises:
        UsageError: `reference` names no image, or one by its digest.
        MissingDependencyError: The extra `oci` is not installed.
        RegistryError: The registry is unreachable or refuses.
    """
    target = parse_reference(reference)
    if target.digest is not None:
        raise UsageError(f"`{reference}` is an image already", hint="give a tag, or nothing, behind the repository")
    registry = open_registry(target, credentials=credentials, plain_http=plain_http)
    below = _repository_of_base(image, target)
    for layer in image.layers:
        mount_from = None if layer.kind else below
        registry.push_blob(layer.blob, image.blobs.path(layer.blob.digest), mount_from=mount_from)
    registry.push_blob(image.config, image.blobs.path(image.config.digest))
    content = image.blobs.read(image.manifest)
    digest = registry.push_manifest(content, image.manifest.media_type, tag=target.tag)
    return str(Reference(target.registry, target.repository, digest=digest))


def _repository_of_base(image: Image, target: Reference) -> str | None:
    """The repository that the base came from, where that is in the same registry."""
    if image.base is None:
        return None
    try:
        below = parse_reference(image.base)
    except UsageError:  # it came from a folder
        return None
    same = below.registry == target.registry and below.repository != target.repository
    return below.repository if same else None
