"""`image-classification`: what is in an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lamella.errors import TaskError
from lamella.tasks.base import Answer, Item, Prepared, State
from lamella.tasks.files import ModelFiles
from lamella.tasks.image_options import ImageOptions
from lamella.tasks.labels import read_labels
from lamella.tasks.pixels import ImageInput
from lamella.tasks.scores import Floats, are_probabilities, sigmoid, softmax
from lamella.tasks.settings import changed, check_names, names_of, picked
from lamella.tasks.specs import check_filled, check_rows, chosen, fixed, output_of
from lamella.tensors import Tensors, TensorSpec

NAME = "image-classification"


@dataclass(frozen=True, slots=True)
class ClassificationOptions:
    """How classes become an answer.

    Attributes:
        labels: A file with the classes' names, beside the model or anywhere: `.txt`, a name a line, or `.json`, a name
            by class; by default `labels.txt` or `config.json` beside the model.
        background: Whether class 0 is none of those in the file, as in TensorFlow's models of 1001 classes; by default
            whether the model has one class more than the file.
        top_k: How many classes to answer, those of the largest scores first.
        scores: What makes scores of the output; by default softmax, where it does not hold probabilities already.
        output: The output with a score a class; by default `logits` or the first.
    """

    labels: str | None = None
    background: bool | None = None
    top_k: int = 5
    scores: Literal["auto", "softmax", "sigmoid", "none"] = "auto"
    output: str | None = None


class ImageClassification:
    """Resizes and crops images; answers the likeliest classes.

    Items are the bytes of image files. An answer is `{"classes": [{"class", "label", "score"}, ...]}`.

    Args:
        inputs: The model's inputs.
        outputs: The model's outputs.
        beside: The model's files.
        settings: Settings of `ClassificationOptions` and `ImageOptions`, and `preset`.

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
        check_names(settings, ("preset", *names_of(ClassificationOptions, ImageOptions)), NAME)
        start = ClassificationOptions(scores=_scores(beside))
        self._options = changed(start, picked(settings, ClassificationOptions), NAME)
        images = {name: value for name, value in settings.items() if name not in names_of(ClassificationOptions)}
        self._images = ImageInput(inputs, images, beside, task=NAME)
        check_filled(inputs, self._images.filled, NAME)
        self._output = self._chosen(outputs)
        self._labels = read_labels(self._options.labels, beside)
        if (classes := fixed(self._output, 1)) is not None:
            self._shift(classes)

    @property
    def batch(self) -> int | None:
        """Images that the model takes at once; None for any number."""
        return self._images.batch

    def preprocess(self, items: Sequence[Item]) -> Prepared:
        """Pixel values of images."""
        inputs, placements = self._images.prepare(items)
        return Prepared(inputs, [{} for _ in placements])

    def postprocess(self, outputs: Tensors, states: Sequence[State]) -> list[Answer]:
        """The likeliest classes of each image."""
        name = self._output.name
        array = check_rows(output_of(outputs, name, (2, 4)), name, len(states))
        scores = self._scored(array.reshape(len(states), -1))
        shift = self._shift(scores.shape[1])
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._options.top_k]
        return [
            {"classes": [self._class(int(i), row[i], shift) for i in indexes]}
            for row, indexes in zip(scores, best, strict=True)
        ]

    def _class(self, index: int, score: float, shift: int) -> dict[str, object]:
        label = "background" if index < shift else self._labels.name(index - shift)
        return {"class": index, "label": label, "score": float(score)}

    def _scored(self, values: Floats) -> Floats:
        match self._options.scores:
            case "softmax":
                return softmax(values)
            case "sigmoid":
                return sigmoid(values)
            case "none":
                return values
        return np.where(are_probabilities(values)[:, None], values, softmax(values))

    def _shift(self, classes: int) -> int:
        """1 where class 0 is the background, and the file of labels begins with class 1."""
        named, background = len(self._labels), self._options.background
        if background is None:
            background = classes == named + 1
        if named > classes - background:
            raise TaskError(
                f"there are labels for {named} classes, and the model has {classes}",
                hint="give the model's own file with the setting `labels`",
            )
        return int(background)

    def _chosen(self, outputs: Sequence[TensorSpec]) -> TensorSpec:
        if self._options.output is not None:
            return chosen(self._options.output, "output", outputs)
        return next((spec for spec in outputs if spec.name == "logits"), outputs[0])


def _scores(beside: ModelFiles) -> Literal["auto", "sigmoid"]:
    """Several classes at once have probabilities of their own."""
    several = beside.read("config.json").get("problem_type") == "multi_label_classification"
    return "sigmoid" if several else "auto"
