"""The likeliest classes, with their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.task_models import picture, png, write_json

from lamella.errors import MalformedModelError, TaskError, UsageError
from lamella.tasks.files import ModelFiles
from lamella.tasks.image_classification import ImageClassification
from lamella.tensors import TensorSpec

IMAGE = [TensorSpec("pixel_values", "FP32", ("batch", 3, 224, 224))]
LOGITS = np.array([[0.0, 3.0, 1.0, 2.0], [4.0, -1.0, 4.0, 0.0]], np.float32)
LABELS = ["cat", "dog", "owl", "fox"]


def task(folder: Path | None = None, *, classes: int | str = 4, **settings: Any) -> ImageClassification:
    outputs = [TensorSpec("features", "FP32", ("batch", 9)), TensorSpec("logits", "FP32", ("batch", classes))]
    return ImageClassification(IMAGE, outputs, ModelFiles(folder), settings)


def answered(own: ImageClassification, values: np.ndarray) -> list[list[tuple[int, str, float]]]:
    found = own.postprocess({"logits": values}, [{}] * len(values))
    return [[(one["class"], one["label"], one["score"]) for one in answer["classes"]] for answer in found]


def softmax(values: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    return torch.softmax(torch.from_numpy(values), dim=-1).numpy()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    return tmp_path


def test_the_likeliest_come_first_and_of_equals_the_first_class(labelled: Path) -> None:
    found = answered(task(labelled, top_k=3), LOGITS)
    shares = softmax(LOGITS)
    assert [(number, label) for number, label, _ in found[0]] == [(1, "dog"), (3, "fox"), (2, "owl")]
    assert [(number, label) for number, label, _ in found[1]] == [(0, "cat"), (2, "owl"), (3, "fox")]
    for answer, row in zip(found, shares, strict=True):
        assert [score for _, _, score in answer] == pytest.approx([row[number] for number, _, _ in answer], rel=1e-6)


def test_probabilities_are_left_as_they_are() -> None:
    shares = softmax(LOGITS)
    assert answered(task(), shares)[0][0][2] == shares[0, 1]
    twice = softmax(shares)[0, 1]
    assert answered(task(scores="softmax"), shares)[0][0][2] == pytest.approx(twice)
    mixed = np.stack([shares[0], LOGITS[1]])
    assert answered(task(), mixed)[0] == answered(task(), shares)[0]
    assert answered(task(), mixed)[1] == answered(task(), LOGITS)[1]


def test_several_classes_at_once_have_probabilities_of_their_own(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"problem_type": "multi_label_classification"})
    wide = np.array([[0.0, 800.0, -800.0, 2.0]], np.float32)
    assert [score for _, _, score in answered(task(tmp_path), wide)[0]] == pytest.approx(
        [1, 1 / (1 + np.exp(-2)), 0.5, 0]
    )
    assert [score for _, _, score in answered(task(scores="none"), LOGITS)[0]] == [3, 2, 1, 0]


def test_names_come_from_the_models_files(tmp_path: Path) -> None:
    assert answered(task(top_k=1), LOGITS)[0][0][1] == "1"
    write_json(tmp_path / "config.json", {"id2label": {str(i): name.upper() for i, name in enumerate(LABELS)}})
    assert answered(task(tmp_path, top_k=1), LOGITS)[0][0][1] == "DOG"
    write_json(tmp_path / "own.json", {"1": "hound"})
    assert answered(task(tmp_path, top_k=1, labels="own.json"), LOGITS)[0][0][1] == "hound"
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    assert answered(task(tmp_path, top_k=1), LOGITS)[0][0][1] == "b"
    assert answered(task(tmp_path, top_k=1, labels=str(tmp_path / "own.json")), LOGITS)[0][0][1] == "hound"


def test_a_class_more_than_names_is_the_background(labelled: Path) -> None:
    values = np.array([[9.0, 0.0, 8.0, 0.0, 0.0]], np.float32)
    found = answered(task(labelled, classes=5, top_k=2), values)
    assert [(number, label) for number, label, _ in found[0]] == [(0, "background"), (2, "dog")]
    plain = answered(task(labelled, classes=5, top_k=2, background=False), values)
    assert [label for _, label, _ in plain[0]] == ["cat", "owl"]


def test_too_many_names_are_refused(labelled: Path) -> None:
    with pytest.raises(TaskError, match="there are labels for 4 classes, and the model has 3"):
        task(labelled, classes=3)
    with pytest.raises(TaskError, match="there are labels for 4 classes, and the model has 2"):
        answered(task(labelled, classes="classes"), LOGITS[:, :2])


def test_outputs_with_a_map_of_one_pixel_are_read() -> None:
    assert answered(task(), LOGITS[:, :, None, None]) == answered(task(), LOGITS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (LOGITS[0], r"the output `logits` has shape \[4\], not 2 or 4 dimensions"),
        (LOGITS[:1], "the output `logits` has 1 rows for 2 of the input"),
    ],
)
def test_outputs_of_other_shapes_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        task().postprocess({"logits": values}, [{}, {}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_n": 3}, "the task `image-classification` has no setting `top_n`"),
        ({"top_k": "three"}, "the setting `top_k` cannot be `'three'`"),
        ({"top_k": True}, "the setting `top_k` cannot be `True`"),
        ({"output": "probs"}, "the setting `output` names `probs`, which the model lacks"),
        ({"crop": [224]}, r"the setting `crop` cannot be `\[224\]`"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        task(**settings)
    assert caught.value.hint


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match="is not UTF-8"):
        task(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(MalformedModelError, match="is not a JSON object"):
        task(tmp_path)
    write_json(tmp_path / "config.json", {"id2label": {"one": "a"}})
    (tmp_path / "labels.txt").unlink()
    with pytest.raises(TaskError, match="names a class that is no number"):
        task(tmp_path)
    with pytest.raises(TaskError, match="cannot be read: no such file"):
        task(tmp_path, labels="missing.txt")


def test_a_model_with_another_input_is_refused() -> None:
    specs = [*IMAGE, TensorSpec("temperature", "FP32", ())]
    with pytest.raises(
        TaskError, match="the task `image-classification` has nothing for the model's input `temperature`"
    ):
        ImageClassification(specs, [TensorSpec("logits", "FP32", None)], ModelFiles(), {})


def test_inputs_of_several_images_have_one_batch() -> None:
    own = task()
    assert own.preprocess([png(picture(seed=i)) for i in range(3)]).inputs["pixel_values"].shape == (3, 3, 224, 224)
    assert own.batch is None
