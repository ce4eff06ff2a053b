"""OCI images of packages, built without Docker: the same package on the same base is the same image, byte for byte.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.cache import cache_folder, in_use
from lamella.packaging.images.bases import ARCHITECTURES, BaseImage
from lamella.packaging.images.blobs import CONFIG, MANIFEST, Blobs, Descriptor
from lamella.packaging.images.layers import TASK_ROOT, ImageLayer, layers_of
from lamella.packaging.package import Package
from lamella.platforms.base import Platform

FOLDER = "images"
"""Where all of images lies in the cache."""

HANDLER = "lamella.runtime.handler.handle"

_ROOT = f"/{TASK_ROOT}"
_TASK_ROOT = "LAMBDA_TASK_ROOT"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTRYPOINT = ["python3", "-m", "lamella.runtime.client"]
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Image:
    """An image, all of whose blobs are in the cache.

    Attributes:
        name: Its function's name.
        manifest: Its manifest, whose digest is the image's.
        config: Its configuration.
        layers: Its layers, those of the base first.
        base: Where the base came from; None: it has none, and cannot run by itself.
        unpacked_bytes: What its files take, with those of the base.
        blobs: Where the blobs are.
    """

    name: str
    manifest: Descriptor
    config: Descriptor
    layers: tuple[ImageLayer, ...]
    base: str | None
    unpacked_bytes: int
    blobs: Blobs

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """What it consists of, the manifest last."""
        return (*(layer.blob for layer in self.layers), self.config, self.manifest)


def image_blobs(cache: str | Path | None = None) -> Blobs:
    """Where the blobs of images are kept."""
    return Blobs(cache_folder(None if cache is None else Path(cache)) / FOLDER)


def build_image(package: Package, *, base: BaseImage | None = None, cache: str | Path | None = None) -> Image:
    """Make an image of a package: the base's layers, then its own; those that were built before are found again.

    The function's files lie in `/var/task`, and the image starts its handler: on AWS's own base images by AWS's
    runtime, else by Lamella's, with the `python3` of the base. Either speaks the Lambda Runtime API, which the platform
    provides, or the Runtime Interface Emulator, which AWS's base images hold.

    Whoever goes on to use it does both inside of `lamella.packaging.cache.in_use`, lest its blobs be pruned.

    Args:
        package: What `build_packages` made.
        base: The system below; without one, the image holds the function alone and runs nowhere by itself.
        cache: Where blobs are kept; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.

    Raises:
        PackageError: The package has lost a file, the base is for other processors, or the cache cannot be written.
    """
    with in_use(None if cache is None else Path(cache)):
        return _build(package, base, image_blobs(cache))


def check_image_size(image: Image, platform: Platform) -> None:
    """Refuse an image that is too large for the platform, with its base.

    Raises:
        PackageError: Its files take more than the limit.
    """
    limit = platform.limits.image_bytes
    if limit is None or image.unpacked_bytes <= limit:
        return
    below = sum(layer.unpacked_bytes for layer in image.layers if not layer.kind)
    raise PackageError(
        f"the image `{image.name}` would have {image.unpacked_bytes:,} bytes, {below:,} of them in its base, above the "
        f"{limit:,} of {platform.title}",
        hint="cut the model into more slices (`lamella slice --slices N`), or choose a smaller base image",
    )


def _build(package: Package, base: BaseImage | None, blobs: Blobs) -> Image:
    layers = (*(() if base is None else base.layers), *layers_of(package.folder, package.files, blobs))
    content = _config(package, {} if base is None else base.config, layers)
    config = blobs.add(_json(content), CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.view(),
        "layers": [layer.blob.view() for layer in layers],
    }
    return Image(
        name=package.function.name,
        manifest=blobs.add(_json(manifest), MANIFEST),
        config=config,
        layers=layers,
        base=None if base is None else base.name,
        unpacked_bytes=sum(layer.unpacked_bytes for layer in layers),
        blobs=blobs,
    )


def _config(package: Package, base: Mapping[str, object], layers: Sequence[ImageLayer]) -> dict[str, object]:
    """The image's configuration: the base's, with what the function needs.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
    """
    below = base.get("config")
    run = dict(below) if isinstance(below, dict) else {}
    variables = _variables(run.get("Env"))
    if _TASK_ROOT not in variables:  # no base of AWS Lambda's: the function brings its own runtime
        variables |= {_TASK_ROOT: _ROOT, "PATH": variables.get("PATH", _PATH), "PYTHONPATH": _ROOT}
        run["Entrypoint"] = _ENTRYPOINT
    run |= {"Cmd": [HANDLER], "WorkingDir": _ROOT, "Env": [f"{name}={value}" for name, value in variables.items()]}
    history = base.get("history")
    said = list(history) if isinstance(history, list) else []
    said += [{"created": _EPOCH, "created_by": f"lamella: {layer.kind}"} for layer in layers if layer.kind]
    return {
        "architecture": ARCHITECTURES[package.architecture],
        "os": "linux",
        "created": _EPOCH,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": said,
    }


def _variables(listed: object) -> dict[str, str]:
    texts: Iterable[object] = listed if isinstance(listed, list) else ()
    parts = (str(text).partition("=") for text in texts)
    return {name: value for name, _, value in parts}


def _json(content: Mapping[str, object]) -> bytes:
    """The same object always gives the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
