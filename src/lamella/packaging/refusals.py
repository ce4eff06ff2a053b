"""What cannot be packaged, and the way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from lamella.errors import PackageError, UsageError
from lamella.packaging.items import Item, heaviest
from lamella.packaging.slice_files import SliceFiles
from lamella.platforms.base import Platform
from lamella.runtime.function import Delivery
from lamella.tensors import datatype
from lamella.workflow.manifest import Manifest

LONGEST_NAME = 64
"""Characters of a function's name on AWS Lambda.

https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NO_TENSORS = ("sequence", "map", "optional", "sparse_tensor", "opaque")
_SHOWN = 3


def function_name(deployment: str, index: int) -> str:
    """What the function of a slice is called."""
    return f"{deployment}-slice-{index}"


def check_request(
    name: str, manifest: Manifest, delivery: Delivery, *, store: str | None, mount: str | Path | None
) -> None:
    """Refuse what contradicts itself, or what no package can hold.

    Raises:
        UsageError: The name is none that functions can have, or the place of the model does not suit the delivery.
        PackageError: The slices need custom operators.
    """
    _check_name(name, function_name(name, len(manifest.slices) - 1))
    if delivery not in get_args(Delivery):
        ways = ", ".join(f"`{way}`" for way in get_args(Delivery))
        raise UsageError(f"there is no delivery `{delivery}`", hint=f"known are {ways}")
    for way, place, what, flag in (
        ("object-store", store, "store", "store"),
        ("mount", mount, "mounted folder", "mount"),
    ):
        if delivery == way and place is None:
            raise UsageError(f"delivery by `{way}` needs a {what}", hint=f"say where the weights shall lie: `--{flag}`")
    if delivery != "mount" and mount is not None:
        raise UsageError(f"delivery `{delivery}` has no use for a mounted folder", hint="deliver by `mount`")
    if manifest.custom_ops_needed:
        domains = ", ".join(f"`{domain}`" for domain in manifest.custom_ops_needed)
        raise PackageError(
            f"the slices need custom operators of {domains}, and packages hold no libraries with such",
            hint="export the model with standard operators, or run the slices here: `lamella run --custom-ops LIBRARY`",
        )


def _check_name(name: str, longest: str) -> None:
    """Refuse the name of a deployment of which `longest` is the function with the longest name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"`{name}` cannot name a deployment",
            hint="give ASCII letters, digits, `-` and `_`, a letter or digit first",
        )
    above = len(longest) - LONGEST_NAME
    if above > 0:
        raise UsageError(
            f"`{name}` cannot name a deployment: its function `{longest}` would have {len(longest)} characters, "
            f"{above} more than the {LONGEST_NAME} that names of functions may have",
            hint=f"take {above} off what `{name}` is made of: the deployment's name, its stage or its model's name",
        )


def check_values(parts: Sequence[SliceFiles]) -> None:
    """Refuse slices whose inputs or outputs no request carries: what is no tensor, or has elements of less than a byte.

    Raises:
        PackageError: There are such.
    """
    for part in parts:
        for spec in part.specs:
            if spec.datatype in _NO_TENSORS:
                raise PackageError(
                    f"`{spec.name}` of slice {part.entry.index} is a {spec.datatype}, and functions exchange tensors",
                    hint="export the model without it, or run it here with `lamella run`",
                )
        for spec in (*part.inputs, *part.outputs):
            if 0 < datatype(spec.datatype).bits < 8:
                raise PackageError(
                    f"`{spec.name}` of slice {part.entry.index} is {spec.datatype}, which does not travel to functions "
                    "and back: its elements take less than a byte",
                    hint="cast it to a type of at least 8 bits in the model, cut the model elsewhere (`lamella slice "
                    "--slices N`), or run it here with `lamella run`",
                )


def check_size(platform: Platform, delivery: Delivery, index: int, items: Iterable[Item]) -> None:
    """Refuse a package that is too large for the platform.

    Args:
        platform: Its limits hold.
        delivery: How the model reaches the function.
        index: The slice's.
        items: All that the package holds.

    Raises:
        PackageError: Its files take more than the limit.
    """
    limit = platform.limits.image_bytes if delivery == "image" else platform.limits.package_unzipped_bytes
    sizes = [(item.path, item.size) for item in items]
    size = sum(taken for _, taken in sizes)
    if limit is None or size <= limit:
        return
    what = "image" if delivery == "image" else "package"
    most = ", ".join(f"`{place}` takes {taken:,}" for place, taken in heaviest(sizes, shown=_SHOWN))
    raise PackageError(
        f"the {what} of slice {index} would have {size:,} bytes, above the {limit:,} of {platform.title}: {most}",
        hint=_way_out(delivery),
    )


def _way_out(delivery: Delivery) -> str:
    if delivery in ("object-store", "mount"):
        return "the engine alone takes this much: choose a platform with larger packages"
    store = "deliver the weights otherwise (`--delivery object-store`)"
    image = "" if delivery == "image" else ", or ship images (`--delivery image`)"
    return f"cut the model into more slices (`lamella slice --slices N`), or {store}{image}"
