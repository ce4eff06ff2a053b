"""What a model file takes and gives, read from the file itself: not every engine says it.

Read are ONNX models, TensorFlow's frozen graphs (graph.proto) with OpenCV's text graphs, and Caffe's networks
(caffe.proto). Files are mapped, and weights stepped over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lamella.engines.protobuf import Text, integers, message, messages, parse_text, text
from lamella.errors import EngineError
from lamella.tensors import DATATYPES, Dimension, TensorSpec

_BY_ONNX = {kind.onnx: kind.name for kind in DATATYPES}
_NO_TENSOR = "a sequence, map or optional"
# tensorflow/core/framework/types.proto
_BY_TENSORFLOW = {1: "FP32", 2: "FP32", 3: "INT32", 4: "FP32", 9: "INT64", 10: "BOOL", 19: "FP32"}
_TENSORFLOW_TYPES = {"DT_STRING": 7, "DT_INT32": 3, "DT_INT64": 9, "DT_BOOL": 10}

Specs = tuple[TensorSpec, ...]


@contextmanager
def opened(model: Path | bytes, kind: str) -> Iterator[memoryview]:
    """The content of a model's file.

    Raises:
        EngineError: It cannot be read, or what is done with it shows that it is damaged.
    """
    name = f"`{model}`" if isinstance(model, Path) else "the model"
    hint = f"give a whole {kind}: export or download it again"
    try:
        if isinstance(model, bytes):
            yield memoryview(model)
            return
        if model.stat().st_size == 0:
            raise ValueError("it is empty")
        with model.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        yield memoryview(content)  # which goes with the last view of it
    except OSError as error:
        raise EngineError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}", hint=hint) from error
    except ValueError as error:  # UnicodeDecodeError is one
        raise EngineError(f"{name} is no {kind}: {error}", hint=hint) from error


def onnx_specs(model: Path | bytes) -> tuple[Specs, Specs]:
    """Inputs and outputs of an ONNX model; initializers that are declared as inputs, too, are none.

    Raises:
        EngineError: It is no ONNX model, or cannot be read.
    """
    with opened(model, "ONNX model") as data:
        graph = message(data, 7)
        outputs = tuple(_onnx_spec(value) for value in messages(graph, 12))
        if not outputs:
            raise ValueError("it has no outputs")
        weights = {text(tensor, 8) for tensor in messages(graph, 5)}
        weights.update(text(message(tensor, 1), 8) for tensor in messages(graph, 15))
        inputs = (_onnx_spec(value) for value in messages(graph, 11))
        return tuple(spec for spec in inputs if spec.name not in weights), outputs


def _onnx_spec(value: memoryview) -> TensorSpec:
    tensor = message(message(value, 2), 1)
    kind = next(integers(tensor, 1), 0)
    shapes = [tuple(_onnx_dimension(size) for size in messages(shape, 1)) for shape in messages(tensor, 2)]
    return TensorSpec(text(value, 1), _BY_ONNX.get(kind, _NO_TENSOR), shapes[-1] if shapes else None)


def _onnx_dimension(dimension: memoryview) -> Dimension:
    return next(integers(dimension, 1), None) or text(dimension, 2) or next(integers(dimension, 1), None)


@dataclass(frozen=True)
class TensorFlowHeader:
    """What a frozen graph takes.

    Attributes:
        inputs: Its placeholders; of FP32 also where the graph has other floats or bytes, as OpenCV computes.
        channels_last: Whether its images have their channels behind, as TensorFlow's usually have.
    """

    inputs: Specs
    channels_last: bool


def tensorflow_header(graph: Path, config: Path | None) -> TensorFlowHeader:
    """Placeholders of a frozen graph, or of the text graph `config` that OpenCV runs with its weights.

    Raises:
        EngineError: It is no frozen graph, or cannot be read.
    """
    if config is None:
        with opened(graph, "frozen TensorFlow graph") as data:
            nodes = [_binary_node(node) for node in messages(data, 1)]
    else:
        with opened(config, "text graph") as data:
            nodes = [_text_node(node) for node in parse_text(str(data, "utf-8")).parts.get("node", ())]
    inputs = tuple(node.spec for node in nodes if node.op == "Placeholder")
    return TensorFlowHeader(inputs, any(node.layout == "NHWC" for node in nodes))


@dataclass(frozen=True)
class _Node:
    """A node of a TensorFlow graph: its shape and datatype are those of a placeholder."""

    op: str
    layout: str
    spec: TensorSpec


def _binary_node(node: memoryview) -> _Node:
    attributes = {text(entry, 1): message(entry, 2) for entry in messages(node, 5)}
    nothing = memoryview(b"")
    shapes = list(messages(attributes.get("shape", nothing), 7))
    unknown = not shapes or any(integers(shapes[-1], 3))
    sizes = None if unknown else [next(integers(size, 1), 0) for size in messages(shapes[-1], 2)]
    kind = next(integers(attributes.get("dtype", nothing), 6), 1)
    return _node(text(node, 1), text(node, 2), text(attributes.get("data_format", nothing), 2), kind, sizes)


def _text_node(node: Text) -> _Node:
    attributes = {entry.value("key"): entry.part("value") for entry in node.parts.get("attr", ())}
    shape = attributes.get("shape", Text()).parts.get("shape")
    sizes = None if shape is None else [int(size.value("size") or 0) for size in shape[-1].parts.get("dim", ())]
    kind = _TENSORFLOW_TYPES.get(attributes.get("dtype", Text()).value("type"), 1)
    return _node(node.value("name"), node.value("op"), attributes.get("data_format", Text()).value("s"), kind, sizes)


def _node(name: str, op: str, layout: str, kind: int, sizes: list[int] | None) -> _Node:
    shape = None if sizes is None else tuple(None if size < 0 else size for size in sizes)
    return _Node(op, layout, TensorSpec(name, _BY_TENSORFLOW.get(kind, f"TensorFlow's type {kind}"), shape))


@dataclass(frozen=True)
class CaffeHeader:
    """What a Caffe network takes and gives.

    Attributes:
        inputs: Its input blobs.
        outputs: The blobs that no layer takes: each one's name, with the layer that gives it and its place there.
    """

    inputs: Specs
    outputs: tuple[tuple[str, str, int], ...]


def caffe_header(network: Path) -> CaffeHeader:
    """Input and output blobs of a network in Caffe's text form; layers for training alone are left out.

    Raises:
        EngineError: It is no network, or cannot be read.
    """
    with opened(network, "Caffe network in text form") as data:
        net = parse_text(str(data, "utf-8"))
        layers = [layer for key in ("layer", "layers") for layer in net.parts.get(key, ()) if not _for_training(layer)]
        if not layers:
            raise ValueError("it has no layers")
        inputs = {**_declared_inputs(net), **{name: shape for layer in layers for name, shape in _input_layer(layer)}}
        unused: dict[str, tuple[str, int]] = {}
        for layer in layers:
            for bottom in layer.values.get("bottom", ()):
                unused.pop(bottom, None)
            for place, top in enumerate(layer.values.get("top", ())):
                unused[top] = (layer.value("name"), place)
    specs = tuple(TensorSpec(name, "FP32", shape) for name, shape in inputs.items())
    return CaffeHeader(specs, tuple((blob, *where) for blob, where in unused.items() if blob not in inputs))


def _for_training(layer: Text) -> bool:
    phases = [rule.value("phase") for rule in layer.parts.get("include", ())]
    return "TRAIN" in phases and "TEST" not in phases


def _declared_inputs(net: Text) -> dict[str, tuple[int, ...] | None]:
    """Inputs in the network's head: with an `input_shape` each, or four `input_dim` each, as old ones have them."""
    names, sizes = net.values.get("input", []), [int(size) for size in net.values.get("input_dim", ())]
    shapes = [_sizes(shape) for shape in net.parts.get("input_shape", ())]
    shapes = shapes or [tuple(sizes[4 * index : 4 * index + 4]) for index in range(len(sizes) // 4)]
    return {name: shapes[index] if index < len(shapes) else None for index, name in enumerate(names)}


def _input_layer(layer: Text) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    if layer.value("type") != "Input":
        return
    shapes = [_sizes(shape) for shape in layer.part("input_param").parts.get("shape", ())]
    for index, name in enumerate(layer.values.get("top", ())):
        yield name, shapes[min(index, len(shapes) - 1)] if shapes else None


def _sizes(shape: Text) -> tuple[int, ...]:
    return tuple(int(size) for size in shape.values.get("dim", ()))
