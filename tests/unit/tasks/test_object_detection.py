"""Objects are those of the references, whatever form a model gives them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.task_models import picture, png, write_json

from lamella.errors import TaskError, UsageError
from lamella.tasks.answering import answer
from lamella.tasks.detection.anchors import decode, read_anchors, ssd_mobilenet
from lamella.tasks.detection.boxes import Boxes, in_image, suppressed, without_overlaps
from lamella.tasks.files import ModelFiles
from lamella.tasks.object_detection import ObjectDetection
from lamella.tasks.pixels import Placement
from lamella.tensors import TensorSpec

IMAGE = [TensorSpec("image", "FP32", (1, 3, 320, 320))]


def specs(**shapes: tuple[Any, ...]) -> list[TensorSpec]:
    return [TensorSpec(name, "FP32", shape) for name, shape in shapes.items()]


def task(outputs: list[TensorSpec], folder: Path | None = None, **options: Any) -> ObjectDetection:
    return ObjectDetection(IMAGE, outputs, ModelFiles(folder), options)


def slow_overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [max(0.0, s[2] - s[0]) * max(0.0, s[3] - s[1]) for s in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def slow_suppression(sides: np.ndarray, scores: np.ndarray, iou: float, most: int) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if len(kept) < most and all(slow_overlap(sides[index], sides[other]) <= iou for other in kept):
            kept.append(index)
    return kept


def random_boxes(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres, sizes = random.uniform(0, 1, (count, 2)), random.uniform(-0.02, 0.4, (count, 2))
    scores = random.integers(0, 12, count) / 12  # with ties
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1), scores


@given(st.integers(0, 1 << 16), st.integers(0, 60), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(1, 70))
def test_suppression_is_that_of_a_slow_one(seed: int, count: int, iou: float, most: int) -> None:
    sides, scores = random_boxes(seed, count)
    assert suppressed(sides, scores, iou=iou, most=most).tolist() == slow_suppression(sides, scores, iou, most)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_suppression_is_opencvs(iou: float) -> None:
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(1)
    start, size = random.integers(0, 300, (200, 2)), random.integers(10, 90, (200, 2))
    scores = random.permutation(200) / 200
    wanted = cv2.dnn.NMSBoxes(np.concatenate([start, size], axis=1).tolist(), scores.tolist(), 0.0, iou)
    sides = np.concatenate([start, start + size], axis=1).astype(float)
    found = suppressed(sides, scores, iou=iou, most=200)
    assert found[scores[found] > 0].tolist() == np.asarray(wanted).ravel().tolist()


@given(st.integers(0, 1 << 16))
def test_classes_do_not_suppress_each_other(seed: int) -> None:
    sides, scores = random_boxes(seed, 40)
    classes = np.random.default_rng(seed).integers(0, 4, 40)
    found = without_overlaps(Boxes(sides, scores, classes), iou=0.4, most=5)
    wanted = set()
    for number in range(4):
        members = np.flatnonzero(classes == number)
        kept = slow_suppression(sides[members], scores[members], 0.4, 5)
        wanted |= {(number, *sides[members[k]]) for k in kept}
    assert {(int(n), *box) for n, box in zip(found.classes, found.sides, strict=True)} == wanted


def test_anchors_are_those_of_ssd_mobilenet() -> None:
    """Written once more as loops, from the paper's formula and the settings of the reference."""
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    wanted = []
    for layer, cells in enumerate((19, 10, 5, 3, 2, 1)):
        for row in range(cells):
            for column in range(cells):
                centre = [(row + 0.5) / cells, (column + 0.5) / cells]
                if layer == 0:
                    shapes = [(0.1, 1.0), (0.2, 2.0), (0.2, 0.5)]
                else:
                    shapes = [(scales[layer], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1.0 / 3)]
                    shapes.append(((scales[layer] * scales[layer + 1]) ** 0.5, 1.0))
                wanted += [[*centre, scale / ratio**0.5, scale * ratio**0.5] for scale, ratio in shapes]
    assert len(wanted) == 1917
    np.testing.assert_allclose(ssd_mobilenet(), wanted, rtol=1e-12)


def test_boxes_are_decoded_as_by_the_reference() -> None:
    """TensorFlow's `FasterRcnnBoxCoder`, a box at a time; and back."""
    random = np.random.default_rng(0)
    anchors = random.uniform(0.1, 0.9, (30, 4))
    codes = random.normal(size=(30, 4))
    for first, order in (("y", [0, 1, 2, 3]), ("x", [1, 0, 3, 2])):
        found = decode(codes[:, order], anchors, first=first)
        for (ty, tx, th, tw), (ya, xa, ha, wa), box in zip(codes, anchors, found, strict=True):
            left, top, right, bottom = box
            assert ((top + bottom) / 2 - ya) / ha * 10 == pytest.approx(ty)
            assert ((left + right) / 2 - xa) / wa * 10 == pytest.approx(tx)
            assert np.log((bottom - top) / ha) * 5 == pytest.approx(th)
            assert np.log((right - left) / wa) * 5 == pytest.approx(tw)


def objects(found: Any) -> list[tuple[int, float, list[float]]]:
    return [(one["class"], one["score"], list(one["box"].values())) for one in found["objects"]]


STATE = [Placement((100, 200), (320, 320), (0, 0), (320, 320)).state()]


def test_tensorflows_form_is_read() -> None:
    names = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
    outputs = [TensorSpec(f"{name}:0", "FP32", None) for name in names]
    values = {
        "detection_boxes:0": np.array([[[0.1, 0.2, 0.5, 0.6], [0, 0, 2, 1], [0.3, 0.3, 0.4, 0.4]]], np.float32),
        "detection_classes:0": np.array([[18, 1, 90]], np.float32),
        "detection_scores:0": np.array([[0.7, 0.9, 0.4]], np.float32),
    }
    (found,) = task(outputs, labels="coco-90").postprocess(values, STATE)
    assert [one["label"] for one in found["objects"]] == ["person", "dog"]
    assert found["objects"][0]["box"] == {"left": 0, "top": 0, "right": 200, "bottom": 100}
    assert objects(found)[1][2] == pytest.approx([40, 10, 120, 50])


def test_heads_are_decoded_and_suppressed(tmp_path: Path) -> None:
    anchors = np.array([[0.5, 0.5, 0.4, 0.2], [0.5, 0.5, 0.4, 0.2], [0.2, 0.2, 0.2, 0.2]])
    np.save(tmp_path / "anchors.npy", anchors)
    logits = np.full((1, 3, 3), -9.0, np.float32)
    logits[0, 0, 1], logits[0, 1, 1], logits[0, 1, 2], logits[0, 2, 1] = 2.0, 1.0, 0.5, 0.1
    logits[0, :, 0] = 9  # the background
    values = {"boxes": np.zeros((1, 3, 4), np.float32), "scores": logits}
    own = task(specs(boxes=(1, 3, 4), scores=(1, 3, 3)), tmp_path, anchors="anchors.npy")
    (found,) = own.postprocess(values, STATE)
    sigmoid = [1 / (1 + np.exp(-v)) for v in (2.0, 0.5, 0.1)]
    assert [number for number, _, _ in objects(found)] == [1, 2, 1]
    assert [score for _, score, _ in objects(found)] == pytest.approx(sigmoid)
    assert objects(found)[0][2] == pytest.approx([80, 30, 120, 70])
    assert objects(found)[2][2] == pytest.approx([20, 10, 60, 30])


def test_heads_of_cocos_classes_have_its_labels() -> None:
    own = task(specs(boxes=(1, 1917, 4), scores=(1, 1917, 91)))
    logits = np.full((1, 1917, 91), -9, np.float32)
    logits[0, 1000, 44] = 5
    (found,) = own.postprocess({"boxes": np.zeros((1, 1917, 4), np.float32), "scores": logits}, STATE)
    assert [(one["class"], one["label"]) for one in found["objects"]] == [(44, "bottle")]


def test_detr_is_that_of_transformers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import DetrImageProcessorPil
    from transformers.models.detr.modeling_detr import DetrObjectDetectionOutput

    random = np.random.default_rng(0)
    logits = (random.normal(size=(1, 50, 8)) * 4).astype(np.float32)
    boxes = random.uniform(0.2, 0.5, (1, 50, 4)).astype(np.float32)
    raw = DetrObjectDetectionOutput(logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(boxes))
    (wanted,) = DetrImageProcessorPil().post_process_object_detection(raw, threshold=0.5, target_sizes=[(100, 200)])
    write_json(tmp_path / "config.json", {"id2label": {str(i): f"thing {i}" for i in range(7)}})
    own = task(specs(logits=(1, 50, 8), pred_boxes=(1, 50, 4)), tmp_path)
    (found,) = own.postprocess({"logits": logits, "pred_boxes": boxes}, STATE)
    order = torch.argsort(-wanted["scores"], stable=True)
    assert len(found["objects"]) == len(order) > 5
    assert [one["label"] for one in found["objects"]] == [f"thing {int(n)}" for n in wanted["labels"][order]]
    np.testing.assert_allclose([s for _, s, _ in objects(found)], wanted["scores"][order].numpy(), rtol=1e-5)
    sides = wanted["boxes"][order].numpy().clip(0, [200, 100, 200, 100])  # there they may lie outside of the image
    np.testing.assert_allclose([b for _, _, b in objects(found)], sides, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("version", [5, 8])
def test_yolos_form_is_read(version: int) -> None:
    rows = np.zeros((120, 84), np.float32)
    rows[3, :4], rows[3, 4 + 16] = [160, 80, 64, 32], 0.8  # a dog
    rows[4, :4], rows[4, 4 + 16] = [162, 80, 64, 32], 0.6  # the same one
    rows[5, :4], rows[5, 4 + 0] = [162, 80, 64, 32], 0.5
    values = (np.insert(rows, 4, 1, axis=1) if version == 5 else rows.T)[None]
    own = task(specs(output0=values.shape))
    (found,) = own.postprocess({"output0": values}, STATE)
    assert [one["label"] for one in found["objects"]] == ["dog", "person"]
    assert objects(found)[0][1:] == (pytest.approx(0.8), pytest.approx([80, 20, 120, 30]))


def test_boxes_in_pixels_or_shares_with_or_without_a_batch() -> None:
    sides = np.array([[32, 64, 160, 320]], np.float32)
    for unit, values in (("pixels", sides), ("share", sides / 320)):
        own = task(specs(bboxes=None, labels=None, scores=None), unit=unit)
        for batch in (values, values[None]):
            ones = np.ones(batch.shape[:-1], np.float32)
            found = own.postprocess({"bboxes": batch, "labels": ones * 3, "scores": ones}, STATE)
            assert objects(found[0]) == [(3, 1.0, pytest.approx([20, 20, 100, 100]))]


def test_detectors_without_a_batch_find_any_number_of_objects_in_each_image() -> None:
    own = task(specs(boxes=("n", 4), labels=("n",), scores=("n",)), unit="pixels")
    counts = iter([3, 0, 2])

    def infer(_: Any) -> dict[str, np.ndarray]:
        count = next(counts)
        boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (count, 1))
        return {"boxes": boxes, "labels": np.ones(count, np.int64), "scores": np.full(count, 0.9, np.float32)}

    found = answer(own, infer, [png(picture(seed=seed)) for seed in range(3)])
    assert [len(one["objects"]) for one in found] == [3, 0, 2]


@settings(max_examples=30)
@given(st.integers(1, 200), st.integers(1, 200))
def test_a_letterbox_is_taken_off_again(width: int, height: int) -> None:
    """A box around the whole image, as it lies in the input, is the whole image."""
    own = ObjectDetection(
        [TensorSpec("image", "FP32", (1, 3, 64, 64))], specs(output0=(1, 84, 100)), ModelFiles(), {"preset": "yolo"}
    )
    (state,) = own.preprocess([png(picture(width, height).reshape(height, width, 3))]).states
    place = Placement.of(state)
    top, left = place.offset
    sides = np.array([[left, top, left + place.scaled[1], top + place.scaled[0]]]) / 64
    np.testing.assert_allclose(in_image(sides, place)[0], [0, 0, width, height], atol=1e-9)


def test_boxes_of_cropped_images_are_where_they_were() -> None:
    place = Placement((400, 200), (256, 128), (-16, 0), (224, 128))
    found = in_image(np.array([[0.5, 0.5, 1.0, 1.0]]), place)
    np.testing.assert_allclose(found, [[100, 200, 200, 375]])


def test_what_is_not_finite_is_no_object() -> None:
    own = task(specs(boxes=None, labels=None, scores=None))
    boxes = np.array([[[0, 0, 1, np.nan], [0, 0, 1, np.inf], [0, 0, 1, 1]]], np.float32)
    values = {"boxes": boxes, "labels": np.ones((1, 3)), "scores": np.array([[0.9, 0.9, np.nan]])}
    assert own.postprocess(values, STATE) == [{"objects": []}]


def test_models_of_no_known_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="not those of a detector of a known form: `a`, `b`"):
        task(specs(a=(1, 10), b=(1, 10)))
    with pytest.raises(TaskError, match="not those of the form `detr`: `boxes`, `scores`"):
        task(specs(boxes=None, scores=None), form="detr")
    with pytest.raises(UsageError, match="the setting `form` cannot be `'ssd'`"):
        task(specs(boxes=None, scores=None), form="ssd")
    values = {"boxes": np.zeros((1, 5, 4), np.float32), "scores": np.zeros((1, 5, 3), np.float32)}
    with pytest.raises(TaskError, match="there are 1917 anchors, and the model has boxes for 5"):
        task(specs(boxes=None, scores=None)).postprocess(values, STATE)
    values = {"boxes": np.zeros((1, 5, 3)), "labels": np.ones((1, 5)), "scores": np.ones((1, 5))}
    with pytest.raises(TaskError, match=r"outputs of shapes \[5, 3\], \[5\], \[5\] are not of the form `boxes`"):
        task(specs(boxes=None, labels=None, scores=None)).postprocess(values, STATE)
    (tmp_path / "a.npy").write_bytes(b"no numbers")
    np.save(tmp_path / "b.npy", np.zeros((3, 3)))
    for name, said in (("a.npy", "no `.npy` file"), ("b.npy", "no anchors of four"), ("c.npy", "cannot be read")):
        with pytest.raises(TaskError, match=said):
            read_anchors(tmp_path / name)
