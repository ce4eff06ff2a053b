"""Which task, with which files, and how items become batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import TaskError, UsageError
from lamella.tasks import answer, open_task
from lamella.tasks.base import Answer, Item, Prepared, State
from lamella.tasks.files import ModelFiles, folder_of
from lamella.tasks.labels import COCO_80, COCO_90, read_labels
from lamella.tensors import Array, Tensors


@pytest.mark.parametrize(
    ("name", "hint"),
    [("image-clasification", "did you mean `image-classification`?"), ("asr", "the tasks are `custom`, ")],
)
def test_a_task_that_is_unknown_is_refused(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"there is no task `{name}`") as caught:
        open_task(name, [], [])
    assert str(caught.value.hint).startswith(hint)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        open_task("custom", [], [], folder=tmp_path / "missing")


def test_files_are_looked_for_beside_the_model(tmp_path: Path) -> None:
    model = tmp_path / "bert" / "model.onnx"
    slices = tmp_path / "bert" / "model.slices"
    nested = tmp_path / "bert" / "onnx" / "model.onnx"
    slices.mkdir(parents=True)
    nested.parent.mkdir()
    assert {folder_of(model), folder_of(slices), folder_of(nested), folder_of(slices / "slices.json")} == {model.parent}
    (slices / "tokenizer.json").write_text("{}")
    assert folder_of(slices) == folder_of(slices / "slices.json") == slices


def test_cocos_labels_have_its_ids() -> None:
    by_id, by_index = read_labels(COCO_90, ModelFiles()), read_labels(COCO_80, ModelFiles())
    assert (len(by_id), len(by_index)) == (91, 80)
    assert len(by_id.names) == len(set(by_id.names.values())) == 80
    assert list(by_id.names.values()) == list(by_index.names.values())
    known = {1: "person", 13: "stop sign", 18: "dog", 44: "bottle", 62: "chair", 72: "tv", 84: "book", 90: "toothbrush"}
    assert {number: by_id.name(number) for number in known} == known
    assert (by_id.name(12), by_index.name(16), by_index.name(79)) == ("12", "dog", "toothbrush")


class Numbers:
    """Items are numbers of rows; an answer is what the model made of these."""

    def __init__(self, batch: int | None) -> None:
        self.batch = batch

    def preprocess(self, items: Sequence[Item]) -> Prepared:
        values = [float(ord(letter)) for item in items for letter in str(item)]
        return Prepared({"x": np.array(values)[:, None]}, [{"rows": len(str(item))} for item in items])

    def postprocess(self, outputs: Tensors, states: Sequence[State]) -> list[Answer]:
        values = iter(outputs["y"][:, 0].tolist())
        found: list[Answer] = [{"values": [next(values) for _ in range(int(str(s["rows"])))]} for s in states]
        assert next(values, None) is None
        return found


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.one_of(st.none(), st.integers(1, 7)))
def test_rows_of_a_fixed_batch_come_back_to_their_items(lengths: list[int], batch: int | None) -> None:
    sizes = []

    def infer(inputs: Tensors) -> dict[str, Array]:
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    items = [chr(index) * length for index, length in enumerate(lengths, ord("a"))]
    found = answer(Numbers(batch), infer, items)
    assert found == [{"values": [index * 2.0] * length} for index, length in enumerate(lengths, ord("a"))]
    assert set(sizes) == {batch or sum(lengths)}
    if batch is None:
        assert len(sizes) == 1
    elif batch > 1:
        assert len(sizes) == -(-sum(lengths) // batch)
    else:
        assert len(sizes) == sum(lengths)


def test_a_model_of_any_batch_is_not_given_thousands_of_rows() -> None:
    sizes = []

    def infer(inputs: Tensors) -> dict[str, Array]:
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"]}

    found = answer(Numbers(None), infer, ["a" * 100, "b" * 50])
    assert found == [{"values": [97.0] * 100}, {"values": [98.0] * 50}]
    assert sizes == [64, 64, 22]


@pytest.mark.parametrize("batch", [None, 2])
def test_inputs_that_are_no_rows_of_one_batch_are_given_as_they_are(batch: int | None) -> None:
    class Scaled(Numbers):
        def preprocess(self, items: Sequence[Item]) -> Prepared:
            prepared = super().preprocess(items)
            return Prepared({**prepared.inputs, "by": np.array(3.0)}, prepared.states)

    found = answer(Scaled(batch), lambda inputs: {"y": inputs["x"] * inputs["by"]}, ["a"] * 70)
    assert found == [{"values": [291.0]}] * 70


def test_outputs_that_cannot_be_joined_are_refused() -> None:
    shapes = iter([(1, 2), (1, 3)])
    with pytest.raises(TaskError, match="the output `y` has another shape each time"):
        answer(Numbers(1), lambda _: {"y": np.zeros(next(shapes))}, ["aa"])
