"""What every task does, whatever it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests import task_models as made

import lamella
from lamella.errors import ItemError, MissingDependencyError, TaskError, UsageError
from lamella.tasks import TASKS, answer, open_task
from lamella.tasks.base import Answer, Item, Prepared, State, Task
from lamella.tensors import Tensors, TensorSpec
from lamella.workflow import Pipeline

OWN = """
import numpy as np

def preprocess(items):
    values = [float(len(item)) for item in items]
    return {"x": np.array([[value] * 32 for value in values], np.float32)}, values

def postprocess(outputs, states):
    return [{"sum": row.sum(), "length": state} for row, state in zip(outputs["y"], states)]
"""


@dataclass(frozen=True)
class Case:
    """A task with a model, items that it takes, and some that it does not."""

    task: str
    build: Callable[[Path], Path]
    items: Sequence[Item]
    bad: Sequence[Item]
    settings: Callable[[Path], dict[str, object]] = lambda _: {}
    unneeded: tuple[str, ...] = ("PIL",)


IMAGES = [
    made.png(made.picture(64, 48)),
    made.encoded(made.picture(40, 90, seed=1), "JPEG"),
    made.encoded(made.picture(33, 35, seed=2), "WEBP"),
    made.png(made.picture(64, 48, seed=3)),
]
NO_IMAGES = ["text", b"", b"no image", IMAGES[0][:60], {"image": "x"}]
QUESTIONS = [{"question": f"What about number {i}?", "context": context} for i, context in enumerate(made.CONTEXTS)]


def classifier(folder: Path) -> Path:
    return made.classifier(folder / "model.onnx")


def heads(folder: Path) -> Path:
    made.grid_of_anchors(folder / "anchors.npy", 24)
    return made.heads(folder / "model.onnx")


def reader(folder: Path) -> Path:
    return made.reader(made.tokenizer_beside(folder) / "model.onnx")


def reader_of_two(folder: Path) -> Path:
    return made.reader(made.tokenizer_beside(folder) / "model.onnx", batch=2, length=64)


def embedder(folder: Path) -> Path:
    return made.embedder(made.tokenizer_beside(folder) / "model.onnx")


def own(folder: Path) -> Path:
    from tests import models

    (folder / "own.py").write_text(OWN)
    return models.mlp(folder / "model.onnx")


Opened = tuple[Case, Path, Pipeline, Task]

CASES = {
    "image-classification": Case("image-classification", classifier, IMAGES, NO_IMAGES, unneeded=("tokenizers",)),
    "one image at a time": Case(
        "image-classification",
        lambda folder: made.classifier(folder / "model.onnx", batch=1),
        IMAGES,
        NO_IMAGES,
        unneeded=("tokenizers",),
    ),
    "object-detection": Case(
        "object-detection",
        heads,
        IMAGES,
        NO_IMAGES,
        settings=lambda _: {"anchors": "anchors.npy", "threshold": 0.4},
        unneeded=("tokenizers",),
    ),
    "question-answering": Case(
        "question-answering",
        reader,
        QUESTIONS,
        ["text", b"[]", {"question": "q"}, {"question": "q", "context": " "}, {**QUESTIONS[0], "contxt": "x"}],
        settings=lambda _: {"max_tokens": 48, "doc_stride": 16, "top_k": 3},
    ),
    "two windows at a time": Case(
        "question-answering", reader_of_two, QUESTIONS, ["text"], settings=lambda _: {"doc_stride": 16}
    ),
    "feature-extraction of texts": Case(
        "feature-extraction",
        embedder,
        ["A sentence.", "Größe, 量, 😀", b"bytes", "a longer one " * 40],
        ["", " \n", b"\xff", {"text": "x"}, "\ud800"],
        settings=lambda _: {"normalize": True},
    ),
    "feature-extraction of images": Case(
        "feature-extraction",
        lambda folder: made.patches(folder / "model.onnx"),
        IMAGES,
        NO_IMAGES,
        settings=lambda _: {"pooling": ["cls", "mean"]},
        unneeded=("tokenizers",),
    ),
    "custom": Case(
        "custom", own, ["a", "bb", b"ccc"], [7], settings=lambda _: {"file": "own.py"}, unneeded=("PIL", "tokenizers")
    ),
}


@pytest.fixture(scope="module", params=CASES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A case, its folder, a pipeline of its model, and its task."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp("task")
    with lamella.Pipeline(case.build(folder)) as pipeline:
        settings = case.settings(folder)
        yield (
            case,
            folder,
            pipeline,
            open_task(case.task, pipeline.inputs, pipeline.outputs, folder=folder, settings=settings),
        )


def test_every_task_has_a_case() -> None:
    assert {case.task for case in CASES.values()} == set(TASKS)


def test_answers_of_many_are_those_of_each(opened: Opened) -> None:
    case, _, pipeline, task = opened
    singly = [answer(task, pipeline.infer, [item])[0] for item in case.items]
    assert_same(answer(task, pipeline.infer, case.items), singly)
    assert any(one != singly[0] for one in singly[1:])


def test_answers_keep_the_order_of_items(opened: Opened) -> None:
    case, _, pipeline, task = opened
    forward = answer(task, pipeline.infer, case.items)
    backward = answer(task, pipeline.infer, case.items[::-1])
    assert_same(backward[::-1], forward)


@dataclass
class Elsewhere:
    """A task whose answers are made in another function."""

    task: Task

    @property
    def batch(self) -> int | None:
        return self.task.batch

    def preprocess(self, items: Sequence[Item]) -> Prepared:
        prepared = self.task.preprocess(items)
        assert len(prepared.states) == len(items)
        return Prepared(prepared.inputs, json.loads(json.dumps(prepared.states, allow_nan=False)))

    def postprocess(self, outputs: Tensors, states: Sequence[State]) -> list[Answer]:
        return self.task.postprocess(outputs, states)


def test_json_can_hold_states_and_answers(opened: Opened) -> None:
    case, _, pipeline, task = opened
    answers = answer(Elsewhere(task), pipeline.infer, case.items)
    assert answers == answer(task, pipeline.infer, case.items)
    assert json.loads(json.dumps(answers, allow_nan=False)) == answers


def test_inputs_are_those_that_the_model_takes(opened: Opened) -> None:
    case, _, pipeline, task = opened
    prepared = task.preprocess(case.items[:1])
    assert set(prepared.inputs) == {spec.name for spec in pipeline.inputs}
    assert all(array.flags.c_contiguous for array in prepared.inputs.values())


def test_the_same_items_give_the_same_inputs(opened: Opened) -> None:
    case, _, _, task = opened
    first, second = task.preprocess(case.items).inputs, task.preprocess(case.items).inputs
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_bad_item_is_refused_and_named(opened: Opened) -> None:
    case, _, pipeline, task = opened
    for bad in case.bad:
        with pytest.raises((ItemError, TaskError)) as caught:
            answer(task, pipeline.infer, [case.items[0], bad, case.items[1]])
        assert caught.value.hint
        if case.task != "custom":
            assert isinstance(caught.value, ItemError)
            assert (caught.value.item, caught.value.message[:7]) == (1, "item 1 ")
            assert "0x" not in caught.value.message


def test_no_items_give_no_answers(opened: Opened) -> None:
    _, _, pipeline, task = opened
    assert answer(task, pipeline.infer, []) == []


def test_a_setting_that_is_unknown_is_refused(opened: Opened) -> None:
    case, folder, pipeline, _ = opened
    with pytest.raises(UsageError, match=f"the task `{case.task}` has no setting `colour`"):
        open_task(case.task, pipeline.inputs, pipeline.outputs, folder=folder, settings={"colour": 1})


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"custom"}))
def test_a_model_of_something_else_is_refused(task: str) -> None:
    sound = [TensorSpec("waveform", "FP32", ("batch", "samples"))]
    with pytest.raises(TaskError) as caught:
        open_task(task, sound, [TensorSpec("y", "FP32", ("batch", 4))])
    assert caught.value.hint


def test_a_task_imports_only_what_it_needs(opened: Opened, tmp_path: Path) -> None:
    """In a fresh interpreter, from what is copied into packages; the others may not even be there."""
    case, folder, pipeline, _ = opened
    code = f"""
import sys
from pathlib import Path
from lamella.tasks.opening import open_task
from lamella.tensors import TensorSpec
task = open_task({case.task!r}, {pipeline.inputs!r}, {pipeline.outputs!r}, folder={str(folder)!r},
                 settings={case.settings(folder)!r})
task.preprocess([{case.items[0]!r}])
print("modules:", *sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(lamella.__file__).parents[1])}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert finished.returncode == 0, finished.stderr
    loaded = finished.stdout.rsplit("modules: ", 1)[1].split()
    foreign = {*case.unneeded, "cv2", "onnx", "onnxruntime", "scipy", "torch", "transformers", "rich", "typer"}
    assert foreign.isdisjoint(name.partition(".")[0] for name in loaded)
    tasks = {f"lamella.tasks.{name.replace('-', '_')}" for name in TASKS}
    assert tasks.intersection(loaded) == {f"lamella.tasks.{case.task.replace('-', '_')}"}


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [("image-classification", "PIL", "images"), ("feature-extraction of texts", "tokenizers", "text")],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    name: str, library: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    with lamella.Pipeline(case.build(tmp_path)) as pipeline:
        for module in [m for m in sys.modules if m.partition(".")[0] == library]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(MissingDependencyError) as caught:
            open_task(case.task, pipeline.inputs, pipeline.outputs, folder=tmp_path).preprocess(case.items[:1])
    assert caught.value.hint == f"install it with `pip install 'lamella[{extra}]'`"


def assert_same(found: object, wanted: object) -> None:
    """Equal, but for what a batch changes in the last bits of numbers."""
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    else:
        assert found == wanted
