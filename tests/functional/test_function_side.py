"""Slices as functions: an event goes in, the answer is what a pipeline gives."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import models
from tests.functional import functions

import lamella
from lamella.errors import InputError, LamellaError, SlicesError, StoreError
from lamella.runtime.function import WeightTensor, read_function
from lamella.runtime.payload import (
    PING,
    AnswerPlace,
    Event,
    Reference,
    decode_answer,
    decode_error,
    encode_event,
)
from lamella.runtime.slice_function import MEMORY_VARIABLE, STORE_VARIABLE, SliceFunction
from lamella.runtime.weights import _stand_in
from lamella.stores.opening import open_store
from lamella.tensors import Array

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return (tmp_path / "store").as_uri()


def run(packages: list[Path], inputs: Mapping[str, Array], place: AnswerPlace | None = None) -> dict[str, Array]:
    """A request through functions, one after the other; every value that they made."""
    values, references = dict(inputs), dict[str, Reference]()
    for number, package in enumerate(packages):
        function = SliceFunction(package)
        wanted = [spec.name for spec in function.function.inputs]
        event = Event(
            "request-1",
            {name: values[name] for name in wanted if name in values},
            tuple(references[name] for name in wanted if name in references),
            place and AnswerPlace(place.inline_bytes, place.store, f"requests/request-1/slice-{number}/"),
        )
        through_bytes = decode_answer(function.answer_bytes(encode_event(event)))
        through_json = decode_answer(json.loads(json.dumps(function.answer(json.loads(encode_event(event))))))
        assert through_json.references == through_bytes.references
        assert through_json.tensors.keys() == through_bytes.tensors.keys()
        for name, array in through_bytes.tensors.items():
            np.testing.assert_array_equal(through_json.tensors[name], array)
        values |= through_bytes.tensors
        references |= {reference.name: reference for reference in through_bytes.references}
        function.close()
    return values


CASES: dict[str, tuple[Callable[[Path], Path], int, dict[str, Array]]] = {
    "mlp": (models.mlp, 3, {"x": X}),
    "conv": (models.residual_conv, 2, {"image": np.random.default_rng(1).random((1, 4, 8, 8), np.float32)}),
    "conditional": (models.conditional, 2, {"x": X[:, :16]}),
    "lookup": (
        models.lookup,
        2,
        {"ids": np.arange(6).reshape(2, 3), "mask": np.ones((2, 3), np.float32)},
    ),
    "strings": (models.strings, 2, {"words": np.array(["cat", "größe", "dog"], object)}),
}


@pytest.mark.parametrize("name", CASES)
def test_functions_give_what_a_pipeline_gives(name: str, tmp_path: Path, store: str) -> None:
    build, slices, inputs = CASES[name]
    directory = functions.sliced(build(tmp_path / "model.onnx"), slices=slices)
    with lamella.Pipeline(directory) as pipeline:
        expected = pipeline.infer(inputs)
    for delivered in (None, store):
        packages = functions.build(directory, tmp_path / f"packages-{delivered is None}", store=delivered)
        found = run(packages, inputs)
        for output, array in expected.items():
            assert found[output].dtype == array.dtype
            np.testing.assert_array_equal(found[output], array)


@pytest.mark.parametrize("inline_bytes", [0, 200, 10**6])
def test_what_exceeds_the_inline_limit_goes_by_reference(inline_bytes: int, tmp_path: Path, store: str) -> None:
    directory = functions.sliced(models.mlp(tmp_path / "mlp.onnx"), slices=3)
    packages = functions.build(directory, tmp_path / "packages")
    with lamella.Pipeline(directory) as pipeline:
        expected = pipeline.infer({"x": X})["y"]
    values = run(packages, {"x": X}, AnswerPlace(inline_bytes, store, "overwritten"))
    keys = [entry.key for entry in open_store(store).list()]
    if inline_bytes >= X.nbytes:
        assert keys == []
        np.testing.assert_array_equal(values["y"], expected)
    else:
        assert keys == [f"requests/request-1/slice-{number}/0" for number in range(3)]
        raw = open_store(store).get(keys[-1])
        np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(expected.shape), expected)


def two_outputs(path: Path) -> Path:
    """`x` FP32[n] as it is, twice in a row, and as text."""
    nodes = [
        helper.make_node("Identity", ["x"], ["small"], "small"),
        helper.make_node("Concat", ["x", "x"], ["large"], "large", axis=0),
        helper.make_node("Cast", ["x"], ["text"], "text", to=TensorProto.STRING),
    ]
    outputs = [models.floats("small", ["n"]), models.floats("large", ["m"])]
    outputs.append(helper.make_tensor_value_info("text", TensorProto.STRING, ["n"]))
    return models.save(path, helper.make_graph(nodes, "two", [models.floats("x", ["n"])], outputs))


def test_the_largest_output_leaves_first_and_text_travels_by_reference(tmp_path: Path, store: str) -> None:
    directory = functions.sliced(two_outputs(tmp_path / "two.onnx"), slices=1)
    (package,) = functions.build(directory, tmp_path / "packages")
    function = SliceFunction(package)
    x = np.float32([1, 2, 3, 4])
    sizes = {"small": 16, "large": 32, "text": 4 * 5}
    for inline_bytes, leaving in ((68, set()), (67, {"large"}), (35, {"large", "text"}), (15, set(sizes))):
        event = Event("r", {"x": x}, (), AnswerPlace(inline_bytes, store, "requests/r/p/"))
        answer = decode_answer(function.answer_bytes(encode_event(event)))
        assert {reference.name: reference.size for reference in answer.references} == {n: sizes[n] for n in leaving}
        assert answer.tensors.keys() == sizes.keys() - leaving
        for reference in answer.references:
            assert reference.shape == ((8,) if reference.name == "large" else (4,))
            assert len(open_store(store).get(reference.uri.rpartition("store/")[2])) == reference.size


def conv_and_folding(path: Path) -> Path:
    """What an engine optimises away by reading weights: BatchNorm into Conv, Transpose of a weight, a half's Cast."""
    half = np.random.default_rng(5).standard_normal((64, 512)).astype(np.float16)
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", "scale", "shift", "mean", "variance"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("Cast", ["half"], ["full"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["full"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["flat", "turned"], ["product"]),
        helper.make_node("Constant", [], ["constant"], value=models.weight("", 64, 64)),
        helper.make_node("MatMul", ["product", "constant"], ["y"]),
    ]
    weights = [
        models.weight("kernel", 32, 16, 3, 3),
        *(models.weight(name, 32) for name in ("scale", "shift", "mean")),
        numpy_helper.from_array(np.linspace(0.5, 1.5, 32, dtype=np.float32), "variance"),
        numpy_helper.from_array(half, "half"),
    ]
    graph = helper.make_graph(
        nodes, "folding", [models.floats("image", [1, 16, 4, 4])], [models.floats("y", [1, 64])], weights
    )
    return models.save(path, graph)


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("optimize_first", [False, True])
def test_fetched_weights_compute_what_packaged_ones_do(
    optimize_first: bool, copies: int, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little memory there is beside them."""
    directory = functions.sliced(conv_and_folding(tmp_path / "m.onnx"), slices=1, optimize_first=optimize_first)
    inputs = {"image": np.random.default_rng(1).random((1, 16, 4, 4), np.float32)}
    expected = run(functions.build(directory, tmp_path / "packaged"), inputs)["y"]
    fetched = functions.build(directory, tmp_path / "fetched", store=store)
    (size,) = [entry.size for entry in read_function(fetched[0]).objects]
    monkeypatch.setenv(MEMORY_VARIABLE, "128")
    monkeypatch.setattr("lamella.runtime.slice_function.RESERVED_BYTES", (128 << 20) - copies * size)
    found = run(fetched, inputs)["y"]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def inner_weights(path: Path) -> Path:
    """Weights that no engine takes from memory: constants of branches, and elements of four bits."""
    branches = []
    for name in ("then", "else"):
        constant = helper.make_node("Constant", [], [f"{name}_w"], value=models.weight(name, 32, 32))
        product = helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])
        branches.append(helper.make_graph([constant, product], name, [], [models.floats(f"{name}_y", ["n", 32])]))
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["chosen"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("MatMul", ["chosen", "w"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0), "zero"), models.weight("w", 32, 32)]
    nodes[-1].output[0] = "wide"
    nodes += [
        helper.make_node("DequantizeLinear", ["narrow", "one"], ["scaled"]),
        helper.make_node("MatMul", ["wide", "scaled"], ["y"]),
    ]
    nibbles = helper.make_tensor("narrow", TensorProto.INT4, [32, 96], np.arange(32 * 96) % 16 - 8)
    weights += [nibbles, numpy_helper.from_array(np.float32(0.1), "one")]
    graph = helper.make_graph(nodes, "inner", [models.floats("x", ["n", 32])], [models.floats("y", ["n", 96])], weights)
    return models.save(path, graph, {"": 21})


def test_fetched_weights_that_engines_want_in_a_file_are_there_too(tmp_path: Path, store: str) -> None:
    directory = functions.sliced(inner_weights(tmp_path / "inner.onnx"), slices=1)
    packaged = functions.build(directory, tmp_path / "packaged")
    fetched = functions.build(directory, tmp_path / "fetched", store=store)
    assert {weight.name for weight in read_function(fetched[0]).weights} == {None, "w", "narrow"}
    for x in (X, -X + 0.1, X + 1):
        np.testing.assert_array_equal(run(fetched, {"x": x})["y"], run(packaged, {"x": x})["y"])


def weights_on_disk(folder: Path) -> int:
    """Bytes on disk of everything below a folder."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


def test_fetched_weights_are_in_no_file(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = functions.sliced(models.mlp(tmp_path / "mlp.onnx", width=512), slices=1)
    (package,) = functions.build(directory, tmp_path / "packages", store=store)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    seen = []
    from lamella.engines.onnxruntime import OnnxRuntimeEngine

    load = OnnxRuntimeEngine.load

    def spied(*arguments: object, **options: object) -> object:
        seen.append(([path.stat().st_size for path in temporary.rglob("*.data")], weights_on_disk(temporary)))
        return load(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(OnnxRuntimeEngine, "load", spied)
    SliceFunction(package)
    (size,) = [entry.size for entry in read_function(package).objects]
    assert size > 4 << 20
    assert seen == [([size], 0)]
    assert list(temporary.iterdir()) == []


def test_what_is_missing_or_wrong_in_the_store_is_named(tmp_path: Path, store: str) -> None:
    directory = functions.sliced(models.mlp(tmp_path / "mlp.onnx"), slices=1)
    (package,) = functions.build(directory, tmp_path / "packages", store=store)
    (entry,) = open_store(store).list()
    content = open_store(store).get(entry.key)
    (place,) = read_function(package).objects
    for spoiled, reason in (
        (content[:-1] + bytes([content[-1] ^ 1]), "is not what was written"),
        (content[:-1], "ends before"),
        (None, "there is no object"),
    ):
        if spoiled is None:
            open_store(store).delete(entry.key)
        else:
            open_store(store).put(entry.key, spoiled)
        with pytest.raises(StoreError, match=reason) as caught:
            SliceFunction(package)
        assert place.uri in caught.value.message
        assert caught.value.hint


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    directory = functions.sliced(models.mlp(tmp_path / "mlp.onnx"), slices=2)
    package, other = functions.build(directory, tmp_path / "packages")
    (package / "model" / "slice_000.onnx").write_bytes((other / "model" / "slice_001.onnx").read_bytes())
    (package / "model" / "slice_001.data").write_bytes((other / "model" / "slice_001.data").read_bytes())
    with pytest.raises(SlicesError, match="slice 0 gives no"):
        SliceFunction(package)
    (package / "model" / "slice_000.onnx").unlink()
    with pytest.raises(SlicesError, match="lacks its slice"):
        SliceFunction(package)


@pytest.fixture
def function(tmp_path: Path) -> Iterator[SliceFunction]:
    directory = functions.sliced(models.mlp(tmp_path / "mlp.onnx"), slices=1)
    (package,) = functions.build(directory, tmp_path / "packages")
    made = SliceFunction(package)
    yield made
    made.close()


def refused(function: SliceFunction, event: Event | bytes) -> LamellaError:
    payload = event if isinstance(event, bytes) else encode_event(event)
    with pytest.raises(LamellaError) as caught:
        function.answer_bytes(payload)
    with pytest.raises(type(caught.value)) as again:
        function.answer(json.loads(payload))
    assert str(again.value) == str(caught.value)
    assert decode_error(str(caught.value)) == (caught.value.message, caught.value.hint)
    return caught.value


def test_a_users_mistake_is_an_input_error_with_its_hint(function: SliceFunction) -> None:
    for event, message in (
        (Event("r"), "input `x` is missing (FP32[batch, 32])"),
        (Event("r", {"z": X}), "the model has no input `z`"),
        (Event("r", {"x": X.astype(np.float64)}), "input `x` is FP64, but the model takes FP32[batch, 32]"),
        (Event("r", {"x": X[0]}), "input `x` has shape [32], but the model takes FP32[batch, 32]"),
        (b"{}", "a payload is no event of a slice's function: it has no 'request_id'"),
        (b'{"frame":"AAAA","request_id":"r"}', "a frame of 3 bytes cannot hold its header of 0"),
        (b'{"frame":"A","request_id":"r"}', "`frame` is no base64"),
        (b'{"frame":7,"request_id":"r"}', "`frame` is no text"),
    ):
        error = refused(function, event)
        assert isinstance(error, InputError)
        assert message in error.message
        assert error.hint


def test_references_lead_only_into_the_events_store(
    function: SliceFunction, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = X.tobytes()

    whole = Reference("x", "FP32", (2, 32), "", len(raw), sha256(raw).hexdigest())

    def reference(uri: str, **changes: object) -> Reference:
        return replace(whole, uri=uri, **changes)  # type: ignore[arg-type]

    inside = open_store(store).put("requests/r/in", raw)
    outside = open_store((tmp_path / "other").as_uri()).put("x", raw)
    place = AnswerPlace(10**6, store, "requests/r/out/")
    answer = decode_answer(function.answer_bytes(encode_event(Event("r", {}, (reference(inside),), place))))
    assert answer.timing.fetch_ms > 0
    with lamella.Pipeline(tmp_path / "mlp.slices") as pipeline:
        np.testing.assert_array_equal(answer.tensors["y"], pipeline.infer({"x": X})["y"])
    for event, kind, message in (
        (Event("r", {}, (reference(inside),)), InputError, "names no store"),
        (Event("r", {}, (reference(outside),), place), InputError, "outside of the event's store"),
        (Event("r", {}, (reference(store + "/../other/x"),), place), InputError, "outside of the event's store"),
        (Event("r", {}, (reference("file:///etc/passwd"),), place), InputError, "outside of the event's store"),
        (Event("r", {}, (reference(store + "/no"),), place), StoreError, "there is no object"),
        (Event("r", {}, (reference(inside, sha256="0" * 64),), place), StoreError, "is not what was written"),
        (Event("r", {}, (reference(inside, size=len(raw) + 4),), place), StoreError, "ends before"),
        (Event("r", {}, (reference(inside, shape=(2, 33)),), place), InputError, "has 256 bytes"),
        (Event("r", {}, (reference(inside, size=1 << 60),), place), InputError, "does not fit into memory"),
        (Event("r", {"x": X}, (reference(inside),), place), InputError, "comes twice"),
        (Event("r", {}, (reference(inside), reference(inside)), place), InputError, "comes twice"),
        (Event("r", {"x": X}, (), AnswerPlace(0, store, "requests/../out/")), StoreError, "no key"),
        (Event("r", {"x": X}, (), AnswerPlace(0, store, "weights/")), InputError, "an answer cannot go to `weights/`"),
    ):
        error = refused(function, event)
        assert isinstance(error, kind)
        assert message in error.message
    monkeypatch.setenv(STORE_VARIABLE, store)
    bound = SliceFunction(tmp_path / "packages" / "slice-0")
    assert decode_answer(bound.answer_bytes(encode_event(Event("r", {}, (reference(inside),), place)))).tensors
    other = AnswerPlace(0, (tmp_path / "other").as_uri(), "requests/r/p/")
    assert "not this function's" in refused(bound, Event("r", {"x": X}, (), other)).message


def test_a_ping_infers_nothing_and_warms(function: SliceFunction) -> None:
    assert json.loads(function.answer_bytes(PING)) == {"lamella": "pong", "cold_start": True}
    assert function.answer({"lamella": "ping"}) == {"lamella": "pong", "cold_start": False}
    answer = decode_answer(function.answer_bytes(encode_event(Event("r", {"x": X}))))
    assert not answer.timing.cold_start
    assert answer.timing.init is None


def test_the_first_answer_says_what_the_start_took(function: SliceFunction) -> None:
    first, second = (decode_answer(function.answer_bytes(encode_event(Event("r", {"x": X})))) for _ in range(2))
    assert first.timing.cold_start
    assert first.timing.init is not None
    assert first.timing.init.session_ms > 0
    assert first.timing.init.weights_ms == 0
    assert not second.timing.cold_start
    assert second.timing.init is None
    assert second.timing.infer_ms > 0


ISOLATED = """
import sys
sys.path[:0] = [{package!r}, {site!r}]
before = set(sys.modules)
from lamella.runtime.handler import handle
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)))
print(*sorted(name for name in sys.modules if name.startswith("lamella.")))
"""


def test_the_handler_imports_what_a_package_holds_and_nothing_else(tmp_path: Path, store: str) -> None:
    directory = functions.sliced(models.mlp(tmp_path / "mlp.onnx"), slices=1)
    (package,) = functions.build(directory, tmp_path / "packages", store=store)
    source = Path(lamella.__file__).parent
    for name in ("__init__.py", "errors.py", "tensors.py", "wire.py", "runtime", "engines", "stores"):
        (package / "lamella").mkdir(exist_ok=True)
        (package / "lamella" / name).symlink_to(source / name)
    code = ISOLATED.format(package=str(package), site=str(Path(np.__file__).parents[1]))
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LAMBDA_TASK_ROOT": str(package)},
    )
    assert finished.returncode == 0, finished.stderr
    foreign, own = finished.stdout.splitlines()
    assert set(foreign.split()) <= {"lamella", "numpy", "onnxruntime", "flatbuffers", "google", "packaging"}
    assert {name.split(".")[1] for name in own.split()} == {"errors", "tensors", "wire", "runtime", "engines", "stores"}
    assert "lamella.stores.s3" not in own.split()


@pytest.mark.skipif(sys.platform != "linux", reason="makes a file system that is full")
def test_weights_that_do_not_fit_temporary_storage_are_an_error(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", full], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        weight = WeightTensor(None, "INT4", (6 << 20,), "w", 0, 3 << 20)
        with pytest.raises(OSError, match="No space left"):
            _stand_in(full / "w", memoryview(b"\x77" * (3 << 20)), [weight])
    finally:
        subprocess.run(["umount", full], check=True)
