"""Images of slices, made on this machine of their packages, on a base that AWS Lambda can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.errors import RegistryError
from lamella.packaging.images.bases import DEFAULT_BASES, BaseImage, open_base
from lamella.packaging.images.building import Image, build_image, check_image_size, image_blobs
from lamella.platforms.base import Platform
from lamella.targets.aws.settings import Settings
from lamella.targets.building import BuiltModel

if TYPE_CHECKING:
    from lamella.packaging.package import Package


def with_images(built: Sequence[BuiltModel], settings: Settings, platform: Platform) -> list[BuiltModel]:
    """Models with an image of each package, which is called by its image's digest and counts with its base.

    Images, and the layers of their base, are kept in the cache, and found there again.

    Args:
        built: The models.
        settings: Which base, and for which processors.
        platform: Its limit of an image holds.

    Raises:
        RegistryError: The base cannot be fetched.
        PackageError: The base is no image for these processors, or an image is too large for the platform.
    """
    base, found = _base(settings), []
    for model in built:
        images = tuple(build_image(package, base=base) for package in model.packages)
        for image in images:
            check_image_size(image, platform)
        packages = tuple(_called(package, image) for package, image in zip(model.packages, images, strict=True))
        found.append(replace(model, packages=packages, images=images))
    return found


def digest_of(image: Image) -> str:
    """What a package is called that is an image."""
    return image.manifest.digest.removeprefix("sha256:")


def _called(package: Package, image: Image) -> Package:
    return replace(package, sha256=digest_of(image), unzipped_bytes=image.unpacked_bytes)


def _base(settings: Settings) -> BaseImage:
    if settings.base_image is not None:
        return open_base(settings.base_image, architecture=settings.architecture, blobs=image_blobs())
    name = DEFAULT_BASES["aws-lambda"].format(python=settings.python)
    try:
        return open_base(name, architecture=settings.architecture, blobs=image_blobs())
    except RegistryError as error:
        raise RegistryError(
            f"the base image `{name}` cannot be fetched: {error}",
            hint=f"where it can be, `skopeo copy docker://{name} oci:FOLDER` writes it to a folder that "
            "`--base-image FOLDER` takes",
        ) from error
