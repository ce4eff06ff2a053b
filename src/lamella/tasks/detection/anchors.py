"""The boxes that a single-shot detector's heads are relative to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lamella.errors import TaskError

Floats = npt.NDArray[np.floating]

SSD_MOBILENET = "ssd-mobilenet"
_CELLS = (19, 10, 5, 3, 2, 1)
_RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
_LEAST, _MOST, _LOWEST = 0.2, 0.95, 0.1


def ssd_mobilenet() -> Floats:
    """The 1,917 anchors of SSD-MobileNet at 300 by 300 pixels: centre's y and x, height, width, as shares of the image.

    https://github.com/tensorflow/models/blob/master/research/object_detection/anchor_generators/
    multiple_grid_anchor_generator.py, with the settings of `ssd_mobilenet_v1_coco.config`.
    """
    steps = len(_CELLS) - 1
    scales = [*(_LEAST + (_MOST - _LEAST) * step / steps for step in range(len(_CELLS))), 1.0]
    layers = []
    for layer, cells in enumerate(_CELLS):
        shapes = [(scales[layer], ratio) for ratio in _RATIOS]
        shapes.append((float(np.sqrt(scales[layer] * scales[layer + 1])), 1.0))
        if layer == 0:  # the largest map has fewer, and a small one
            shapes = [(_LOWEST, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        layers.append(_grid(cells, shapes))
    return np.concatenate(layers)


def _grid(cells: int, shapes: Sequence[tuple[float, float]]) -> Floats:
    centres = (np.arange(cells) + 0.5) / cells
    sizes = np.array([(scale / np.sqrt(ratio), scale * np.sqrt(ratio)) for scale, ratio in shapes])
    found = np.empty((cells, cells, len(shapes), 4))
    found[..., 0] = centres[:, None, None]
    found[..., 1] = centres[None, :, None]
    found[..., 2:] = sizes
    return found.reshape(-1, 4)


def read_anchors(path: Path) -> Floats:
    """Anchors from a `.npy` file: `[anchors, 4]` in the same form.

    Raises:
        TaskError: It cannot be read, or holds something else.
    """
    try:
        anchors: object = np.load(path, allow_pickle=False)
    except OSError as error:
        raise TaskError(f"the anchors `{path}` cannot be read: {error.strerror or error}", hint="check it") from error
    except (ValueError, EOFError) as error:
        raise TaskError(f"`{path}` is no `.npy` file with numbers", hint="write it with `numpy.save`") from error
    if not isinstance(anchors, np.ndarray) or anchors.ndim != 2 or anchors.shape[1] != 4 or anchors.dtype.kind != "f":
        raise TaskError(f"`{path}` holds no anchors of four numbers each", hint="give centre's y and x, height, width")
    return anchors


def decode(codes: Floats, anchors: Floats, *, first: str) -> Floats:
    """Boxes `left, top, right, bottom` from what the heads say of anchors.

    Centres are in tenths of the anchor's size, sizes in fifths of their logarithm: TensorFlow's box coder with 10, 10,
    5, 5, and SSD's variances 0.1 and 0.2.

    Args:
        codes: `[..., anchors, 4]`.
        anchors: Centre's y and x, height, width.
        first: Whether `y` or `x` comes first in the codes.
    """
    y, x, height, width = np.moveaxis(anchors.astype(codes.dtype), -1, 0)
    down, along, tall, wide = np.moveaxis(codes if first == "y" else codes[..., [1, 0, 3, 2]], -1, 0)
    centre_y, centre_x = down / 10 * height + y, along / 10 * width + x
    half_height, half_width = np.exp(tall / 5) * height / 2, np.exp(wide / 5) * width / 2
    sides = (centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height)
    return np.stack(sides, axis=-1)
