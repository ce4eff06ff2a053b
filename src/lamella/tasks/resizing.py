"""Sizes that images are brought to, and the ways of getting there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from lamella.tasks.opencv_resizing import resize_area, resize_linear

if TYPE_CHECKING:
    from PIL.Image import Image

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos", "opencv-linear", "opencv-area"]
"""Pillow's filters, which look at all pixels that an output pixel covers; and two of OpenCV's, bit for bit."""

Rounding = Literal["even", "down"]
"""Where a centre crop begins if the margin is odd: torchvision rounds the half to even; transformers and MLPerf's
reference round it down."""

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width."""


def short_side(size: Size, wanted: int, longest: int | None = None) -> Size:
    """The size at which the short side is `wanted`, and the long side at most `longest`.

    As torchvision's `Resize` and transformers compute it: the long side is rounded down.
    """
    height, width = size
    if longest is not None and max(size) / min(size) * wanted > longest:
        return _bounded(size, longest)
    if height <= width:
        return wanted, max(1, int(wanted * width / height))
    return max(1, int(wanted * height / width)), wanted


def _bounded(size: Size, longest: int) -> Size:
    """As DETR's reference: the short side that the bound allows is rounded, and the long side follows the exact one.

    Where an image has that short side already, it stays as it is.
    """
    short, long = min(size), max(size)
    exact = longest * short / long
    if round(exact) == short:
        return size
    found = max(1, round(exact)), max(1, int(exact * long / short))
    return found if size[0] <= size[1] else found[::-1]


def within(size: Size, box: Size) -> Size:
    """The largest size with the same proportions that fits into a box, rounded to nearest."""
    ratio = min(box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def resize(image: Image, size: Size, interpolation: Interpolation) -> Pixels:
    """The pixels `[height, width]` or `[height, width, 3]` of an image at another size."""
    pixels = np.asarray(image)
    if pixels.shape[:2] == size:
        return pixels
    if interpolation == "opencv-linear":
        return resize_linear(pixels, size)
    if interpolation == "opencv-area":
        return resize_area(pixels, size)
    from PIL.Image import Resampling

    return np.asarray(image.resize((size[1], size[0]), Resampling[interpolation.upper()]))


def centre_crop(pixels: Pixels, size: Size, rounding: Rounding) -> Pixels:
    """The middle of an image; black is put around one that is smaller, as torchvision and transformers do it."""
    lacking = [max(0, wanted - found) for wanted, found in zip(size, pixels.shape, strict=False)]
    if any(lacking):
        pads = [((n + 1) // 2, n // 2) if rounding == "down" else (n // 2, (n + 1) // 2) for n in lacking]
        pixels = np.pad(pixels, [*pads, *[(0, 0)] * (pixels.ndim - 2)])
    top, left = (_start(found, wanted, rounding) for wanted, found in zip(size, pixels.shape, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def _start(found: int, wanted: int, rounding: Rounding) -> int:
    return round((found - wanted) / 2) if rounding == "even" else (found - wanted) // 2
