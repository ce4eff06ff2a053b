"""A pipeline under what callers do to it: closing, failing, sharing arrays, models that compute nothing."""

import gc
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests import models

import lamella
from lamella.cli.app import main
from lamella.errors import EngineError, InputError, LamellaError, SlicesError
from lamella.workflow.parts import InDirectory
from lamella.workflow.pipeline import TIMINGS_KEPT, Pipeline

X = np.ones((2, 32), np.float32)


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    sliced = lamella.slice(lamella.load(models.mlp(tmp_path / "mlp.onnx")), tmp_path / "slices", slices=3, verify=False)
    return sliced.directory


@pytest.fixture(params=[False, True], ids=["resident", "low-memory"])
def low_memory(request: pytest.FixtureRequest) -> Iterator[bool]:
    return request.param


def test_a_pipeline_takes_what_slicing_returned(tmp_path: Path) -> None:
    sliced = lamella.slice(lamella.load(models.mlp(tmp_path / "mlp.onnx")), tmp_path / "s", slices=2, verify=False)
    assert isinstance(sliced, InDirectory)
    with lamella.Pipeline(sliced) as pipeline:
        assert len(pipeline.timings) == 2


def test_numbers_are_never_converted_silently(tmp_path: Path) -> None:
    with lamella.Pipeline(models.lookup(tmp_path / "lookup.onnx")) as pipeline:
        mask = np.ones((1, 2), np.float32)
        expected = pipeline.infer({"ids": [[1, 2]], "mask": mask})["y"]
        swapped = {"ids": np.array([[1, 2]], ">i8"), "mask": mask.astype(">f4")}
        np.testing.assert_array_equal(pipeline.infer(swapped)["y"], expected)
        with pytest.raises(InputError, match="input `ids`"):
            pipeline.infer({"ids": [[1.7, 2.9]], "mask": mask})


@pytest.mark.parametrize("words", [["cat", "dog"], [b"cat", b"dog"], np.array([b"cat", b"dog"])])
def test_bytes_are_text(words: object, tmp_path: Path) -> None:
    with lamella.Pipeline(models.strings(tmp_path / "strings.onnx")) as pipeline:
        assert pipeline.infer({"words": words})["names"].tolist() == ["feline", "canine"]


def test_a_closed_pipeline_says_so(mlp: Path, low_memory: bool) -> None:
    pipeline = lamella.Pipeline(mlp, low_memory=low_memory)
    pipeline.close()
    pipeline.close()
    with pytest.raises(EngineError, match="this pipeline is closed"):
        pipeline.infer({"x": X})


def test_closing_while_another_thread_infers_ends_its_request(mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = lamella.Pipeline(mlp)
    reached, closed = Event(), Event()
    run = Pipeline._run

    def slow(self: Pipeline, index: int, feeds: dict[str, object]) -> dict[str, object]:
        if index == 1:
            reached.set()
            assert closed.wait(10)
        return run(self, index, feeds)

    monkeypatch.setattr(Pipeline, "_run", slow)
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(pipeline.infer, {"x": X})
        assert reached.wait(10)
        pipeline.close()
        closed.set()
        with pytest.raises(EngineError, match="this pipeline is closed"):
            request.result(10)


def test_timings_do_not_grow_without_bound(mlp: Path) -> None:
    with lamella.Pipeline(mlp, threads=1) as pipeline:
        for _ in range(TIMINGS_KEPT + 5):
            pipeline.infer({"x": X})
        assert [len(timing.infer_ms) for timing in pipeline.timings] == [TIMINGS_KEPT] * 3
        assert [len(timing.load_ms) for timing in pipeline.timings] == [1] * 3


def failing(path: Path) -> Path:
    """`x` FP32[n] reshaped to what `shape` says, which fails where the sizes differ."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], "reshape")]
    inputs = [models.floats("x", ["n"]), helper.make_tensor_value_info("shape", TensorProto.INT64, [2])]
    return models.save(path, helper.make_graph(nodes, "failing", inputs, [models.floats("y", ["a", "b"])]))


def test_a_slice_that_fails_in_low_memory_is_released_at_once(tmp_path: Path) -> None:
    gc.collect()
    before = sum(issubclass(type(thing), onnxruntime.InferenceSession) for thing in gc.get_objects())
    with lamella.Pipeline(failing(tmp_path / "f.onnx"), low_memory=True) as pipeline:
        with pytest.raises(EngineError) as caught:
            pipeline.infer({"x": X[0], "shape": [3, 3]})
        gc.collect()
        after = sum(issubclass(type(thing), onnxruntime.InferenceSession) for thing in gc.get_objects())
        assert caught.value.__traceback__ is not None  # which would keep the session through its frames
        assert after == before
        assert pipeline.infer({"x": X[0], "shape": [4, 8]})["y"].shape == (4, 8)


def unconnected(path: Path, *, dead: bool, live: bool) -> Path:
    """`x` comes out as it went in; `dead` adds a node whose result nothing takes, `live` an output that is made."""
    nodes = [helper.make_node("Neg", ["x"], ["unused"], "dead")] if dead else []
    outputs = [models.floats("x", ["n"])]
    if live:
        nodes.append(helper.make_node("Abs", ["x"], ["y"], "live"))
        outputs.append(models.floats("y", ["n"]))
    model = helper.make_model(
        helper.make_graph(nodes, "unconnected", [models.floats("x", ["n"])], outputs),
        opset_imports=[helper.make_opsetid("", models.OPSET)],
        ir_version=models.IR_VERSION,
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_an_output_that_is_an_input_is_the_callers_own_copy(
    dead: bool, live: bool, whole: bool, low_memory: bool, tmp_path: Path
) -> None:
    model = lamella.load(unconnected(tmp_path / "model.onnx", dead=dead, live=live))
    source = model if whole else lamella.slice(model, tmp_path / "slices", slices=1, verify=False)
    given = np.float32([1, -2])
    with lamella.Pipeline(source, low_memory=low_memory) as pipeline:
        found = pipeline.infer({"x": given})
        assert len(pipeline.timings) == int(live)
    assert found["x"].tolist() == [1, -2]
    assert not np.shares_memory(found["x"], given)
    if live:
        assert found["y"].tolist() == [1, 2]


def test_a_model_that_computes_nothing_runs_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = unconnected(tmp_path / "model.onnx", dead=True, live=False)
    assert main(["run", str(path), "--random", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["slices"] == []


def test_a_slice_file_that_gives_something_else_is_refused(mlp: Path) -> None:
    path = mlp / "slice_000.onnx"
    data = path.read_bytes()
    name = lamella.load(path).graph.outputs[0].name.encode()
    path.write_bytes(data.replace(name, name[:-1] + b"Z"))
    with pytest.raises(SlicesError, match=f"slice 0 gives no `{name.decode()}`"):
        lamella.Pipeline(mlp)


def test_what_fails_is_said_without_the_engines_source_code(tmp_path: Path) -> None:
    with lamella.Pipeline(failing(tmp_path / "f.onnx")) as pipeline, pytest.raises(LamellaError) as caught:
        pipeline.infer({"x": X[0], "shape": [3, 3]})
    assert "cannot be reshaped to the requested shape" in caught.value.message
    assert "onnxruntime_src" not in caught.value.message
    assert "[ONNXRuntimeError]" not in caught.value.message
    assert "lamella inspect" in (caught.value.hint or "")
