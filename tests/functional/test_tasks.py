"""Tasks over real models: in slices, on slow paths, and beside the files that came with the model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests import task_models as made

import lamella
from lamella.errors import ItemError, UsageError
from lamella.tasks import TaskChoice, answer, open_task
from lamella.tensors import Array, Tensors, TensorSpec

pytest_plugins = ["lamella.testing"]

SENTENCES = [
    "Penicillin was discovered when mould killed bacteria in a forgotten dish.",
    "Bread rises because yeast gives off carbon dioxide.",
    "Interest rates were raised to slow down inflation.",
]
QUESTIONS = [("How was the first antibiotic found?", 0), ("Why does dough get bigger before baking?", 1)]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as ONNX, with the files that came with it beside it."""
    folder = tmp_path_factory.mktemp("minilm") / "model"
    shutil.copytree(made.minilm_folder(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return lamella.convert(made.minilm_folder(), folder / "minilm.onnx").path


def test_sentences_find_what_is_near_in_meaning(minilm: Path) -> None:
    with lamella.Pipeline(minilm, task="feature-extraction") as pipeline:
        vectors = [np.array(found["embedding"]) for found in pipeline.answer([*SENTENCES, *(q for q, _ in QUESTIONS)])]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5))
    for (_, wanted), vector in zip(QUESTIONS, vectors[3:], strict=True):
        assert int(np.argmax(vectors[:3] @ vector)) == wanted


def test_pooling_outside_of_the_model_is_the_pooling_in_it(minilm: Path) -> None:
    """The converter puts sentence-transformers' pooling into the graph, verified; the task's own must equal it."""
    of_tokens = TaskChoice("feature-extraction", settings={"output": "last_hidden_state"})
    with (
        lamella.Pipeline(minilm, task="feature-extraction") as inside,
        lamella.Pipeline(minilm, task=of_tokens) as outside,
    ):
        wanted, found = (
            np.array([a["embedding"] for a in pipeline.answer(SENTENCES)]) for pipeline in (inside, outside)
        )
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_slices_find_the_files_beside_the_model(minilm: Path) -> None:
    sliced = lamella.slice(lamella.load(minilm), minilm.parent / "minilm.slices", slices=3)
    with lamella.Pipeline(minilm, task="feature-extraction") as pipeline:
        wanted = np.array([a["embedding"] for a in pipeline.answer(SENTENCES)])
    for source in (sliced, sliced.directory, str(sliced.directory), sliced.plan.model):
        with lamella.Pipeline(source, low_memory=True, task="feature-extraction") as pipeline:
            found = np.array([a["embedding"] for a in pipeline.answer(SENTENCES)])
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_reader_answers_as_torch_does(tmp_path: Path) -> None:
    """A small BERT with random weights: its own logits, from transformers, through the task's answers."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, initializer_range=0.5
    )
    reader = BertForQuestionAnswering(config).eval()
    reader.save_pretrained(tmp_path / "reader")
    made.tokenizer_beside(tmp_path / "reader")
    converted = lamella.convert(tmp_path / "reader", tmp_path / "reader" / "model.onnx")
    items = [{"question": f"What is number {i}?", "context": context} for i, context in enumerate(made.CONTEXTS)]
    choice = TaskChoice("question-answering", settings={"max_tokens": 64, "doc_stride": 24})

    def by_torch(inputs: Tensors) -> dict[str, Array]:
        with torch.no_grad():
            found = reader(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: getattr(found, name).numpy() for name in ("start_logits", "end_logits")}

    with lamella.Pipeline(converted.path, task=choice) as pipeline:
        found = pipeline.answer(items)
        own = open_task(
            choice.name, pipeline.inputs, pipeline.outputs, folder=tmp_path / "reader", settings=choice.settings
        )
    wanted = answer(own, by_torch, items)
    assert [(a["answer"], a["start"], a["end"]) for a in found] == [(a["answer"], a["start"], a["end"]) for a in wanted]
    assert [a["score"] for a in found] == pytest.approx([a["score"] for a in wanted], rel=1e-3)
    assert all(a["answer"] for a in found)


def test_a_classifier_answers_as_transformers_pipeline_does(tmp_path: Path) -> None:
    """A small ViT with random weights, the same logits: `pipeline("image-classification")`, and the task."""
    torch = pytest.importorskip("torch")
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, pipeline

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        initializer_range=0.5,
        num_labels=9,
    )
    model = ViTForImageClassification(config).eval()
    processor = ViTImageProcessorPil(size={"height": 64, "width": 64})
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)

    def by_torch(inputs: Tensors) -> dict[str, Array]:
        with torch.no_grad():
            return {"logits": model(torch.from_numpy(inputs["pixel_values"])).logits.numpy()}

    (tmp_path / "cat.jpg").write_bytes(made.encoded(made.picture(120, 90), "JPEG"))
    reference = pipeline("image-classification", model=model, image_processor=processor)
    wanted = reference(Image.open(tmp_path / "cat.jpg"), top_k=4)
    inputs = [TensorSpec("pixel_values", "FP32", ("batch", 3, 64, 64))]
    task = open_task("image-classification", inputs, [TensorSpec("logits", "FP32", None)], folder=tmp_path)
    (found,) = answer(task, by_torch, [(tmp_path / "cat.jpg").read_bytes()])
    assert [one["label"] for one in found["classes"]][:4] == [one["label"] for one in wanted]
    assert [one["score"] for one in found["classes"]][:4] == pytest.approx([one["score"] for one in wanted], rel=1e-5)


def test_a_pipeline_without_a_task_says_so(tmp_path: Path) -> None:
    with (
        lamella.Pipeline(made.classifier(tmp_path / "model.onnx")) as pipeline,
        pytest.raises(UsageError, match="this pipeline has no task"),
    ):
        pipeline.answer([b""])


def test_one_pipeline_answers_several_threads(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    images = [made.png(made.picture(40 + i, 50, seed=i)) for i in range(12)]
    with lamella.Pipeline(made.classifier(tmp_path / "model.onnx"), task="image-classification") as pipeline:
        wanted = [pipeline.answer([image]) for image in images]
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda image: pipeline.answer([image]), images)) == wanted
        with pytest.raises(ItemError, match="item 1 is no image"):
            pipeline.answer([images[0], b"x"])


def test_functions_answer_as_this_process_does(
    lamella_endpoint: Callable[..., lamella.Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over slices deployed on this machine: the task is here, the model there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = made.reader(made.tokenizer_beside(tmp_path) / "model.onnx")
    items = [{"question": "How tall is it?", "context": context} for context in made.CONTEXTS]
    choice = TaskChoice("question-answering", settings={"max_tokens": 48, "doc_stride": 16})
    with lamella.Pipeline(model, task=choice) as pipeline:
        wanted = pipeline.answer(items)
    endpoint = lamella_endpoint(lamella.slice(lamella.load(model), tmp_path / "model.slices", slices=2))
    task = open_task(choice.name, endpoint.inputs, endpoint.outputs, folder=tmp_path, settings=choice.settings)
    assert answer(task, endpoint.infer, items) == wanted
