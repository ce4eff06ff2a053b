"""`object-detection`: what is where in an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lamella.errors import TaskError
from lamella.tasks.base import Answer, Item, Prepared, State
from lamella.tasks.detection.anchors import SSD_MOBILENET, read_anchors, ssd_mobilenet
from lamella.tasks.detection.boxes import Boxes, best, in_image, likely, without_overlaps
from lamella.tasks.detection.forms import (
    Form,
    find_form,
    from_boxes,
    from_detr,
    from_heads,
    from_tensorflow,
    from_yolo,
)
from lamella.tasks.files import ModelFiles
from lamella.tasks.image_options import ImageOptions
from lamella.tasks.labels import COCO_80, COCO_90, Labels, read_labels
from lamella.tasks.pixels import ImageInput, Placement
from lamella.tasks.resizing import Size
from lamella.tasks.scores import Floats
from lamella.tasks.settings import changed, check_names, names_of, picked
from lamella.tasks.specs import check_filled, check_rows, output_of
from lamella.tensors import Tensors, TensorSpec

NAME = "object-detection"


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """How objects come out of the model.

    Attributes:
        form: The form of its outputs; by default what their names and shapes say.
        labels: `coco-90` or `coco-80`, or a file with the classes' names, as for `image-classification`.
        threshold: The least score of an object.
        iou: The most that two objects of one class may overlap, where the model has not seen to that itself.
        max_objects: The most objects of an image, and of a class before others are counted.
        anchors: For heads: `ssd-mobilenet`, or a `.npy` file `[anchors, 4]` with centre's y and x, height, width.
        first: For heads: whether y or x comes first.
        scores: For heads: what makes scores of them.
        background: For heads: whether class 0 is nothing.
        unit: For boxes: whether they are shares of the input or its pixels.
    """

    form: Form | None = None
    labels: str | None = None
    threshold: float = 0.5
    iou: float = 0.6
    max_objects: int = 100
    anchors: str = SSD_MOBILENET
    first: Literal["y", "x"] = "y"
    scores: Literal["sigmoid", "softmax", "none"] = "sigmoid"
    background: bool = True
    unit: Literal["share", "pixels"] = "share"


_PRESETS: Mapping[Form, str] = {
    "tensorflow": "mlperf-ssd-mobilenet",
    "boxes": "mlperf-ssd-resnet34",
    "heads": "ssd-mobilenet",
    "detr": "detr",
    "yolo": "yolo",
}


class ObjectDetection:
    """Finds objects in images.

    Items are the bytes of image files. An answer is `{"objects": [{"class", "label", "score", "box"}, ...]}`, the
    likeliest first; a box is `{"left", "top", "right", "bottom"}` in pixels of the image, upright as its EXIF data
    says.

    Args:
        inputs: The model's inputs.
        outputs: The model's outputs.
        beside: The model's files.
        settings: Settings of `DetectionOptions` and `ImageOptions`, and `preset`.

    Raises:
        UsageError: A setting makes no sense.
        TaskError: The model does not suit the task.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        beside: ModelFiles,
        settings: Mapping[str, object],
    ) -> None:
        check_names(settings, ("preset", *names_of(DetectionOptions, ImageOptions)), NAME)
        own = picked(settings, DetectionOptions)
        wanted = changed(DetectionOptions(), own, NAME)
        self._form, self._outputs = find_form(outputs, wanted.form)
        start = replace(DetectionOptions(), threshold=0.25, iou=0.7) if self._form == "yolo" else DetectionOptions()
        self._options = changed(start, own, NAME)
        images = {name: value for name, value in settings.items() if name not in own}
        self._images = ImageInput(inputs, images, beside, task=NAME, default=_PRESETS[self._form])
        check_filled(inputs, self._images.filled, NAME)
        self._labels = self._names(outputs, beside)
        self._anchors = self._read_anchors(beside)

    @property
    def batch(self) -> int | None:
        """Images that the model takes at once; None for any number."""
        return self._images.batch

    def preprocess(self, items: Sequence[Item]) -> Prepared:
        """Pixel values of images, and where each lies in them."""
        inputs, placements = self._images.prepare(items)
        return Prepared(inputs, [placement.state() for placement in placements])

    def postprocess(self, outputs: Tensors, states: Sequence[State]) -> list[Answer]:
        """The objects in each image."""
        arrays = [self._rows(outputs, name, len(states)) for name in self._outputs]
        return [
            {"objects": self._objects([array[row] for array in arrays], Placement.of(state))}
            for row, state in enumerate(states)
        ]

    def _rows(self, outputs: Tensors, name: str, rows: int) -> Floats:
        if self._form != "boxes":
            return check_rows(output_of(outputs, name, (2, 3)), name, rows)
        of_all = 3 if name == self._outputs[0] else 2
        array = output_of(outputs, name, (of_all - 1, of_all))  # torchvision's detectors have no batch
        return check_rows(array[None] if array.ndim < of_all else array, name, rows)

    def _objects(self, values: list[Floats], placement: Placement) -> list[dict[str, object]]:
        options = self._options
        found = likely(self._boxes(values, placement), options.threshold)
        if self._form in ("heads", "yolo"):
            found = without_overlaps(found, iou=options.iou, most=options.max_objects)
        found = best(found, options.max_objects)
        sides = in_image(found.sides, placement)
        return [
            self._view(int(number), float(score), box.tolist())
            for number, score, box in zip(found.classes, found.scores, sides, strict=True)
        ]

    def _boxes(self, values: list[Floats], placement: Placement) -> Boxes:
        try:
            return self._read(values, placement.canvas)
        except (ValueError, IndexError) as error:
            shapes = ", ".join(str(list(value.shape)) for value in values)
            raise TaskError(
                f"outputs of shapes {shapes} are not of the form `{self._form}`", hint="set `form` to another"
            ) from error

    def _read(self, values: list[Floats], canvas: Size) -> Boxes:
        options, (boxes, *rest) = self._options, values
        match self._form:
            case "tensorflow":
                return from_tensorflow(boxes, *rest)
            case "boxes":
                return from_boxes(boxes, *rest, canvas=canvas, unit=options.unit)
            case "detr":
                return from_detr(boxes, *rest)
            case "yolo":
                return from_yolo(boxes, canvas)
        return from_heads(
            boxes,
            *rest,
            anchors=self._anchors,
            first=options.first,
            scores=options.scores,
            background=options.background,
            threshold=options.threshold,
        )

    def _view(self, number: int, score: float, box: list[float]) -> dict[str, object]:
        sides = dict(zip(("left", "top", "right", "bottom"), box, strict=True))
        return {"class": number, "label": self._labels.name(number), "score": score, "box": sides}

    def _names(self, outputs: Sequence[TensorSpec], beside: ModelFiles) -> Labels:
        """Names from files, or COCO's where there are as many classes as it has."""
        found = read_labels(self._options.labels, beside)
        if found or self._options.labels is not None:
            return found
        sizes = {spec.name: spec.shape or () for spec in outputs}[self._outputs[-1]]
        if self._form == "heads" and sizes[-1:] == (91,):
            return read_labels(COCO_90, beside)
        return read_labels(COCO_80, beside) if self._form == "yolo" and {84, 85} & set(sizes) else found

    def _read_anchors(self, beside: ModelFiles) -> Floats:
        named = self._options.anchors
        return ssd_mobilenet() if named == SSD_MOBILENET else read_anchors(beside.resolve(named))
