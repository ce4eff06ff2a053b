"""Boxes with scores and classes: which of them to keep, and where they lie in the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lamella.tasks.pixels import Placement

Floats = npt.NDArray[np.floating]
Indexes = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Objects that may be in one image.

    Attributes:
        sides: `[n, 4]`: left, top, right, bottom, as shares of the model's input.
        scores: `[n]`.
        classes: `[n]`.

    Raises:
        ValueError: They have other shapes.
    """

    sides: Floats
    scores: Floats
    classes: Indexes

    def __post_init__(self) -> None:
        """Check the shapes."""
        count = len(self.scores)
        if (self.sides.shape, self.scores.shape, self.classes.shape) != ((count, 4), (count,), (count,)):
            raise ValueError("boxes, scores and classes do not go together")

    def at(self, index: npt.NDArray[np.generic]) -> Boxes:
        """Those at indexes, or where a mask is true."""
        return Boxes(self.sides[index], self.scores[index], self.classes[index])


def likely(boxes: Boxes, threshold: float) -> Boxes:
    """Those with a score above the threshold, and with numbers for sides."""
    return boxes.at((boxes.scores > threshold) & np.isfinite(boxes.sides).all(axis=1))


def best(boxes: Boxes, most: int) -> Boxes:
    """The likeliest, in order."""
    return boxes.at(np.argsort(-boxes.scores, kind="stable")[:most])


def without_overlaps(boxes: Boxes, *, iou: float, most: int) -> Boxes:
    """What non-maximum suppression leaves of each class, at most `most` a class."""
    kept = [np.empty(0, np.intp)]
    for number in np.unique(boxes.classes):
        members = np.flatnonzero(boxes.classes == number)
        kept.append(members[suppressed(boxes.sides[members], boxes.scores[members], iou=iou, most=most)])
    return boxes.at(np.concatenate(kept))


def suppressed(sides: Floats, scores: Floats, *, iou: float, most: int) -> Indexes:
    """Indexes of boxes that overlap no likelier one by more than `iou`, the likeliest first."""
    order = np.argsort(-scores, kind="stable")
    waiting = _columns(sides[order])
    kept: list[int] = []
    while len(order) and len(kept) < most:
        kept.append(int(order[0]))
        apart = _overlaps(waiting[:, :1], waiting[:, 1:]) <= iou
        order, waiting = order[1:][apart], waiting[:, 1:][:, apart]
    return np.array(kept, np.intp)


def _columns(sides: Floats) -> Floats:
    """Left, top, right, bottom and area, a row each: what is compared lies together in memory."""
    left, top, right, bottom = sides.T
    return np.stack([left, top, right, bottom, np.maximum(right - left, 0) * np.maximum(bottom - top, 0)])


def _overlaps(box: Floats, others: Floats) -> Floats:
    """Intersection over union of a box with each of others, as columns; 0 where both are empty."""
    width = np.minimum(box[2], others[2]) - np.maximum(box[0], others[0])
    height = np.minimum(box[3], others[3]) - np.maximum(box[1], others[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = box[4] + others[4] - shared
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def in_image(sides: Floats, placement: Placement) -> Floats:
    """Sides in pixels of the image as it was, cut off at its ends."""
    (height, width), scaled, offset, canvas = placement.size, placement.scaled, placement.offset, placement.canvas
    in_input = sides.astype(np.float64) * np.array([canvas[1], canvas[0]] * 2)
    shifts = np.array([offset[1], offset[0]] * 2)
    ratios = np.array([width / scaled[1], height / scaled[0]] * 2)
    found: Floats = ((in_input - shifts) * ratios).clip(0, [width, height] * 2)
    return found
