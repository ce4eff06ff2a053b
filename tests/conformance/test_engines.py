"""What every engine does, whichever library is behind it."""

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import get_args

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import models

from lamella.engines.base import Engine, EngineOptions, Initializer, Optimization, Session
from lamella.engines.opening import EngineName, open_engine
from lamella.errors import EngineError, InputError, LamellaError, LamellaWarning, UsageError
from lamella.tensors import TensorSpec, datatype

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)

# What an engine does not do, and the exact error that says so.
GAPS: dict[tuple[str, str], tuple[type[LamellaError], str]] = {
    ("openvino", "text"): (EngineError, "LabelEncoder"),
    ("openvino", "initializers"): (EngineError, "OpenVINO takes weights from files alone"),
    ("openvino", "providers"): (UsageError, "OpenVINO has none"),
    ("openvino", "64 bits"): (InputError, "integers beyond 32 bits"),
    ("opencv", "text"): (EngineError, "`words` is BYTES"),
    ("opencv", "initializers"): (EngineError, "OpenCV takes weights from files alone"),
    ("opencv", "providers"): (UsageError, "OpenCV has none"),
    ("opencv", "64 bits"): (InputError, "integers beyond 32 bits"),
    ("opencv", "no elements"): (InputError, "takes no tensor without elements"),
    ("opencv", "bfloat16"): (EngineError, "`x` is BF16"),
    ("opencv", "float8_e4m3fn"): (EngineError, "`x` is FLOAT8E4M3FN"),
    ("onnxruntime", "precision"): (UsageError, "computes in the model's own precision"),
    ("opencv", "precision"): (UsageError, "computes in the model's own precision"),
}


@pytest.fixture(params=get_args(EngineName))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(name: str) -> Engine:
    return open_engine(name)


def unless_gap(name: str, *features: str) -> AbstractContextManager[object]:
    """What needs these features: where one is a declared gap, it must fail with that gap's error."""
    for feature in features:
        if (name, feature) in GAPS:
            kind, match = GAPS[name, feature]
            return pytest.raises(kind, match=match)
    return nullcontext()


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
def test_text_goes_in_and_out(name: str, engine: Engine, words: list[str], tmp_path: Path) -> None:
    names = {"cat": "feline", "dog": "canine"}
    with unless_gap(name, "text"):
        session = engine.load(models.strings(tmp_path / "strings.onnx"), EngineOptions())
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
@pytest.mark.parametrize("writeable", [True, False])
def test_every_datatype_keeps_its_bits(
    name: str, engine: Engine, number: int, dtype: type, shape: tuple[int, ...], writeable: bool, tmp_path: Path
) -> None:
    values = [helper.make_tensor_value_info(name, number, [None] * len(shape)) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", values[:1], values[1:])
    path, given = models.save(tmp_path / "same.onnx", graph, {"": 21}), np.ones(shape, np.int8).astype(dtype)
    given.flags.writeable = writeable
    with unless_gap(name, given.dtype.name, *(() if given.size else ("no elements",))):
        found = answer(engine, engine.load(path, EngineOptions()), x=given)["y"]
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
def test_what_is_no_text_is_refused_by_name(name: str, engine: Engine, given: np.ndarray, tmp_path: Path) -> None:
    path = models.strings(tmp_path / "strings.onnx")
    with unless_gap(name, "text"):
        session = engine.load(path, EngineOptions())
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


@pytest.mark.parametrize("rows", [1, 7])
def test_threads_may_infer_at_the_same_time(engine: Engine, mlp: Session, rows: int) -> None:
    """Each gets its own answer, however the others' inputs differ in values and shape."""
    given = [np.full((rows + index % 2, 32), index + 1, np.float32) for index in range(4)]
    expected = [answer(engine, mlp, x=x)["y"] for x in given]
    start = Barrier(4)

    def ask(index: int) -> None:
        start.wait(60)
        for _ in range(50):
            np.testing.assert_array_equal(answer(engine, mlp, x=given[index])["y"], expected[index])

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(ask, index) for index in range(4)]:
            done.result(60)


def test_a_session_may_be_closed_while_others_use_it(engine: Engine, mlp: Session) -> None:
    expected, start = answer(engine, mlp, x=X)["y"], Barrier(3)

    def ask_for_ever() -> None:
        while True:
            np.testing.assert_array_equal(answer(engine, mlp, x=X)["y"], expected)

    def ask() -> None:
        start.wait(60)
        with pytest.raises(EngineError, match="closed"):
            ask_for_ever()

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask) for _ in range(2)]
        start.wait(60)
        mlp.close()
        for done in asked:
            done.result(60)


def test_a_batch_of_no_rows_has_an_answer_of_none(name: str, engine: Engine, mlp: Session) -> None:
    with unless_gap(name, "no elements"):
        assert answer(engine, mlp, x=X[:0])["y"].shape == (0, 32)


def test_names_may_be_of_any_script_and_equal_values_keep_theirs(engine: Engine, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["größe"], ["中間"]), helper.make_node("Neg", ["中間"], ["b/量:0"])]
    nodes += [helper.make_node("Identity", ["b/量:0"], [name]) for name in ("z", "a")]
    values = {name: models.floats(name, ["行", 2]) for name in ("größe", "z", "b/量:0", "a")}
    graph = helper.make_graph(nodes, "names", [values.pop("größe")], list(values.values()))
    session = engine.load(models.save(tmp_path / "größe.ONNX", graph), EngineOptions())
    assert [spec.name for spec in session.inputs] == ["größe"]
    assert [spec.name for spec in session.outputs] == ["z", "b/量:0", "a"]
    found = answer(engine, session, größe=np.float32([[1, -2]]))
    assert {name: array.tolist() for name, array in found.items()} == {key: [[-1, 0]] for key in values}


def test_a_model_is_described_as_its_session_is(engine: Engine, mlp: Session, tmp_path: Path) -> None:
    inputs, outputs = engine.describe(tmp_path / "mlp.onnx")
    assert (list(inputs), list(outputs)) == (list(mlp.inputs), list(mlp.outputs))
    with pytest.raises(EngineError):
        engine.describe(tmp_path / "none.onnx")


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), 2**40, -(2**31) - 1])
def test_large_integers_are_computed_as_they_are_or_refused(
    name: str, engine: Engine, value: int, tmp_path: Path
) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in ("x", "y")]
    nodes = [helper.make_node("Sub", ["x", "zero"], ["y"])]
    graph = helper.make_graph(nodes, "same", values[:1], values[1:], [numpy_helper.from_array(np.int64([0]), "zero")])
    session = engine.load(models.save(tmp_path / "same.onnx", graph), EngineOptions())
    wide = not -(2**31) <= value < 2**31
    with unless_gap(name, *(("64 bits",) if wide else ())):
        assert answer(engine, session, x=np.int64([value]))["y"].tolist() == [value]


def test_execution_providers_are_one_engines(name: str, engine: Engine, tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    with unless_gap(name, "providers"):
        engine.load(path, EngineOptions(execution_providers=("cpu",))).close()


def test_a_precision_is_one_engines(name: str, engine: Engine, mlp: Session, tmp_path: Path) -> None:
    exact = answer(engine, mlp, x=X)["y"]
    with unless_gap(name, "precision"), warnings.catch_warnings():
        warnings.simplefilter("ignore", LamellaWarning)  # this processor may have no BF16, and then it is not used
        session = engine.load(tmp_path / "mlp.onnx", EngineOptions(precision="bf16"))
        np.testing.assert_allclose(answer(engine, session, x=X)["y"], exact, rtol=0.1, atol=0.1)


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
    name: str, engine: Engine, optimization: Optimization, low_memory: bool, tmp_path: Path
) -> None:
    options = EngineOptions(optimization=optimization, low_memory=low_memory)
    whole = engine.load(models.save(tmp_path / "whole.onnx", folding(), {"": 21}), options)
    path, initializers = given_apart(tmp_path / "apart.onnx", folding())
    image = np.random.default_rng(2).random((1, 4, 4, 4), np.float32)
    expected = answer(engine, whole, x=image)["y"]
    assert np.abs(expected).max() > 0.1
    with unless_gap(name, "initializers"):
        session = engine.load(path.read_bytes(), options, folder=tmp_path, initializers=initializers)
        path.with_name("weights").unlink()
        del initializers
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
    name: str, engine: Engine, number: int, optimization: Optimization, tmp_path: Path
) -> None:
    values = np.arange(7) % 2
    weight = numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(number)), "w")
    nodes = [helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(nodes, "cast", [], [models.floats("y", [7])], [weight])
    path, initializers = given_apart(tmp_path / "apart.onnx", graph)
    with unless_gap(name, "initializers"):
        session = engine.load(
            path.read_bytes(), EngineOptions(optimization=optimization), folder=tmp_path, initializers=initializers
        )
        assert answer(engine, session)["y"].tolist() == values.tolist()


@pytest.mark.parametrize("optimization", ["none", "all"])
def test_an_initializer_that_the_model_may_be_given_as_an_input(
    name: str, engine: Engine, optimization: Optimization, tmp_path: Path
) -> None:
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
    with unless_gap(name, "initializers"):
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
