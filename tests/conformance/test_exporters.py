"""Models as exporters write them today: transformers through torch, scikit-learn pipelines through skl2onnx."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import skl2onnx
import torch
import transformers
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tests.conformance.cases import Item, adapted
from tests.conformance.whole import run_whole, same

import lamella
from lamella.errors import PlanError
from lamella.slicing.differences import difference

TEXT = {"vocab_size": 99, "max_position_embeddings": 32}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def assert_slices_equal(path: Path, feeds: Mapping[str, Item], *, at_least: int) -> None:
    """Slices in 2, 4, 8 and the most equal the whole to the last bit; as run by default, within tolerance."""
    expected = run_whole(path, feeds)
    model = lamella.load(path)
    most = len(lamella.plan(model, slices="max").slices)
    assert most >= at_least
    for count in (2, 4, 8, most):
        directory = path.parent / f"{count}.slices"
        try:
            sliced = lamella.slice(model, directory, slices=count, inputs=feeds)
        except PlanError:
            assert count > most
            continue
        assert sliced.verification is not None
        assert sliced.verification.max_abs_diff == 0
        with lamella.Pipeline(directory, optimization="none", threads=1) as pipeline:
            actual = pipeline.infer(feeds)
        assert [name for name in expected if not same(expected[name], actual[name])] == []
    with lamella.Pipeline(path.parent / "2.slices") as pipeline:
        actual = pipeline.infer(feeds)
    assert [name for name in expected if not difference(name, expected[name], actual[name]).ok] == []


def assert_optimized_slices_equal(path: Path, feeds: Mapping[str, Item]) -> None:
    """Slices of the model that was optimised first equal that to the last bit, and the whole within tolerance."""
    directory = path.parent / "optimized.slices"
    sliced = lamella.slice(lamella.load(path), directory, slices=4, optimize_first=True, inputs=feeds)
    assert sliced.verification is not None
    assert sliced.verification.ok  # against the model as it was given
    assert lamella.verify(sliced.plan.model, directory, inputs=feeds).max_abs_diff == 0
    expected = run_whole(path, feeds)
    with lamella.Pipeline(directory) as pipeline:
        actual = pipeline.infer(feeds)
    assert [name for name in expected if not difference(name, expected[name], actual[name]).ok] == []


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    transformers.utils.logging.set_verbosity_error()


class OfText(torch.nn.Module):
    """A model with the signature that its export is to have, and a plain tuple as its answer."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)


class OfImages(torch.nn.Module):
    """The same for images."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.model(pixel_values=pixel_values, return_dict=False)


def text_inputs(batch: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, TEXT["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def image_inputs(batch: int, side: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))}


def distilbert() -> torch.nn.Module:
    config = transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, **TEXT)
    return transformers.DistilBertModel(config)


def bert() -> torch.nn.Module:
    return transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=3, **SMALL, **TEXT))


def gpt2() -> torch.nn.Module:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=32, vocab_size=99, use_cache=False)
    return transformers.GPT2LMHeadModel(config)


def llama() -> torch.nn.Module:
    config = transformers.LlamaConfig(num_key_value_heads=2, use_cache=False, **SMALL, **TEXT)
    return transformers.LlamaForCausalLM(config)


def vit() -> torch.nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(image_size=32, patch_size=8, **SMALL))


def resnet() -> torch.nn.Module:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 2], layer_type="basic")
    return transformers.ResNetForImageClassification(config)


@pytest.mark.parametrize("build", [distilbert, bert, gpt2, llama, vit, resnet])
def test_transformers_exported_by_torch(tmp_path: Path, build: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    image = build in (vit, resnet)
    batch = torch.export.Dim("batch")
    axes = {0: batch} if image else {0: batch, 1: torch.export.Dim("sequence")}
    inputs = image_inputs(2, 32) if image else text_inputs(2, 6)
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        (OfImages(model) if image else OfText(model)).eval(),
        (),
        path,
        kwargs=inputs,
        dynamo=True,
        dynamic_shapes=dict.fromkeys(inputs, axes),
        verbose=False,
    )
    others = image_inputs(3, 32) if image else text_inputs(1, 9)
    feeds = {name: tensor.numpy() for name, tensor in others.items()}
    assert_slices_equal(path, feeds, at_least=8)
    assert_optimized_slices_equal(path, feeds)


def table(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, words, and labels that depend on both."""
    generator = np.random.default_rng(0)
    numbers = generator.standard_normal((rows, 3)).astype(np.float32)
    words = generator.choice(["red", "green", "blue"], (rows, 1)).astype(object)
    labels = np.where((numbers[:, 0] > 0) ^ (words[:, 0] == "red"), "yes", "no")
    return numbers, words, labels


def test_random_forest_with_zipmap_and_string_labels(tmp_path: Path) -> None:
    numbers, _, labels = table(60)
    steps = [("scale", StandardScaler()), ("forest", RandomForestClassifier(4, max_depth=3, random_state=0))]
    fitted = Pipeline(steps).fit(numbers, labels)
    onnx.save(skl2onnx.to_onnx(fitted, numbers[:1]), tmp_path / "model.onnx")
    assert_slices_equal(tmp_path / "model.onnx", {"X": numbers[:7]}, at_least=2)


def test_string_columns_beside_numbers(tmp_path: Path) -> None:
    numbers, words, labels = table(60)
    columns = ColumnTransformer([("number", StandardScaler(), [0, 1, 2]), ("word", OneHotEncoder(), [3])])
    both = np.hstack([numbers.astype(object), words])
    fitted = Pipeline([("columns", columns), ("model", LogisticRegression())]).fit(both, labels)
    kinds = [("numbers", FloatTensorType([None, 3])), ("words", StringTensorType([None, 1]))]
    onnx.save(skl2onnx.convert_sklearn(fitted, initial_types=kinds), tmp_path / "model.onnx")
    assert_slices_equal(tmp_path / "model.onnx", {"numbers": numbers[:7], "words": words[:7]}, at_least=8)


def test_gradient_boosting(tmp_path: Path) -> None:
    numbers, _, _ = table(60)
    fitted = Pipeline(
        [("scale", StandardScaler()), ("boost", GradientBoostingRegressor(n_estimators=5, random_state=0))]
    ).fit(numbers, numbers.sum(axis=1))
    onnx.save(skl2onnx.to_onnx(fitted, numbers[:1]), tmp_path / "model.onnx")
    assert_slices_equal(tmp_path / "model.onnx", {"X": numbers[:7]}, at_least=2)


def test_words_of_sentences(tmp_path: Path) -> None:
    sentences = np.array(["the red car", "a blue boat", "the boat is red", "cars are blue"], object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skl2onnx, about token patterns that differ from scikit-learn's
        fitted = Pipeline([("words", TfidfVectorizer(token_pattern="[a-zA-Z]+")), ("model", LogisticRegression())]).fit(
            sentences, [0, 1, 0, 1]
        )
        kinds = [("sentences", StringTensorType([None, 1]))]
        model = skl2onnx.convert_sklearn(
            fitted, initial_types=kinds, options={LogisticRegression: {"zipmap": "columns"}}
        )
    path = tmp_path / "model.onnx"
    path.write_bytes(adapted(model))
    assert_slices_equal(path, {"sentences": sentences[:, None]}, at_least=8)
