"""What every engine does, whichever library is behind it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import models

from lamella.engines.base import Engine, EngineOptions, Initializer, Optimization, Session
from lamella.engines.onnxruntime import OnnxRuntimeEngine
from lamella.errors import EngineError, InputError
from lamella.tensors import TensorSpec, datatype

ENGINES: dict[str, Callable[[], Engine]] = {"onnxruntime": OnnxRuntimeEngine}
X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()


@pytest.fixture
def mlp(engine: Engine, tmp_path: Path) -> Iterator[Session]:
    session = engine.load(models.mlp(tmp_path / "mlp.onnx"), EngineOptions())
    yield session
    session.close()


def answer(engine: Engine, session: Session, **feeds: object) -> dict[str, np.ndarray]:
    return {name: engine.to_array(item) for name, item in session.infer(feeds).items()}


def test_specs_say_what_the_model_takes_and_gives(mlp: Session) -> None:
    assert list(mlp.inputs) == [TensorSpec("x", "FP32", ("batch", 32))]
    assert list(mlp.outputs) == [TensorSpec("y", "FP32", ("batch", 32))]


def test_one_request_does_not_change_another(engine: Engine, mlp: Session) -> None:
    first = answer(engine, mlp, x=X)["y"]
    kept = first.copy()
    answer(engine, mlp, x=-X)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(answer(engine, mlp, x=X)["y"], kept)


def test_a_file_and_bytes_with_their_weights_in_a_folder_are_the_same_model(engine: Engine, tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    proto = onnx.load(path)
    onnx.save(proto, tmp_path / "apart.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    found = []
    for model, folder in ((path, None), ((tmp_path / "apart.onnx").read_bytes(), tmp_path)):
        session = engine.load(model, EngineOptions(), folder=folder)
        found.append(answer(engine, session, x=X)["y"])
        session.close()
    np.testing.assert_array_equal(*found)


def test_items_of_one_session_feed_another(engine: Engine, mlp: Session, tmp_path: Path) -> None:
    image = engine.load(models.mlp(tmp_path / "second.onnx", layers=1), EngineOptions())
    direct = image.infer({"x": mlp.infer({"x": X})["y"]})
    through_arrays = image.infer({"x": answer(engine, mlp, x=X)["y"]})
    np.testing.assert_array_equal(engine.to_array(direct["y"]), engine.to_array(through_arrays["y"]))


@pytest.mark.parametrize("words", [["cat", "dog"], ["größe", ""], []])
def test_text_goes_in_and_out(engine: Engine, words: list[str], tmp_path: Path) -> None:
    session = engine.load(models.strings(tmp_path / "strings.onnx"), EngineOptions())
    names = {"cat": "feline", "dog": "canine"}
    assert session.inputs[0] == TensorSpec("words", "BYTES", ("n",))
    for dtype in (object, np.str_):
        found = answer(engine, session, words=np.array(words, dtype))
        assert found["names"].tolist() == [names.get(word, "unknown") for word in words]


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (TensorProto.FLOAT, np.float32),
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        (TensorProto.INT64, np.int64),
        (TensorProto.UINT8, np.uint8),
        (TensorProto.BOOL, np.bool_),
    ],
)
@pytest.mark.parametrize("shape", [(3,), (), (0, 2)])
def test_every_datatype_keeps_its_bits(
    engine: Engine, number: int, dtype: type, shape: tuple[int, ...], tmp_path: Path
) -> None:
    values = [helper.make_tensor_value_info(name, number, [None] * len(shape)) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", values[:1], values[1:])
    session = engine.load(models.save(tmp_path / "same.onnx", graph, {"": 21}), EngineOptions())
    given = np.ones(shape, np.int8).astype(dtype)
    found = answer(engine, session, x=given)["y"]
    assert found.dtype == given.dtype
    assert found.shape == shape
    assert found.tobytes() == given.tobytes()


def test_transposed_and_big_endian_arrays_keep_their_values(engine: Engine, mlp: Session) -> None:
    expected = answer(engine, mlp, x=X)["y"]
    np.testing.assert_array_equal(answer(engine, mlp, x=np.asfortranarray(X))["y"], expected)
    np.testing.assert_array_equal(answer(engine, mlp, x=X.astype(">f4"))["y"], expected)


@pytest.mark.parametrize("given", [X.astype(np.float64), np.array([["a"] * 32]), np.array([[1] * 32], object)])
def test_another_datatype_is_refused_by_name(mlp: Session, given: np.ndarray) -> None:
    with pytest.raises(InputError, match="input `x`") as caught:
        mlp.infer({"x": given})
    assert caught.value.hint


@pytest.mark.parametrize("given", [np.float32([1]), np.array([b"\xff"]), np.array([1, None], object)])
def test_what_is_no_text_is_refused_by_name(engine: Engine, given: np.ndarray, tmp_path: Path) -> None:
    session = engine.load(models.strings(tmp_path / "strings.onnx"), EngineOptions())
    with pytest.raises(InputError, match="input `words`"):
        session.infer({"words": given})


@pytest.mark.parametrize("feeds", [{}, {"z": X}, {"x": X, "z": X}, {"x": X[0]}, {"x": X[:, :5]}])
def test_feeds_that_do_not_fit_are_refused(mlp: Session, feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises((InputError, EngineError)) as caught:
        mlp.infer(feeds)
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("model", [b"", b"no model", b"\xff" * 100])
def test_what_is_no_model_is_refused(engine: Engine, model: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model)
    for source in (model, tmp_path / "model.onnx", tmp_path / "none.onnx"):
        with pytest.raises(EngineError) as caught:
            engine.load(source, EngineOptions())
        assert caught.value.hint
        assert "\n" not in caught.value.message


def test_a_custom_operator_without_its_library_is_refused(engine: Engine, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Special", ["x"], ["y"], domain="mine")],
        "custom",
        [models.floats("x", ["n"])],
        [models.floats("y", ["n"])],
    )
    path = models.save(tmp_path / "custom.onnx", graph, {"": models.OPSET, "mine": 1})
    with pytest.raises(EngineError, match="Special") as caught:
        engine.load(path, EngineOptions())
    assert "--custom-ops" in (caught.value.hint or "")
    with pytest.raises(EngineError, match=r"nothing\.so"):
        engine.load(path, EngineOptions(custom_ops=(tmp_path / "nothing.so",)))


def test_a_closed_session_says_so(mlp: Session) -> None:
    mlp.close()
    mlp.close()
    with pytest.raises(EngineError, match="closed"):
        mlp.infer({"x": X})


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("optimization", ["none", "basic", "extended", "all"])
@pytest.mark.parametrize("low_memory", [False, True])
def test_options_do_not_change_the_answer(
    engine: Engine, mlp: Session, threads: int, optimization: Optimization, low_memory: bool, tmp_path: Path
) -> None:
    options = EngineOptions(threads=threads, optimization=optimization, low_memory=low_memory, spin=threads > 1)
    session = engine.load(tmp_path / "mlp.onnx", options)
    np.testing.assert_allclose(answer(engine, session, x=X)["y"], answer(engine, mlp, x=X)["y"], rtol=1e-5, atol=1e-6)
    session.close()


def given_apart(path: Path, graph: onnx.GraphProto) -> tuple[Path, dict[str, Initializer]]:
    """A model whose weights lie in a file of zeros, and those weights, at odd addresses."""
    opset_imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opset_imports, ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    stored, found = onnx.load(path, load_external_data=False), {}
    weights = path.with_name("weights")
    content = weights.read_bytes()
    for tensor in stored.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        start, length = int(place.get("offset", 0)), int(place["length"])
        data = memoryview(b"." + content[start : start + length])[1:]
        found[tensor.name] = Initializer(datatype(tensor.data_type).name, tuple(tensor.dims), data)
    weights.write_bytes(bytes(len(content)))
    return path, found


def folding() -> onnx.GraphProto:
    """What optimisation reads weights for: it folds a Cast and a Transpose, and a BatchNormalization into a Conv."""
    half = np.random.default_rng(5).standard_normal((8, 64)).astype(np.float16)
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "shift"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", "scale", "shift", "shift", "variance"], ["normal"]),
        helper.make_node("Flatten", ["normal"], ["flat"]),
        helper.make_node("Cast", ["half"], ["full"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["full"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["flat", "turned"], ["product"]),
        helper.make_node("MatMul", ["product", "square"], ["y"]),
    ]
    weights = [
        models.weight("kernel", 4, 4, 3, 3),
        models.weight("shift", 4),
        models.weight("scale", 4),
        numpy_helper.from_array(np.float32([1, 2, 3, 4]), "variance"),
        numpy_helper.from_array(half, "half"),
        models.weight("square", 8, 8),
    ]
    return helper.make_graph(
        nodes, "folding", [models.floats("x", [1, 4, 4, 4])], [models.floats("y", [1, 8])], weights
    )


@pytest.mark.parametrize("optimization", ["none", "basic", "extended", "all"])
@pytest.mark.parametrize("low_memory", [False, True])
def test_initializers_in_memory_are_the_models_weights(
    engine: Engine, optimization: Optimization, low_memory: bool, tmp_path: Path
) -> None:
    options = EngineOptions(optimization=optimization, low_memory=low_memory)
    whole = engine.load(models.save(tmp_path / "whole.onnx", folding(), {"": 21}), options)
    path, initializers = given_apart(tmp_path / "apart.onnx", folding())
    session = engine.load(path.read_bytes(), options, folder=tmp_path, initializers=initializers)
    path.with_name("weights").unlink()
    del initializers
    image = np.random.default_rng(2).random((1, 4, 4, 4), np.float32)
    expected = answer(engine, whole, x=image)["y"]
    assert np.abs(expected).max() > 0.1
    for _ in range(3):
        bytearray(1 << 20)  # takes the place of what the session should have kept, but did not
        np.testing.assert_allclose(answer(engine, session, x=image)["y"], expected, rtol=1e-5, atol=1e-6)
    session.close()


@pytest.mark.parametrize("optimization", ["none", "all"])
@pytest.mark.parametrize(
    "number",
    [
        *(TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.INT64, TensorProto.BOOL),
        TensorProto.FLOAT8E4M3FN,
    ],
)
def test_initializers_of_any_datatype_are_taken(
    engine: Engine, number: int, optimization: Optimization, tmp_path: Path
) -> None:
    values = np.arange(7) % 2
    weight = numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(number)), "w")
    nodes = [helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(nodes, "cast", [], [models.floats("y", [7])], [weight])
    path, initializers = given_apart(tmp_path / "apart.onnx", graph)
    session = engine.load(
        path.read_bytes(), EngineOptions(optimization=optimization), folder=tmp_path, initializers=initializers
    )
    assert answer(engine, session)["y"].tolist() == values.tolist()


def test_an_initializer_that_the_model_may_be_given_as_an_input(engine: Engine, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "overridable",
        [models.floats("x", [4]), models.floats("w", [4])],
        [models.floats("y", [4])],
        [models.weight("w", 4)],
    )
    path, initializers = given_apart(tmp_path / "apart.onnx", graph)
    x, other = np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1])
    default = np.frombuffer(initializers["w"].data, np.float32)
    for optimization in ("none", "all"):
        session = engine.load(
            path.read_bytes(), EngineOptions(optimization=optimization), folder=tmp_path, initializers=initializers
        )
        np.testing.assert_array_equal(answer(engine, session, x=x)["y"], x + default)
        np.testing.assert_array_equal(answer(engine, session, x=x, w=other)["y"], x + other)


@pytest.mark.parametrize("optimization", ["none", "all"])
@pytest.mark.parametrize("change", [{"shape": (3,)}, {"datatype": "FP64"}, {"datatype": "INT4"}])
def test_an_initializer_that_contradicts_itself_is_refused(
    engine: Engine, change: dict[str, object], optimization: Optimization, tmp_path: Path
) -> None:
    nodes, values = [helper.make_node("Add", ["x", "w"], ["y"])], [models.floats(name, [4]) for name in "xy"]
    graph = helper.make_graph(nodes, "add", values[:1], values[1:], [models.weight("w", 4)])
    path, initializers = given_apart(tmp_path / "apart.onnx", graph)
    wrong = {"w": replace(initializers["w"], **change)}  # type: ignore[arg-type]
    with pytest.raises(EngineError) as caught:
        engine.load(path.read_bytes(), EngineOptions(optimization=optimization), folder=tmp_path, initializers=wrong)
    assert caught.value.hint
