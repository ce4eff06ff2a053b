"""The forms in which detectors give their objects, and boxes from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from lamella.errors import TaskError
from lamella.tasks.detection.anchors import decode
from lamella.tasks.detection.boxes import Boxes
from lamella.tasks.scores import sigmoid, softmax
from lamella.tasks.specs import rank
from lamella.tensors import TensorSpec

Floats = npt.NDArray[np.floating]
Form = Literal["tensorflow", "boxes", "heads", "detr", "yolo"]

PARTS: Mapping[Form, tuple[str, ...]] = {
    "tensorflow": ("detection_boxes", "detection_classes", "detection_scores"),
    "boxes": ("boxes", "labels", "scores"),
    "heads": ("boxes", "scores"),
    "detr": ("pred_boxes", "logits"),
    "yolo": ("output",),
}
"""What each form consists of, by the names that its outputs usually have."""

_OTHER_NAMES = {"bboxes": "boxes"}


def find_form(outputs: Sequence[TensorSpec], wanted: Form | None) -> tuple[Form, tuple[str, ...]]:
    """The form of a model's outputs, and their names in the order of its parts.

    Raises:
        TaskError: They have none that is known, or not the one that is wanted.
    """
    names = {_plain(spec.name): spec.name for spec in outputs}
    for form, parts in PARTS.items():
        if wanted in (form, None) and form != "yolo" and set(parts) <= set(names):
            return form, tuple(names[part] for part in parts)
    of_three = [spec for spec in outputs if rank(spec) in (3, None)]
    if wanted in ("yolo", None) and of_three and (len(outputs) == 1 or wanted == "yolo"):
        return "yolo", (of_three[0].name,)
    if wanted in ("heads", None) and len(of_three) == 2:
        boxes = [spec for spec in of_three if spec.shape is not None and spec.shape[-1] == 4]
        if len(boxes) == 1:
            return "heads", (boxes[0].name, next(spec.name for spec in of_three if spec is not boxes[0]))
    listed = ", ".join(f"`{spec.name}`" for spec in outputs)
    kind = "a detector of a known form" if wanted is None else f"the form `{wanted}`"
    raise TaskError(
        f"the model's outputs are not those of {kind}: {listed}",
        hint="set `form`, or write `postprocess` in a Python file and choose the task `custom`",
    )


def _plain(name: str) -> str:
    plain = name.rpartition("/")[2].partition(":")[0]
    return _OTHER_NAMES.get(plain, plain)


def from_tensorflow(boxes: Floats, classes: Floats, scores: Floats) -> Boxes:
    """Boxes of one image as TensorFlow's detection models give them: top, left, bottom, right, suppressed already."""
    return Boxes(boxes[:, [1, 0, 3, 2]], scores, np.rint(classes).astype(np.intp))


def from_boxes(boxes: Floats, classes: Floats, scores: Floats, *, canvas: tuple[int, int], unit: str) -> Boxes:
    """Boxes of one image: left, top, right, bottom, suppressed already."""
    sides = boxes / np.array([canvas[1], canvas[0]] * 2, boxes.dtype) if unit == "pixels" else boxes
    return Boxes(sides, scores, np.rint(classes).astype(np.intp))


def from_heads(
    codes: Floats, logits: Floats, *, anchors: Floats, first: str, scores: str, background: bool, threshold: float
) -> Boxes:
    """Every class of every anchor of one image that is likelier than the threshold.

    Args:
        codes: `[anchors, 4]`.
        logits: `[anchors, classes]`.
        anchors: Centre's y and x, height, width.
        first: Whether `y` or `x` comes first in the codes.
        scores: `sigmoid`, `softmax`, or `none` where these are scores already.
        background: Whether class 0 is nothing.
        threshold: The least score.

    Raises:
        TaskError: There are as many anchors as codes.
    """
    if len(anchors) != len(codes) or len(anchors) != len(logits):
        raise TaskError(
            f"there are {len(anchors)} anchors, and the model has boxes for {len(codes)} and scores for {len(logits)}",
            hint="give the model's own with the setting `anchors`",
        )
    likely = {"sigmoid": sigmoid, "softmax": softmax}.get(scores, lambda values: values)(logits)
    anchor, number = np.nonzero(likely[:, int(background) :] > threshold)
    number = number + int(background)
    return Boxes(decode(codes, anchors, first=first)[anchor], likely[anchor, number], number)


def from_detr(boxes: Floats, logits: Floats) -> Boxes:
    """The likeliest class of each query of one image; the last one is nothing."""
    likely = softmax(logits)[:, :-1]
    classes = likely.argmax(axis=1)
    return Boxes(_corners(boxes), likely[np.arange(len(likely)), classes], classes)


def from_yolo(values: Floats, canvas: tuple[int, int]) -> Boxes:
    """The likeliest class of each anchor of one image.

    `[4 + classes, anchors]` from version 8 on, `[anchors, 5 + classes]` before, whose fifth number says whether there
    is anything at all.
    """
    if values.shape[0] < values.shape[1]:
        boxes, scores = values[:4].T, values[4:].T
    else:
        boxes, scores = values[:, :4], values[:, 5:] * values[:, 4:5]
    if not scores.shape[1]:
        raise TaskError(f"an output of shape {list(values.shape)} has no classes", hint="set `form`")
    classes = scores.argmax(axis=1)
    sides = _corners(boxes) / np.array([canvas[1], canvas[0]] * 2, boxes.dtype)
    return Boxes(sides, scores[np.arange(len(scores)), classes], classes)


def _corners(boxes: Floats) -> Floats:
    """From centre's x and y, width, height."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)
