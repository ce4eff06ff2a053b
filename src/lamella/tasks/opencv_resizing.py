"""Two of OpenCV's ways to resize, in NumPy: MLPerf's reference prepares its images with them.

They are written after `modules/imgproc/src/resize.cpp` of OpenCV, whose arithmetic for 8 bits is in integers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Size = tuple[int, int]

_SCALE = 1 << 11
_LEAST_PART = 1e-3


def resize_linear(pixels: Pixels, size: Size) -> Pixels:
    """`cv2.resize(..., interpolation=cv2.INTER_LINEAR)`: the four nearest pixels, however much smaller the image gets.

    Args:
        pixels: `[height, width]` or `[height, width, channels]`.
        size: Height and width.
    """
    rows = [_centres(found, wanted) for found, wanted in zip(pixels.shape, size, strict=False)]
    return _blended(pixels, rows[0], _within(*rows[1], pixels.shape[1]))


def resize_area(pixels: Pixels, size: Size) -> Pixels:
    """`cv2.resize(..., interpolation=cv2.INTER_AREA)`: the mean of the pixels that an output pixel covers.

    Where a side grows, OpenCV blends two pixels instead, but only at the ends of each.

    Args:
        pixels: `[height, width]` or `[height, width, channels]`.
        size: Height and width.
    """
    height, width = pixels.shape[:2]
    if height < size[0] or width < size[1]:
        rows, columns = (_corners(found, wanted) for found, wanted in zip(pixels.shape, size, strict=False))
        return _blended(pixels, rows, _within(*columns, width))
    if height % size[0] == 0 and width % size[1] == 0:
        return _whole_means(pixels, size)
    along = _means(pixels.astype(np.float32), size[1], axis=1)
    return np.rint(_means(along, size[0], axis=0)).clip(0, 255).astype(np.uint8)


Positions = tuple[npt.NDArray[np.intp], Floats]
"""For each output pixel, the first of the two that it lies between, and the share of the second."""


def _centres(length: int, wanted: int) -> Positions:
    position = ((np.arange(wanted) + 0.5) * (length / wanted) - 0.5).astype(np.float32)
    first = np.floor(position)
    return first.astype(np.intp), position - first


def _corners(length: int, wanted: int) -> Positions:
    first = np.floor(np.arange(wanted) * (length / wanted))
    share = (np.arange(wanted) + 1 - (first + 1) * (wanted / length)).astype(np.float32)
    return first.astype(np.intp), np.where(share <= 0, np.float32(0), share - np.floor(share))


def _within(first: npt.NDArray[np.intp], share: Floats, length: int) -> Positions:
    """Along rows, OpenCV takes one pixel at the ends; across them, the same one twice, which rounds differently."""
    outside = (first < 0) | (first >= length - 1)
    return first.clip(0, length - 1), np.where(outside, np.float32(0), share)


def _blended(pixels: Pixels, rows: Positions, columns: Positions) -> Pixels:
    height, width = pixels.shape[:2]
    ones = [1] * (pixels.ndim - 2)
    left, right = columns[0], (columns[0] + 1).clip(0, width - 1)
    along = np.rint(columns[1] * np.float32(_SCALE)).astype(np.int32).reshape(1, -1, *ones)
    down = np.rint(rows[1] * np.float32(_SCALE)).astype(np.int32).reshape(-1, 1, *ones)
    lines = [pixels[(rows[0] + step).clip(0, height - 1)].astype(np.int32) for step in (0, 1)]
    upper, lower = (line[:, left] * (_SCALE - along) + line[:, right] * along for line in lines)
    # As its vectorised loop: four bits are dropped first, so that products have 32 bits.
    blended = (((_SCALE - down) * (upper >> 4)) >> 16) + ((down * (lower >> 4)) >> 16)
    found: Pixels = ((blended + 2) >> 2).astype(np.uint8)
    return found


def _whole_means(pixels: Pixels, size: Size) -> Pixels:
    """Blocks of whole pixels; those of two by two round halves up, the others to even."""
    down, along = pixels.shape[0] // size[0], pixels.shape[1] // size[1]
    blocks = pixels.reshape(size[0], down, size[1], along, *pixels.shape[2:])
    sums: npt.NDArray[np.int32] = blocks.sum(axis=(1, 3), dtype=np.int32)
    if (down, along) == (2, 2):
        return np.asarray((sums + 2) >> 2, np.uint8)
    means: Floats = sums.astype(np.float32) * np.float32(1 / (down * along))
    return np.rint(means).astype(np.uint8)


def _means(values: Floats, wanted: int, *, axis: int) -> Floats:
    """Means over `wanted` spans of equal length, added up in OpenCV's order."""
    moved = np.moveaxis(values, axis, 0)
    found = np.zeros((wanted, *moved.shape[1:]), np.float32)
    for index, weight in _taps(moved.shape[0], wanted):
        found += moved[index] * weight.reshape(-1, *[1] * (moved.ndim - 1))
    return np.moveaxis(found, 0, axis)


def _taps(length: int, wanted: int) -> list[tuple[npt.NDArray[np.intp], Floats]]:
    """The first pixel of each span with its weight, the second, and so on; the ends count by the part inside."""
    scale = length / wanted
    start = np.arange(wanted) * scale
    end = start + scale
    first = np.minimum(np.ceil(start), np.minimum(np.floor(end), length - 1))
    last = np.minimum(np.floor(end), length - 1)
    span = np.minimum(scale, length - start)
    before = np.where(first - start > _LEAST_PART, (first - start) / span, 0)
    after = np.where(end - last > _LEAST_PART, np.minimum(np.minimum(end - last, 1), span) / span, 0)
    steps = range(int((last - first).max()))
    whole = [(first + step, np.where(first + step < last, 1 / span, 0)) for step in steps]
    taps = [(first - 1, before), *whole, (last, after)]
    return [(index.astype(np.intp).clip(0, length - 1), weight.astype(np.float32)) for index, weight in taps]
