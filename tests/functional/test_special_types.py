"""Every type and domain that ONNX has beyond plain tensors, each in a small real model: slices equal the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime_extensions
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.functional.special_models import LARGE, assert_slices_equal, floats, saved, tensor, weight

import lamella


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model" / "model.onnx"


def test_qdq_model_repeats_the_dequantised_weight_in_each_slice(path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        helper.make_node("MatMul", ["x", "wf"], ["h"]),
        helper.make_node("QuantizeLinear", ["h", "s", "z"], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", "s", "z"], ["hf"]),
        helper.make_node("MatMul", ["hf", "wf"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.random.default_rng(4).integers(-127, 127, (LARGE * 2, LARGE * 2), np.int8), "w"),
        *(numpy_helper.from_array(np.float32(v), n) for n, v in (("ws", 0.02), ("s", 0.1))),
        numpy_helper.from_array(np.int8(0), "wz"),
        numpy_helper.from_array(np.uint8(128), "z"),
    ]
    saved(path, nodes, [tensor("x", shape=["n", LARGE * 2])], [tensor("y")], weights)
    assert_slices_equal(path, {"x": floats(3, LARGE * 2)}, at_least=4)
    plan = lamella.plan(lamella.load(path), slices="max")
    assert [0 in part.nodes for part in plan.slices] == [True, False, False, True]


def test_qoperator_model(path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "s", "wz", "s2", "z"], ["q2"]),
        helper.make_node("QLinearMatMul", ["q2", "s2", "z", "w", "s", "wz", "s3", "z"], ["q3"]),
        helper.make_node("DequantizeLinear", ["q3", "s3", "z"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.random.default_rng(5).integers(-9, 9, (LARGE * 2, LARGE * 2), np.int8), "w"),
        *(numpy_helper.from_array(np.float32(v), n) for n, v in (("s", 0.05), ("s2", 0.2), ("s3", 0.7))),
        numpy_helper.from_array(np.uint8(120), "z"),
        numpy_helper.from_array(np.int8(0), "wz"),
    ]
    saved(path, nodes, [tensor("x", shape=["n", LARGE * 2])], [tensor("y")], weights)
    assert_slices_equal(path, {"x": floats(3, LARGE * 2)}, at_least=4)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT16", "UINT16"])
def test_quantised_value_of_any_type_crosses_a_cut_and_is_an_output(path: Path, kind: str) -> None:
    number = TensorProto.DataType.Value(kind)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s"], ["q"], output_dtype=number),
        helper.make_node("DequantizeLinear", ["q", "s"], ["f"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["wf"]),
        helper.make_node("Add", ["f", "wf"], ["y"]),
    ]
    quantised = floats(63, 33).astype(helper.tensor_dtype_to_np_dtype(number))
    weights = [numpy_helper.from_array(quantised, "w"), numpy_helper.from_array(np.float32(0.25), "s")]
    outputs = [tensor("y"), tensor("q", number)]
    saved(path, nodes, [tensor("x", shape=[63, 33])], outputs, weights)
    assert_slices_equal(path, {"x": floats(63, 33)}, at_least=4)


def test_int4_input_of_odd_size_is_packed_as_onnx_packs(path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["f"]),
        helper.make_node("Relu", ["f"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0.5), "s")]
    saved(path, nodes, [tensor("q", TensorProto.INT4, [5])], [tensor("y")], weights)
    q = np.array([-8, 7, 3, -1, 5], helper.tensor_dtype_to_np_dtype(TensorProto.INT4))
    found = assert_slices_equal(path, {"q": q})
    assert np.array_equal(found["y"], np.array([0, 3.5, 1.5, 0, 2.5], np.float32))


def test_bf16_comes_in_crosses_a_cut_and_goes_out(path: Path) -> None:
    kind = TensorProto.BFLOAT16
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["p"]),
        helper.make_node("Cast", ["p"], ["b"], to=kind),
        helper.make_node("Identity", ["b"], ["y"]),
    ]
    saved(path, nodes, [tensor("x", kind, ["n", LARGE])], [tensor("y", kind)], [weight("w", LARGE, LARGE)])
    x = floats(3, LARGE).astype(helper.tensor_dtype_to_np_dtype(kind))
    assert_slices_equal(path, {"x": x}, at_least=4)


def test_strings_come_in_cross_a_cut_and_go_out(path: Path) -> None:
    encoder = {"keys_strings": ["cat", "dog"], "values_strings": ["chat", "chien"], "default_string": "?"}
    back = {"keys_strings": ["chat", "chien"], "values_int64s": [1, 2], "default_int64": 0}
    nodes = [
        helper.make_node("StringNormalizer", ["words"], ["low"], case_change_action="LOWER", locale="C"),
        helper.make_node("LabelEncoder", ["low"], ["french"], domain="ai.onnx.ml", **encoder),
        helper.make_node("LabelEncoder", ["french"], ["number"], domain="ai.onnx.ml", **back),
        helper.make_node("Gather", ["table", "number"], ["y"]),
    ]
    table = helper.make_tensor("table", TensorProto.STRING, [3], [b"none", "häufig".encode(), b"x" * 2000])
    outputs = [tensor("y", TensorProto.STRING), tensor("french", TensorProto.STRING)]
    saved(path, nodes, [tensor("words", TensorProto.STRING, ["n"])], outputs, [table], domains={"ai.onnx.ml": 4})
    found = assert_slices_equal(path, {"words": np.array(["Cat", "DOG", "cow"], object)}, at_least=4)
    assert list(found["french"]) == ["chat", "chien", "?"]


def test_sequences_are_never_cut_and_may_be_inputs_and_outputs(path: Path) -> None:
    kind = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("SequenceAt", ["s", "zero"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("SplitToSequence", ["b", "one"], ["parts"], axis=0),
        helper.make_node("SequenceInsert", ["parts", "a"], ["more"]),
        helper.make_node("ConcatFromSequence", ["more"], ["y"], axis=0),
        helper.make_node("Neg", ["y"], ["z"]),
    ]
    weights = [numpy_helper.from_array(np.int64(v), n) for n, v in (("zero", 0), ("one", 1))]
    outputs = [tensor("z"), helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)]
    saved(path, nodes, [kind], outputs, weights)
    found = assert_slices_equal(path, {"s": [floats(4, 2), floats(1)]}, at_least=4)
    assert len(found["parts"]) == 4
    assert len(lamella.plan(lamella.load(path), slices="max").slices) == 4


@pytest.mark.parametrize("given", [True, False])
def test_optional_inputs_given_or_not(path: Path, given: bool) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [4]))
    get = helper.make_graph([helper.make_node("OptionalGetElement", ["o"], ["g"])], "get", [], [tensor("g")])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "other", [], [tensor("n")])
    nodes = [
        helper.make_node("OptionalHasElement", ["o"], ["has"]),
        helper.make_node("If", ["has"], ["y"], then_branch=get, else_branch=other),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    saved(path, nodes, [helper.make_value_info("o", kind), tensor("x", shape=[4])], [tensor("z")])
    assert_slices_equal(path, {"o": floats(4) if given else None, "x": -floats(4)}, at_least=2)


def test_optional_made_inside_is_never_cut(path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Optional", ["r"], ["o"]),
        helper.make_node("OptionalGetElement", ["o"], ["g"]),
        helper.make_node("Neg", ["g"], ["y"]),
    ]
    saved(path, nodes, [tensor("x", shape=[4])], [tensor("y", shape=[4])])
    assert_slices_equal(path, {"x": floats(4)}, at_least=3)
    assert len(lamella.plan(lamella.load(path), slices="max").slices) == 3


def test_tree_ensemble_and_zipmap_of_ai_onnx_ml(path: Path) -> None:
    tree = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [1, 0, 0],
        "nodes_values": [0.3, 0.0, 0.0],
        "nodes_hitrates": [1.0, 1.0, 1.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "nodes_missing_value_tracks_true": [0, 0, 0],
        "class_treeids": [0, 0, 0, 0],
        "class_nodeids": [1, 1, 2, 2],
        "class_ids": [0, 1, 0, 1],
        "class_weights": [0.9, 0.1, 0.2, 0.8],
        "classlabels_strings": ["no", "yes"],
        "post_transform": "NONE",
    }
    ml = "ai.onnx.ml"
    nodes = [
        helper.make_node("Scaler", ["x"], ["scaled"], domain=ml, offset=[0.1, 0.2], scale=[2.0, 3.0]),
        helper.make_node("TreeEnsembleClassifier", ["scaled"], ["label", "p"], domain=ml, **tree),
        helper.make_node("Normalizer", ["p"], ["q"], domain=ml, norm="L1"),
        helper.make_node("ZipMap", ["q"], ["scores"], domain=ml, classlabels_strings=["no", "yes"]),
    ]
    entry = onnx.TypeProto()
    entry.sequence_type.elem_type.map_type.key_type = TensorProto.STRING
    entry.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    outputs = [tensor("label", TensorProto.STRING), helper.make_value_info("scores", entry)]
    saved(path, nodes, [tensor("x", shape=["n", 2])], outputs, domains={ml: 1})
    found = assert_slices_equal(path, {"x": floats(6, 2)}, at_least=4)
    assert set(found["scores"][0]) == {"no", "yes"}


def test_contrib_operators_whose_types_onnx_does_not_know(path: Path) -> None:
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["h"], domain="com.microsoft", alpha=0.5),
        helper.make_node("BiasGelu", ["h", "b"], ["g"], domain="com.microsoft"),
        helper.make_node("QuickGelu", ["g"], ["y"], domain="com.microsoft"),
    ]
    weights = [weight("w", LARGE, LARGE), weight("b", LARGE)]
    saved(path, nodes, [tensor("x", shape=["n", LARGE])], [tensor("y")], weights, domains={"com.microsoft": 1})
    assert_slices_equal(path, {"x": floats(3, LARGE)}, at_least=3)


def test_custom_operators_from_a_library(path: Path) -> None:
    library = onnxruntime_extensions.get_library_path()
    nodes = [
        helper.make_node("StringUpper", ["words"], ["upper"], domain="ai.onnx.contrib"),
        helper.make_node("StringLength", ["upper"], ["length"], domain="ai.onnx.contrib"),
        helper.make_node("Mul", ["length", "length"], ["y"]),
    ]
    words = tensor("words", TensorProto.STRING, ["n"])
    saved(path, nodes, [words], [tensor("y", TensorProto.INT64, ["n"])], domains={"ai.onnx.contrib": 1})
    feeds = {"words": np.array(["one", "three", ""], object)}
    assert_slices_equal(path, feeds, at_least=2, custom_ops=[library])
