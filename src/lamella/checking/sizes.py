"""Packages, images and temporary storage."""

from __future__ import annotations

from collections.abc import Iterator

from lamella.checking.report import Check
from lamella.checking.setting import Setting
from lamella.checking.subject import Subject

BASE_IMAGE_BYTES = 150 << 20
"""What an image holds below the closure: a slim Linux with Python. An assumption; images of this kind take 120 to 150
MB uncompressed."""


def size_checks(setting: Setting, part: Subject, way_out: str) -> Iterator[Check]:
    """What a function's files take, against what the platform lets it have.

    Weights count in full in a compressed package, since they hardly compress (about 7 %).

    Args:
        setting: The function.
        part: What it runs.
        way_out: How the model would fit, where it does not: the hint's first words.
    """
    closure = setting.closure
    libraries = sum(library.stat().st_size for library in part.custom_ops)
    unzipped = closure.unzipped_bytes + libraries + part.file_bytes
    zipped = closure.zipped_bytes + libraries + part.file_bytes
    holds = f"{closure.unzipped_bytes:,} of them for {closure.engine} and what goes with it"
    store = "or fetch the weights from an object store"
    yield setting.against(
        "package_unzipped_bytes",
        f"package{part.label}, unzipped",
        unzipped,
        hint=f"{way_out}{setting.image_hint}, {store}",
        detail=holds,
    )
    yield setting.against(
        "package_zip_bytes",
        f"package{part.label}, zipped",
        zipped,
        above="warning",
        hint="upload it to the platform's object store first: the limit is that of a direct upload",
    )
    yield setting.against(
        "image_bytes",
        f"image{part.label}",
        unzipped + BASE_IMAGE_BYTES,
        origin="estimated",
        hint=f"{way_out}, {store}",
        detail=f"{BASE_IMAGE_BYTES:,} of them assumed for the base image",
    )
    limit = setting.limits.package_unzipped_bytes
    fetched = limit is not None and unzipped > limit
    yield setting.against(
        "temporary_storage_bytes",
        f"temporary storage{part.label}",
        part.file_bytes if fetched else 0,
        hint=f"{way_out}, or receive the weights in memory",
        detail="where the model is fetched at the start" if fetched else "the model lies in the package",
    )
