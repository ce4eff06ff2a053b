"""Models of all formats on all engines, and execution providers that are there, lacking, or fail."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from onnx import TensorProto, helper
from tests import models, nets

import lamella
from lamella.engines.base import EngineOptions
from lamella.engines.opening import EngineName, open_engine
from lamella.errors import EngineError, InputError, LamellaWarning, UsageError

ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino", "opencv")
SOURCES = str(Path(lamella.__file__).parents[1])
LAST = np.ascontiguousarray(nets.IMAGE.transpose(0, 2, 3, 1))


@pytest.fixture
def expected(tmp_path: Path) -> np.ndarray:
    """The network's scores for its image, by ONNX Runtime."""
    with lamella.Pipeline(nets.onnx(tmp_path / "net.onnx")) as pipeline:
        return pipeline.infer({"image": nets.IMAGE})["scores"]


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def put_aside(name: str) -> dict[str, str]:
    """An environment in which a library takes the place of the one that is installed."""
    folder = Path(sys.prefix) / name
    if not folder.is_dir():
        pytest.skip(f"`{folder}` is not there (make test installs it, where there is one for this Python)")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{SOURCES}"}


def run_aside(environment: dict[str, str], folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "lamella", "run", *arguments]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_whole_models_and_slices_run_on_every_engine(engine: EngineName, tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    sliced = lamella.slice(lamella.load(path), tmp_path / "mlp.slices", slices=3)
    x = np.linspace(-1, 1, 96, dtype=np.float32).reshape(3, 32)
    with lamella.Pipeline(path) as whole:
        expected = whole.infer({"x": x})["y"]
    for source in (path, str(path), lamella.load(path), sliced, sliced.directory):
        with lamella.Pipeline(source, engine=engine) as pipeline:
            assert pipeline.inputs[0].shape == ("batch", 32)
            close(pipeline.infer({"x": x})["y"], expected)
    with lamella.Pipeline(sliced, engine=engine, low_memory=True) as pipeline:
        close(pipeline.infer({"x": x})["y"], expected)
        with pytest.raises(InputError, match="FP64"):
            pipeline.infer({"x": x.astype(np.float64)})


def test_openvinos_own_format_runs(expected: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "größe.xml"
    ov.save_model(ov.Core().read_model(tmp_path / "net.onnx"), path, compress_to_fp16=False)
    with lamella.Pipeline(path) as pipeline:
        assert [(spec.name, spec.shape) for spec in pipeline.inputs] == [("image", (1, 3, 8, 8))]
        close(pipeline.infer({"image": nets.IMAGE})["scores"], expected)
        with pytest.raises(InputError, match=r"shape \[1, 8, 8, 3\]"):
            pipeline.infer({"image": LAST})
    path.with_suffix(".bin").unlink()
    with pytest.raises(EngineError, match="bin file cannot be found") as caught:
        lamella.Pipeline(path)
    assert "`.bin` beside it" in (caught.value.hint or "")


def test_ir_of_a_model_with_free_dimensions_keeps_them_free(tmp_path: Path) -> None:
    model, path = models.mlp(tmp_path / "mlp.onnx"), tmp_path / "mlp.xml"
    ov.save_model(ov.Core().read_model(model), path, compress_to_fp16=False)
    inputs, _ = open_engine("openvino").describe(path)
    assert [(spec.name, spec.datatype, spec.shape) for spec in inputs] == [("x", "FP32", (None, 32))]
    with lamella.Pipeline(path) as pipeline, lamella.Pipeline(model) as other:
        for rows in (1, 5):
            x = np.ones((rows, 32), np.float32)
            close(pipeline.infer({"x": x})["y"], other.infer({"x": x})["y"])


def test_a_frozen_graph_runs_with_its_images_as_tensorflow_has_them(expected: np.ndarray, tmp_path: Path) -> None:
    with lamella.Pipeline(nets.tensorflow(tmp_path / "net.pb")) as pipeline:
        assert [(spec.name, spec.shape) for spec in pipeline.inputs] == [("image", (1, 8, 8, 3))]
        close(pipeline.infer({"image": LAST})["scores"], expected)


def test_images_come_out_of_a_frozen_graph_as_tensorflow_has_them(expected: np.ndarray, tmp_path: Path) -> None:
    with lamella.Pipeline(nets.tensorflow(tmp_path / "net.pb", head=False)) as pipeline:
        pool = pipeline.infer({"image": LAST})["pool"]
    assert pool.flags.c_contiguous
    rows = nets.DENSE.reshape(5, 4, 4, 4).transpose(0, 2, 3, 1).reshape(5, -1)
    scores = np.exp(pool.reshape(1, -1) @ rows.T)
    close(scores / scores.sum(), expected)


def test_caffes_networks_run_where_opencv_reads_them(expected: np.ndarray, tmp_path: Path) -> None:
    environment = put_aside("opencv4")
    nets.caffe(tmp_path / "net.prototxt")
    np.save(tmp_path / "image.npy", nets.IMAGE)
    for file in ("net.prototxt", "net.caffemodel"):
        ran = run_aside(environment, tmp_path, file, "--input", "image=image.npy", "-o", "out.npz")
        assert (ran.returncode, ran.stderr) == (0, "wrote `out.npz`\n")
        close(np.load(tmp_path / "out.npz")["scores"], expected)
    (tmp_path / "net.caffemodel").unlink()
    ran = run_aside(environment, tmp_path, "net.prototxt", "--random")
    assert ran.returncode == 1
    assert "net.caffemodel` does not exist: it is to be the network's weights" in ran.stderr


def test_outputs_of_a_network_are_its_blobs_wherever_a_layer_has_them(tmp_path: Path) -> None:
    environment = put_aside("opencv4")
    (tmp_path / "two.prototxt").write_text(
        'input: "data" input_shape { dim: 1 dim: 4 dim: 1 dim: 1 }\n'
        'layer { name: "slice" type: "Slice" bottom: "data" top: "first" top: "second"'
        " slice_param { slice_point: 2 } }\n"
        'layer { name: "relu" type: "ReLU" bottom: "first" top: "first" }\n'
    )
    (tmp_path / "two.caffemodel").write_bytes(b"\x0a\x03two")
    np.save(tmp_path / "data.npy", np.float32([-1, 2, -3, 4]).reshape(1, 4, 1, 1))
    ran = run_aside(environment, tmp_path, "two.prototxt", "--input", "data=data.npy", "-o", "out.npz")
    assert (ran.returncode, ran.stderr) == (0, "wrote `out.npz`\n")
    found = np.load(tmp_path / "out.npz")
    assert {name: found[name].ravel().tolist() for name in found} == {"first": [0, 2], "second": [-3, 4]}
    network = tmp_path / "two.prototxt"
    network.write_text(network.read_text().replace("slice_param { slice_point: 2 }", ""))
    ran = run_aside(environment, tmp_path, "two.prototxt", "--random")  # in which OpenCV sees a need of one part only
    assert ran.returncode == 1
    assert "OpenCV gives no `second`, though the layer `slice` has it" in ran.stderr


def test_opencv_4_refuses_onnx_and_opencv_5_refuses_caffe(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="reads Caffe's networks no more") as caught:
        lamella.Pipeline(nets.caffe(tmp_path / "net.prototxt"))
    assert "opencv-python-headless<5" in (caught.value.hint or "")
    nets.onnx(tmp_path / "net.onnx")
    ran = run_aside(put_aside("opencv4"), tmp_path, "net.onnx", "--engine", "opencv", "--random")
    assert ran.returncode == 1
    assert ran.stderr.endswith("hint: install `opencv-python-headless>=5`\n")


def test_a_provider_that_is_lacking_is_said_and_the_cpu_gives_the_same(expected: np.ndarray, tmp_path: Path) -> None:
    with (
        pytest.warns(LamellaWarning, match="no execution provider `cuda`.*onnxruntime-gpu"),
        lamella.Pipeline(tmp_path / "net.onnx", execution_providers=["cuda:device_id=0", "cpu"]) as pipeline,
    ):
        np.testing.assert_array_equal(pipeline.infer({"image": nets.IMAGE})["scores"], expected)
    with pytest.raises(EngineError, match="no execution provider `cuda`"):
        lamella.Pipeline(tmp_path / "net.onnx", execution_providers=["cuda"], fallback=False)


def test_a_provider_that_runs_nothing_is_said(tmp_path: Path) -> None:
    path = nets.onnx(tmp_path / "net.onnx")
    with pytest.warns(LamellaWarning, match="`azure` runs no node"):
        lamella.Pipeline(path, execution_providers=["azure"]).close()
    with pytest.raises(EngineError, match="fallback to CPU EP has been explicitly disabled") as caught:
        lamella.Pipeline(path, execution_providers=["azure"], fallback=False)
    assert "name `cpu` behind them" in (caught.value.hint or "")
    with pytest.warns(LamellaWarning, match="`azure` runs no node"):
        lamella.Pipeline(path, execution_providers=["azure", "cpu"], fallback=False).close()


def test_nothing_is_said_of_the_cpu(tmp_path: Path) -> None:
    path = nets.onnx(tmp_path / "net.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fallback in (False, True):
            lamella.Pipeline(path, execution_providers=["cpu"], fallback=fallback).close()


def test_a_model_that_no_provider_can_run_is_the_models_fault(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    options = EngineOptions(execution_providers=("azure", "cpu"))
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        open_engine("onnxruntime").load(tmp_path / "broken.onnx", options)


@pytest.mark.parametrize("provider", ["openvino", "openvino:device_type=CPU"])
def test_another_provider_runs_the_model(provider: str, expected: np.ndarray, tmp_path: Path) -> None:
    """ONNX Runtime's OpenVINO provider, in the build that has it."""
    environment = put_aside("providers")
    np.save(tmp_path / "image.npy", nets.IMAGE)
    asked = ("--execution-provider", provider, "--input", "image=image.npy", "-o", "out.npz")
    for strict in ((), ("--no-fallback",)):
        ran = run_aside(environment, tmp_path, "net.onnx", *asked, *strict)
        assert (ran.returncode, ran.stderr) == (0, "wrote `out.npz`\n")
        close(np.load(tmp_path / "out.npz")["scores"], expected)


@pytest.mark.parametrize(
    ("provider", "reason"),
    [("openvino:device_type=GPU", ""), ("openvino:nonsense=1", ": Invalid OpenVINO EP option: nonsense")],
)
def test_a_provider_that_onnx_runtime_drops_is_said(provider: str, reason: str, tmp_path: Path) -> None:
    """It is dropped without an exception where the device is missing, and with one for a wrong option."""
    environment = put_aside("providers")
    nets.onnx(tmp_path / "net.onnx")
    ran = run_aside(environment, tmp_path, "net.onnx", "--random", "--json", "--execution-provider", provider)
    assert ran.returncode == 0, ran.stderr
    assert f"warning: the execution provider `openvino` could not be started{reason}; the model" in ran.stderr
    assert json.loads(ran.stdout)["outputs"][0]["name"] == "scores"
    strict = run_aside(environment, tmp_path, "net.onnx", "--random", "--execution-provider", provider, "--no-fallback")
    assert strict.returncode == 1
    assert "\nhint: " in strict.stderr
    assert strict.stdout == ""


def test_engines_refuse_what_is_anothers(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    with pytest.raises(UsageError, match="no engine `tensorflow`"):
        lamella.Pipeline(path, engine="tensorflow")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="execution providers are ONNX Runtime's"):
        lamella.Pipeline(path, engine="opencv", execution_providers=["cuda"])
    with pytest.raises(UsageError, match="OpenVINO's IR, which the engine `opencv` does not read"):
        lamella.Pipeline(tmp_path / "model.xml", engine="opencv")


def test_an_output_of_another_shape_than_the_models_is_said(tmp_path: Path) -> None:
    """OpenCV pads a transposed convolution with `SAME_UPPER` as if it were not: ONNX's own example shows it."""
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])
    shapes = models.floats("x", [1, 1, 3, 3]), models.floats("y", [1, 2, 6, 6])
    graph = helper.make_graph([node], "same", [shapes[0]], [shapes[1]], [models.weight("w", 1, 2, 3, 3)])
    path = models.save(tmp_path / "same.onnx", graph)
    x = {"x": np.ones((1, 1, 3, 3), np.float32)}
    with lamella.Pipeline(path) as pipeline:
        assert pipeline.infer(x)["y"].shape == (1, 2, 6, 6)
    with (
        lamella.Pipeline(path, engine="opencv") as pipeline,
        pytest.warns(LamellaWarning, match=r"`y` the shape \[1, 2, 5, 5\], and the model says \[1, 2, 6, 6\]"),
    ):
        pipeline.infer(x)


def test_inputs_that_openvino_makes_constants_of_are_refused(tmp_path: Path) -> None:
    """Out of a model in memory, it takes a DFT without its axis."""
    axis = helper.make_tensor_value_info("axis", TensorProto.INT64, [])
    node = helper.make_node("DFT", ["x", "", "axis"], ["y"])
    graph = helper.make_graph([node], "dft", [models.floats("x", [1, 4, 1]), axis], [models.floats("y", [1, 4, 2])])
    model = models.save(tmp_path / "dft.onnx", graph, {"": 20}).read_bytes()
    with pytest.raises(EngineError, match="takes 1 of the model's 2 inputs") as caught:
        open_engine("openvino").load(model, EngineOptions())
    assert "--engine onnxruntime" in (caught.value.hint or "")


def test_options_of_openvino_reach_it(tmp_path: Path) -> None:
    engine, path = open_engine("openvino"), nets.onnx(tmp_path / "net.onnx")
    exact = engine.load(path, EngineOptions()).infer({"image": nets.IMAGE})["scores"]
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.warns(LamellaWarning, match="computes in f32, and not in bf16"):
            engine.load(path, EngineOptions(precision="bf16"))
        return
    rough = engine.load(path, EngineOptions(precision="bf16")).infer({"image": nets.IMAGE})["scores"]
    difference = np.abs(np.asarray(rough) - np.asarray(exact)).max()
    assert 0 < difference < 0.05
