"""`lamella.package`: what would be deployed, as files or in a registry, and nothing is deployed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from lamella.errors import PackageError, UsageError
from lamella.packaging.cache import in_use
from lamella.packaging.images.bases import DEFAULT_BASES, NO_BASE, is_layout, open_base
from lamella.packaging.images.building import Image, build_image, check_image_size, image_blobs
from lamella.packaging.images.files import write_archive, write_layout
from lamella.packaging.images.pushing import push_image
from lamella.packaging.images.references import parse_reference
from lamella.packaging.package import Package, build_packages
from lamella.packaging.zip import write_zip
from lamella.platforms import Platform, load_platform
from lamella.runtime.function import Delivery
from lamella.slicing.placement import copy
from lamella.targets.sources import name_of, slices_of
from lamella.targets.state import check_name

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.planner.plan import Plan
    from lamella.workflow.parts import InDirectory

Format = Literal["zip", "folder", "oci", "oci-archive"]
"""A zip file or folder a function; images in one OCI image layout; or a tar file an image."""


@dataclass(frozen=True)
class Packaged:
    """What one function runs from.

    Attributes:
        function: Its name.
        slice: The slice that it runs.
        format: What was made.
        path: Where that lies; None where it was only pushed.
        digest: SHA-256 of the zip file, of the package's content, or of the image's manifest.
        size_bytes: Size of the zip file, or of all blobs of the image; of a folder, that of its files.
        unpacked_bytes: Bytes of all files, with those of the base image.
        limit_bytes: How many of these the platform allows; None: it sets no limit.
        heaviest: Folders or files that take the most, with their bytes, in descending order; without the base image.
        base_image: What the image stands on; None: nothing, or it is no image.
        pushed: The image in its registry, by its digest; None: it was not pushed.
    """

    function: str
    slice: int
    format: Format
    path: Path | None
    digest: str
    size_bytes: int
    unpacked_bytes: int
    limit_bytes: int | None
    heaviest: tuple[tuple[str, int], ...]
    base_image: str | None = None
    pushed: str | None = None


def package(  # noqa: PLR0913  # one argument a flag of `lamella package`
    source: str | Path | InDirectory | Plan | Model,
    directory: str | Path | None = None,
    *,
    format: Format = "zip",
    name: str | None = None,
    platform: str | Platform = "aws-lambda",
    slices: int | Literal["max"] | None = None,
    architecture: str | None = None,
    python: str | None = None,
    delivery: Delivery | None = None,
    store: str | None = None,
    mount: str | Path | None = None,
    base_image: str | None = None,
    push: str | None = None,
    plain_http: bool = False,
    verify: bool = True,
) -> list[Packaged]:
    """Package every slice, as `deploy` would, without deploying anything.

    What was built before is found again, and a registry is sent what it does not have.

    Args:
        source: A slices directory, what `lamella.slice` returned, or a plan or model (or its file), which is sliced
            first, as is best for the platform.
        directory: Where the files go; may be None where images are pushed.
        format: `zip` files, `folder`s, or images: `oci` is one image layout with all of them, `oci-archive` a tar file
            for each.
        name: Functions are called `NAME-slice-INDEX`; by default from the model's file.
        platform: Whose limits hold: a name from `lamella platforms`, a `.toml` file, or a `Platform`.
        slices: How many slices, for a model; by default what is best.
        architecture: `x86_64` or `arm64`; this machine's by default.
        python: A minor version; this process's by default.
        delivery: How the model reaches the functions; `image` for images, else `package`, by default.
        store: URI of the store that the functions use.
        mount: The shared folder of the delivery `mount`.
        base_image: What images stand on: the name of an image in a registry, a folder with an OCI image layout, or
            `none`; by default what the platform offers for the functions' Python.
        push: `REGISTRY/NAME` or `REGISTRY/NAME:TAG`: push images there, with the tag `slice-INDEX` or
            `TAG-slice-INDEX`.
        plain_http: Speak HTTP without TLS also to registries that are not on this machine.
        verify: Compare new slices with the whole model.

    Returns:
        One a slice, in their order.

    Raises:
        UsageError: The arguments contradict each other.
        MissingDependencyError: A registry is spoken to, and the extra `oci` is not installed.
        RegistryError: A registry is unreachable, or refuses.
        LamellaError: The source cannot be read, planned, sliced or packaged, or does not fit the platform.

    Example:
        ```python
        for made in lamella.package("bert.slices", "images", format="oci", base_image="none"):
            print(made.function, made.unpacked_bytes, made.limit_bytes)
        ```
    """
    _check(format, directory, delivery, base_image, push)
    chosen = platform if isinstance(platform, Platform) else load_platform(platform)
    below = _base_name(base_image, chosen) if _is_image(format) else NO_BASE
    with in_use():
        with tempfile.TemporaryDirectory(prefix="lamella-") as folder:
            sliced = slices_of(source, Path(folder) / "slices", platform=chosen, slices=slices, verify=verify)
            packages = build_packages(
                sliced,
                name=check_name(name or name_of(sliced), "name"),
                platform=chosen,
                architecture=architecture,
                python=python,
                delivery=delivery or ("image" if _is_image(format) else "package"),
                store=store,
                mount=mount,
            )
        target = None if directory is None else Path(directory)
        if target is not None:
            _make(target)
        if not _is_image(format):
            assert target is not None, "it was checked"
            limit = chosen.limits.package_unzipped_bytes
            return [_file(package, format, target, limit) for package in packages]
        images = _images(packages, chosen, below, plain_http=plain_http)
        made = [_described(package, image, format, chosen) for package, image in zip(packages, images, strict=True)]
        if target is not None:
            made = _written(images, made, format, target)
        return made if push is None else _pushed(images, made, push, plain_http=plain_http)


def _check(
    format: Format, directory: object, delivery: Delivery | None, base_image: str | None, push: str | None
) -> None:
    if format not in get_args(Format):
        known = ", ".join(f"`{name}`" for name in get_args(Format))
        raise UsageError(f"there is no format `{format}`", hint=f"there is {known}")
    for what, value in (("a base image", base_image), ("pushing", push)):
        if value is not None and not _is_image(format):
            raise UsageError(f"{what} needs images, and `{format}` is none", hint="choose `oci` as the format")
    if _is_image(format) and delivery == "package":
        raise UsageError("an image is no package", hint="deliver by `image`, `object-store` or `mount`")
    if not _is_image(format) and delivery == "image":
        raise UsageError(f"`{format}` is no image", hint="choose `oci` as the format")
    if push is None and directory is None:
        raise UsageError("there is nowhere to write to", hint="name a folder, or a registry to push to")
    if base_image is not None and base_image != NO_BASE and not is_layout(base_image):
        parse_reference(base_image)  # before anything takes its time
    if push is not None and parse_reference(push).digest is not None:
        raise UsageError(f"`{push}` is an image already", hint="give a repository, and a tag where you want one")


def _is_image(format: Format) -> bool:
    return format.startswith("oci")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackageError(
            f"`{folder}` cannot be made: {error.strerror or error}", hint="name a folder that can be written"
        ) from error


def _file(package: Package, format: Format, directory: Path, limit: int | None) -> Packaged:
    name = package.function.name
    path = directory / (f"{name}.zip" if format == "zip" else name)
    digest = write_zip(package, path) if format == "zip" else _copied(package, path)
    size = path.stat().st_size if format == "zip" else package.unzipped_bytes
    return Packaged(
        name, package.function.slice, format, path, digest, size, package.unzipped_bytes, limit, package.heaviest
    )


def _copied(package: Package, folder: Path) -> str:
    """The package as a folder of the user's own, which may be changed."""
    if folder.exists():
        raise UsageError(f"`{folder}` exists", hint="remove it, or name another folder")
    try:
        for file in package.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            copy(package.folder / file.path, target)
    except OSError as error:
        raise PackageError(
            f"`{folder}` cannot be written: {error.strerror or error}", hint="name a folder with room"
        ) from error
    return package.sha256


def _base_name(base_image: str | None, platform: Platform) -> str:
    """The base image that was asked for, or the platform's, whose name the functions' Python completes."""
    if base_image is not None:
        return base_image
    if platform.name not in DEFAULT_BASES:
        raise UsageError(f"no base image is known for {platform.title}", hint="name one with `--base-image`, or `none`")
    return DEFAULT_BASES[platform.name]


def _images(packages: Sequence[Package], platform: Platform, below: str, *, plain_http: bool) -> list[Image]:
    first, base = packages[0], None
    if below != NO_BASE:
        name = below.format(python=first.python) if below in DEFAULT_BASES.values() else below
        base = open_base(name, architecture=first.architecture, blobs=image_blobs(), plain_http=plain_http)
    images = [build_image(package, base=base) for package in packages]
    for image in images:
        check_image_size(image, platform)
    return images


def _described(package: Package, image: Image, format: Format, platform: Platform) -> Packaged:
    return Packaged(
        function=image.name,
        slice=package.function.slice,
        format=format,
        path=None,
        digest=image.manifest.digest.removeprefix("sha256:"),
        size_bytes=sum({blob.digest: blob.size for blob in image.descriptors}.values()),
        unpacked_bytes=image.unpacked_bytes,
        limit_bytes=platform.limits.image_bytes,
        heaviest=package.heaviest,
        base_image=image.base,
    )


def _written(images: Sequence[Image], made: Sequence[Packaged], format: Format, directory: Path) -> list[Packaged]:
    if format == "oci":
        write_layout(images, directory)
        return [replace(one, path=directory) for one in made]
    paths = [directory / f"{image.name}.tar" for image in images]
    for image, path in zip(images, paths, strict=True):
        write_archive(image, path)
    return [replace(one, path=path) for one, path in zip(made, paths, strict=True)]


def _pushed(images: Sequence[Image], made: Sequence[Packaged], push: str, *, plain_http: bool) -> list[Packaged]:
    target, pushed = parse_reference(push), []
    for one, image in zip(made, images, strict=True):
        tag = f"{target.tag}-slice-{one.slice}" if target.tag else f"slice-{one.slice}"
        name = push_image(image, str(replace(target, tag=tag)), plain_http=plain_http)
        pushed.append(replace(one, pushed=name))
    return pushed
