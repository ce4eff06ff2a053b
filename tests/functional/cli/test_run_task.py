"""`lamella run --task`: images and texts in, answers out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests import task_models as made
from tests.functional.cli.conftest import Lamella, Process

LABELS = ("cat", "dog", "owl", "fox", "hen", "cow", "bee")


@pytest.fixture
def classifier(folder: Path) -> str:
    """A model with labels beside it, and two images."""
    (folder / "labels.txt").write_text("\n".join(LABELS))
    (folder / "a.jpg").write_bytes(made.encoded(made.picture(64, 48), "JPEG"))
    (folder / "b.png").write_bytes(made.png(made.picture(40, 90, seed=1)))
    return made.classifier(folder / "classifier.onnx").name


def test_json_has_an_answer_for_each_image(lamella: Lamella, classifier: str) -> None:
    images = ["--input", "a.jpg", "--input", "b.png"]
    result = lamella("run", classifier, "--task", "image-classification", *images, "--json")
    assert (result.status, result.err) == (0, "")
    shown = result.json
    assert shown["schema"] == "lamella.run/1"
    assert [answer["input"] for answer in shown["answers"]] == ["a.jpg", "b.png"]
    for answer in shown["answers"]:
        assert len(answer["classes"]) == 5
        scores = [one["score"] for one in answer["classes"]]
        assert scores == sorted(scores, reverse=True)
        assert all(one["label"] == LABELS[one["class"]] for one in answer["classes"])
    assert shown["outputs"] == []
    assert shown.keys() >= {"latency_ms", "slices", "peak_rss_bytes"}


def test_tables_show_classes(lamella: Lamella, classifier: str) -> None:
    flags = ["--task", "image-classification", "--input", "a.jpg", "--task-setting", "top_k=2", "--repeat", "3"]
    result = lamella("run", classifier, *flags)
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "a.jpg"
    assert lines[1].split() == ["class", "label", "score"]
    assert len(lines[2].split()) == 3
    assert lines[5].endswith("(median of 3)")


def test_slices_answer_as_the_model_does(lamella: Lamella, classifier: str) -> None:
    assert lamella("slice", classifier, "--slices", "2", "-o", "c.slices").status == 0
    flags = ["--task", "image-classification", "--input", "b.png", "--json"]
    whole = lamella("run", classifier, *flags).json["answers"]
    assert lamella("run", "c.slices", *flags).json["answers"] == whole
    assert lamella("run", "c.slices", "--low-memory", *flags).json["answers"] == whole


def test_objects_and_their_boxes_are_shown(lamella: Lamella, folder: Path, classifier: str) -> None:
    del classifier
    made.grid_of_anchors(folder / "anchors.npy", 24)
    model = made.heads(folder / "heads.onnx").name
    settings = [
        "--task-setting",
        "anchors=anchors.npy",
        "--task-setting",
        "threshold=0.4",
        "--task-setting",
        "labels=coco-90",
    ]
    result = lamella("run", model, "--task", "object-detection", "--input", "a.jpg", *settings)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[1].split() == ["class", "label", "score", "box"]
    assert "left 0, top " in result.out


def test_questions_are_read_from_json(lamella: Lamella, folder: Path) -> None:
    model = made.reader(made.tokenizer_beside(folder) / "reader.onnx").name
    asked = [{"question": f"Number {i}?", "context": context} for i, context in enumerate(made.CONTEXTS)]
    made.write_json(folder / "asked.json", asked)
    made.write_json(folder / "one.json", asked[1])
    several = lamella("run", model, "--task", "question-answering", "--input", "asked.json", "--json").json["answers"]
    assert [answer["input"] for answer in several] == ["asked.json[0]", "asked.json[1]", "asked.json[2]"]
    assert all(a["answer"] == q["context"][a["start"] : a["end"]] for a, q in zip(several, asked, strict=True))
    (one,) = lamella("run", model, "--task", "question-answering", "--input", "one.json", "--json").json["answers"]
    assert one == {**several[1], "input": "one.json"}
    (text,) = lamella("run", model, "--task", "question-answering", "--text", json.dumps(asked[1]), "--json").json[
        "answers"
    ]
    assert text == {**several[1], "input": "text 0"}


def test_texts_come_from_flags_and_files(lamella: Lamella, folder: Path) -> None:
    model = made.embedder(made.tokenizer_beside(folder) / "embedder.onnx").name
    (folder / "one.txt").write_text("Größe 量", "utf-8")
    flags = ["--input", "one.txt", "--text", "Größe 量", "--text", "another"]
    result = lamella("run", model, "--task", "feature-extraction", *flags, "--json")
    first, second, third = (np.array(answer["embedding"]) for answer in result.json["answers"])
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - third).max() > 0.1
    shown = lamella("run", model, "--task", "feature-extraction", "--text", "a")
    assert shown.out.splitlines()[1].startswith("embedding: [")
    assert shown.out.splitlines()[1].endswith("(16 numbers)]")


def test_own_functions_are_named_by_a_setting(lamella: Lamella, folder: Path) -> None:
    source = (
        "import numpy as np\n"
        "def preprocess(items):\n    return {'x': np.ones((len(items), 32), np.float32)}\n"
        "def postprocess(outputs):\n    return [{'sum': row.sum()} for row in outputs['y']]\n"
    )
    (folder / "own.py").write_text(source)
    result = lamella("run", "mlp.onnx", "--task", "custom", "--task-setting", "file=own.py", "--text", "a", "--json")
    assert result.status == 0
    assert result.json["answers"][0]["sum"] != 0


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (
            ["--task", "image-clasification", "--input", "a.jpg"],
            "there is no task `image-clasification`",
            "did you mean",
        ),
        (["--task", "image-classification"], "the task is given nothing", "give files"),
        (
            ["--task", "image-classification", "--input", "no.jpg"],
            "input file `no.jpg` cannot be read",
            "check the path",
        ),
        (["--task", "image-classification", "--input", "labels.txt"], "`labels.txt` is no image", "known are JPEG"),
        (["--task", "image-classification", "--text", "x"], "`text 0` is no image", "give the bytes"),
        (
            ["--task", "image-classification", "--input", "bad.json"],
            "input file `bad.json` is not valid JSON",
            "give an obj",
        ),
        (
            ["--task", "image-classification", "--input", "number.json"],
            "`number.json` is neither an object nor text",
            "",
        ),
        (["--task", "image-classification", "--input", "a.jpg", "--random"], "a task makes its own inputs", "leave"),
        (["--task", "image-classification", "--input", "a.jpg", "-o", "o.npz"], "a task makes its own inputs", "leave"),
        (
            ["--task-setting", "top_k=1", "--random"],
            "there is no task for what is said of one",
            "name it with `--task`",
        ),
        (
            ["--task", "image-classification", "--task-setting", "top_k", "--text", "x"],
            "`--task-setting top_k` has",
            "write",
        ),
        (
            ["--task", "image-classification", "--task-setting", "a=1", "--task-setting", "a=2", "--text", "x"],
            "the setting `a` is given twice",
            "give each setting once",
        ),
        (["--task", "image-classification", "--task-folder", "none", "--text", "x"], "`none` is no folder", "give the"),
        (["--task", "question-answering", "--text", "x"], "the model has no input `input_ids`", "choose another task"),
    ],
)
def test_mistakes_are_explained(
    lamella: Lamella, folder: Path, classifier: str, flags: list[str], message: str, hint: str
) -> None:
    (folder / "bad.json").write_text("{")
    (folder / "number.json").write_text("3")
    result = lamella("run", classifier, *flags)
    assert (result.status, result.out) == (2, "")
    lines = result.err.splitlines()
    assert lines[0].startswith(f"error: {message}")
    assert lines[1].startswith(f"hint: {hint}")


def test_a_process_of_its_own_answers(process: Process, classifier: str) -> None:
    result = process("run", classifier, "--task", "image-classification", "--input", "a.jpg", "--json")
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout)["answers"][0]["input"] == "a.jpg"
