"""What model files take and give, read from the files alone."""

from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests import models, nets

from lamella.engines.headers import caffe_header, onnx_specs, tensorflow_header
from lamella.engines.protobuf import parse_text
from lamella.errors import EngineError
from lamella.tensors import TensorSpec


def test_onnx_inputs_and_outputs_are_the_models_without_its_weights(tmp_path: Path) -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("indices", TensorProto.INT64, [1], [0]),
        [4],
    )
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["größe", 0, 3, None]),
        models.floats("w", [1]),
        models.floats("sparse", [4]),
        helper.make_tensor_value_info("any", TensorProto.INT64, None),
        helper.make_tensor_value_info("scalar", TensorProto.BOOL, []),
        helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph([], "g", inputs, [models.floats("y", [1])], [models.weight("w", 1)])
    graph.sparse_initializer.append(sparse)
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    takes = (
        TensorSpec("x", "BF16", ("größe", 0, 3, None)),
        TensorSpec("any", "INT64", None),
        TensorSpec("scalar", "BOOL", ()),
        TensorSpec("parts", "a sequence, map or optional", None),
    )
    for source in (path, path.read_bytes()):
        assert onnx_specs(source) == (takes, (TensorSpec("y", "FP32", (1,)),))


def test_weights_are_stepped_over(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(nets.KERNEL, "w")
    graph = helper.make_graph([], "g", [models.floats("x", [1])], [models.floats("y", [1])], [weight])
    path = tmp_path / "cut.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx_specs(path)[0] == (TensorSpec("x", "FP32", (1,)),)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EngineError, match=r"cut\.onnx` is no ONNX model: field 7 runs past its message"):
        onnx_specs(path)


@given(data=st.binary(max_size=64), at=st.integers(0, 400))
def test_damaged_models_are_refused_or_read_and_nothing_else(data: bytes, at: int) -> None:
    whole = onnx.helper.make_model(
        helper.make_graph([], "g", [models.floats("x", [1])], [models.floats("y", ["n"])], [models.weight("w", 2)])
    ).SerializeToString()
    damaged = whole[:at] + data + whole[at + len(data) :]
    try:
        inputs, outputs = onnx_specs(damaged)
    except EngineError as error:
        assert error.hint  # noqa: PT017 - either is right
    else:
        assert all(isinstance(spec, TensorSpec) for spec in (*inputs, *outputs))


def test_a_frozen_graphs_inputs_are_its_placeholders(tmp_path: Path) -> None:
    header = tensorflow_header(nets.tensorflow(tmp_path / "net.pb"), None)
    assert header.inputs == (TensorSpec("image", "FP32", (1, 8, 8, 3)),)
    assert header.channels_last


def test_a_text_graph_stands_for_the_frozen_one(tmp_path: Path) -> None:
    config = tmp_path / "net.pbtxt"
    config.write_text(
        """
        node { name: "image" op: "Placeholder"
          attr { key: "dtype" value { type: DT_UINT8 } }
          attr { key: "shape" value { shape { dim { size: -1 } dim { size: 9 } dim { size: 9 } dim { size: 3 } } } } }
        node { name: "ids" op: "Placeholder" attr { key: "dtype" value { type: DT_INT32 } } }
        node { name: "conv" op: "Conv2D" input: "image" attr { key: "data_format" value { s: "NCHW" } } }
        """
    )
    header = tensorflow_header(tmp_path / "none.pb", config)
    assert header.inputs == (TensorSpec("image", "FP32", (None, 9, 9, 3)), TensorSpec("ids", "INT32", None))
    assert not header.channels_last


def test_a_networks_inputs_and_outputs_are_its_blobs(tmp_path: Path) -> None:
    header = caffe_header(nets.caffe(tmp_path / "net.prototxt"))
    assert header.inputs == (TensorSpec("image", "FP32", (1, 3, 8, 8)),)
    assert header.outputs == (("scores", "last", 0),)


@pytest.mark.parametrize(
    "head",
    [
        'input: "data" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 4',
        'input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }',
        'input: "data" input_shape < dim: [1, 3, 4, 4] >',
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }',
    ],
)
def test_networks_of_all_ages_declare_their_inputs(head: str, tmp_path: Path) -> None:
    """Layers for training alone, and in-place ones, and those with several blobs, are what they are."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        head
        + """
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "parts" top: "loss" include { phase: TRAIN } }
        layers { name: "relu" type: RELU bottom: "data" top: "data" }
        layers { name: "slice" type: SLICE bottom: "data" top: "first" top: "second" }
        layers { name: "drop" type: DROPOUT bottom: "first" top: "first" }
        """
    )
    header = caffe_header(path)
    assert header.inputs == (TensorSpec("data", "FP32", (1, 3, 4, 4)),)
    assert header.outputs == (("second", "slice", 1), ("first", "drop", 0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("name: 'net'", "it has no layers"),
        ("layer {", "in the middle of a message"),
        ("layer }", "closes nothing"),
        ("}", "closes nothing"),
        ("{ }", "has no name"),
        ('layer { name: "x', "begins nothing"),
        ("layer {" * 200, "lies too deep"),
        ("name:", "in the middle of a message"),
        ("\udcff", "utf-8"),
    ],
)
def test_what_is_no_network_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(EngineError, match=reason) as caught:
        caffe_header(path)
    assert caught.value.hint


def test_text_form_has_comments_escapes_lists_and_separators() -> None:
    parsed = parse_text("a: 'it\\'s' # b: 1\n c: [1, 2.5e-3]; d <e: \"\\101\">, a: TRUE")
    assert parsed.values == {"a": ["it's", "TRUE"], "c": ["1", "2.5e-3"]}
    assert parsed.part("d").value("e") == "A"


@given(st.text(max_size=60))
def test_text_is_parsed_or_refused(source: str) -> None:
    try:
        parse_text(source)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right
