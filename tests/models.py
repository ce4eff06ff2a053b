"""Small real models that several suites use. Each builder writes a file and returns its path."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lamella.tensors import DATATYPES, datatype

OPSET = 17
IR_VERSION = 8


def save(path: Path, graph: onnx.GraphProto, opset_imports: dict[str, int] | None = None) -> Path:
    """Check a graph and write it as a model."""
    imports = [helper.make_opsetid(domain, version) for domain, version in (opset_imports or {"": OPSET}).items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="tests")
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    """A small random FP32 initializer."""
    values = np.random.default_rng([seed, *name.encode()]).standard_normal(shape) / np.sqrt(max(1, shape[0]))
    return numpy_helper.from_array(values.astype(np.float32), name)


def floats(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """An FP32 value."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def mlp(path: Path, *, layers: int = 4, width: int = 32) -> Path:
    """`x` FP32[batch, width] through `layers` of MatMul, Add, Relu to `y`: three nodes a layer."""
    nodes, weights, current = [], [], "x"
    for index in range(layers):
        product, shifted = f"product{index}", f"sum{index}"
        following = "y" if index == layers - 1 else f"hidden{index}"
        nodes += [
            helper.make_node("MatMul", [current, f"w{index}"], [product], f"matmul{index}"),
            helper.make_node("Add", [product, f"b{index}"], [shifted], f"add{index}"),
            helper.make_node("Relu", [shifted], [following], f"relu{index}"),
        ]
        weights += [weight(f"w{index}", width, width), weight(f"b{index}", width)]
        current = following
    shape = ["batch", width]
    return save(path, helper.make_graph(nodes, "mlp", [floats("x", shape)], [floats("y", shape)], weights))


def residual_conv(path: Path, *, channels: int = 4) -> Path:
    """`image` FP32[1, channels, 8, 8] through two convolutions with a skip around them, pooled into `features`."""
    nodes = [
        helper.make_node("Conv", ["image", "k0", "c0"], ["conv0"], "conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv0"], ["relu0"], "relu0"),
        helper.make_node("Conv", ["relu0", "k1"], ["conv1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["conv1", "image"], ["added"], "skip"),
        helper.make_node("Relu", ["added"], ["relu1"], "relu1"),
        helper.make_node("GlobalAveragePool", ["relu1"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
    ]
    weights = [
        weight("k0", channels, channels, 3, 3),
        weight("c0", channels),
        weight("k1", channels, channels, 3, 3),
    ]
    inputs, outputs = [floats("image", [1, channels, 8, 8])], [floats("features", [1, channels])]
    return save(path, helper.make_graph(nodes, "residual", inputs, outputs, weights))


def conditional(path: Path, *, width: int = 16) -> Path:
    """An If whose branches capture an outer activation and an outer weight; the mean of the input decides."""
    then_branch = helper.make_graph(
        [
            helper.make_node("MatMul", ["hidden", "w1"], ["then_product"]),
            helper.make_node("Add", ["then_product", "x"], ["then_out"]),
        ],
        "then",
        [],
        [floats("then_out", ["batch", width])],
    )
    else_branch = helper.make_graph(
        [helper.make_node("Neg", ["hidden"], ["else_out"])], "else", [], [floats("else_out", ["batch", width])]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["product"], "first"),
        helper.make_node("Tanh", ["product"], ["hidden"], "tanh"),
        helper.make_node("ReduceMean", ["x"], ["mean"], "mean", keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"], "greater"),
        helper.make_node("If", ["positive"], ["chosen"], "choice", then_branch=then_branch, else_branch=else_branch),
        helper.make_node("Relu", ["chosen"], ["y"], "last"),
    ]
    zero = numpy_helper.from_array(np.float32(0), "zero")
    weights = [weight("w0", width, width), weight("w1", width, width), zero]
    shape = ["batch", width]
    return save(path, helper.make_graph(nodes, "conditional", [floats("x", shape)], [floats("y", shape)], weights))


def strings(path: Path) -> Path:
    """`words` BYTES[n] turned into labels, and back into numbers: strings go in, come out and cross cuts."""
    to_number = {"keys_strings": ["cat", "dog"], "values_int64s": [1, 2], "default_int64": 0}
    to_word = {"keys_int64s": [0, 1, 2], "values_strings": ["unknown", "feline", "canine"], "default_string": "?"}
    nodes = [
        helper.make_node("LabelEncoder", ["words"], ["numbers"], "number", domain="ai.onnx.ml", **to_number),
        helper.make_node("LabelEncoder", ["numbers"], ["labels"], "label", domain="ai.onnx.ml", **to_word),
        helper.make_node("Identity", ["labels"], ["names"], "names"),
        helper.make_node("Mul", ["numbers", "numbers"], ["squares"], "square"),
    ]
    inputs = [helper.make_tensor_value_info("words", TensorProto.STRING, ["n"])]
    outputs = [
        helper.make_tensor_value_info("names", TensorProto.STRING, ["n"]),
        helper.make_tensor_value_info("squares", TensorProto.INT64, ["n"]),
    ]
    return save(path, helper.make_graph(nodes, "strings", inputs, outputs), {"": OPSET, "ai.onnx.ml": 2})


def lookup(path: Path, *, rows: int = 50, width: int = 8) -> Path:
    """`ids` INT64[batch, sequence] into an embedding, masked by `mask` FP32[batch, sequence], summed to `y`."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"], "gather"),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["wide"], "unsqueeze"),
        helper.make_node("Mul", ["embedded", "wide"], ["masked"], "mul"),
        helper.make_node("ReduceSum", ["masked", "middle_axis"], ["y"], "sum", keepdims=0),
    ]
    axes = [numpy_helper.from_array(np.array([axis]), name) for name, axis in (("last_axis", -1), ("middle_axis", 1))]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"]),
        floats("mask", ["batch", "sequence"]),
    ]
    outputs, weights = [floats("y", ["batch", width])], [weight("table", rows, width), *axes]
    return save(path, helper.make_graph(nodes, "lookup", inputs, outputs, weights))


def sequence(path: Path) -> Path:
    """A sequence of tensors and a scalar come out."""
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["parts"], "split", axis=1),
        helper.make_node("ReduceMax", ["x"], ["largest"], "max", keepdims=0),
    ]
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    outputs = [helper.make_value_info("parts", kind), floats("largest", [])]
    return save(path, helper.make_graph(nodes, "sequence", [floats("x", [2, 3])], outputs))


def identities(path: Path, *, text: bool = False) -> Path:
    """For each datatype of the Open Inference Protocol `in_fp32` [batch, n] and so on, given back as `out_fp32`.

    Numbers, or text: ONNX Runtime gives no BF16 where it gives text.
    """
    protocol = [
        kind for kind in DATATYPES if kind.onnx <= datatype("BF16").onnx and not kind.name.startswith("COMPLEX")
    ]
    values = [(kind.name.lower(), kind.onnx) for kind in protocol if (kind.name == "BYTES") == text]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"], name) for name, _ in values]
    inputs, outputs = (
        [helper.make_tensor_value_info(f"{side}_{name}", onnx_type, ["batch", "n"]) for name, onnx_type in values]
        for side in ("in", "out")
    )
    return save(path, helper.make_graph(nodes, "identities", inputs, outputs))
