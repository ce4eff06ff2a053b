"""`lamella run`."""

import io
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tests import models
from tests.functional.cli.conftest import Lamella, Process


@pytest.fixture
def slices(lamella: Lamella) -> str:
    assert lamella("slice", "mlp.onnx", "--slices", "3", "-o", "mlp.slices").status == 0
    return "mlp.slices"


def test_json_has_the_keys_of_the_contract(lamella: Lamella, slices: str) -> None:
    result = lamella("run", slices, "--random", "--repeat", "4", "--json")
    assert (result.status, result.err) == (0, "")
    shown = result.json
    assert shown["schema"] == "lamella.run/1"
    assert [output["name"] for output in shown["outputs"]] == ["y"]
    assert shown["outputs"][0].keys() >= {"name", "datatype", "shape", "min", "max", "mean"}
    assert shown["outputs"][0]["shape"] == [1, 32]
    assert len(shown["latency_ms"]) == 4
    assert len(shown["slices"]) == 3
    assert all(part["load_ms"] > 0 < part["infer_ms"] for part in shown["slices"])
    assert shown["peak_rss_bytes"] > 10 << 20


@pytest.mark.usefixtures("slices")
@pytest.mark.parametrize("flags", [[], ["--low-memory"], ["--threads", "1"]])
@pytest.mark.parametrize("source", ["mlp.onnx", "mlp.slices"])
def test_outputs_are_onnx_runtimes_own(lamella: Lamella, source: str, flags: list[str]) -> None:
    x = np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)
    np.save("x.npy", x)
    result = lamella("run", source, "--input", "x=x.npy", "-o", "out.npz", *flags)
    assert (result.status, result.err) == (0, "wrote `out.npz`\n")
    session = ort.InferenceSession("mlp.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(np.load("out.npz")["y"], session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)


def test_tables_show_outputs_times_and_memory(lamella: Lamella, slices: str) -> None:
    result = lamella("run", slices, "--random", "--repeat", "3")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["output", "datatype", "shape", "min", "max", "mean", "values"]
    assert lines[1].startswith("y       FP32      [1, 32]")
    assert lines[3].split() == ["slice", "load", "infer"]
    assert lines[8].startswith("latency")
    assert lines[8].endswith("(median of 3)")
    assert lines[9].startswith("peak memory  ")


def test_dash_writes_the_archive_and_nothing_else_to_stdout(process: Process) -> None:
    result = process("run", "mlp.onnx", "--random", "-o", "-")
    assert (result.returncode, result.stderr) == (0, b"")
    assert np.load(io.BytesIO(result.stdout))["y"].shape == (1, 32)


def test_seed_chooses_the_made_up_inputs(lamella: Lamella) -> None:
    means = [
        lamella("run", "mlp.onnx", "--random", "--seed", seed, "--json").json["outputs"][0]["mean"] for seed in "112"
    ]
    assert means[0] == means[1] != means[2]


def test_made_up_inputs_fit_given_ones(lamella: Lamella, folder: Path) -> None:
    models.lookup(folder / "lookup.onnx")
    np.save("ids.npy", np.array([[1, 2, 3], [4, 5, 6]]))
    result = lamella("run", "lookup.onnx", "--input", "ids=ids.npy", "--random", "--json")
    assert result.status == 0, result.err
    assert result.json["outputs"][0]["shape"] == [2, 8]


def test_inputs_come_from_one_archive(lamella: Lamella, folder: Path) -> None:
    models.lookup(folder / "lookup.onnx")
    np.savez("in.npz", ids=np.array([[1, 2]]), mask=np.ones((1, 2), np.float32))
    assert lamella("run", "lookup.onnx", "--input", "in.npz").status == 0


def test_text_goes_in_and_comes_out(lamella: Lamella, folder: Path) -> None:
    models.strings(folder / "strings.onnx")
    assert lamella("slice", "strings.onnx", "--slices", "3").status == 0
    Path("words.json").write_text(json.dumps(["dog", "cow", "cat"]))
    result = lamella("run", "strings.slices", "--input", "words=words.json", "-o", "out.npz", "--json")
    assert result.status == 0, result.err
    assert result.json["outputs"][0] == {
        "name": "names",
        "datatype": "BYTES",
        "shape": [3],
        "min": None,
        "max": None,
        "mean": None,
    }
    assert np.load("out.npz")["names"].tolist() == ["canine", "unknown", "feline"]
    assert "'canine', 'unknown', 'feline'" in lamella("run", "strings.slices", "--input", "words=words.json").out


def test_sequence_is_shown_and_saved_one_by_one(lamella: Lamella, folder: Path) -> None:
    models.sequence(folder / "sequence.onnx")
    result = lamella("run", "sequence.onnx", "--random", "-o", "out.npz", "--json")
    assert result.status == 0, result.err
    assert result.json["outputs"][0]["shape"] is None
    assert set(np.load("out.npz").files) == {"parts.0", "parts.1", "parts.2", "largest"}


def test_not_a_number_stays_valid_json(lamella: Lamella) -> None:
    np.save("x.npy", np.full((1, 32), np.nan, np.float32))
    assert lamella("run", "mlp.onnx", "--input", "x=x.npy", "--json").json["outputs"][0]["mean"] == "NaN"


def test_library_of_custom_operators_is_found_in_the_current_folder(lamella: Lamella) -> None:
    Path("ops.so").write_text("no library")
    result = lamella("run", "mlp.onnx", "--random", "--custom-ops", "ops.so")
    assert result.status == 1
    assert f"the custom operators in `{Path('ops.so').resolve()}` cannot be registered" in result.err
    assert "cannot open shared object file" not in result.err


@pytest.mark.usefixtures("slices")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "opencv"])
@pytest.mark.parametrize("source", ["mlp.onnx", "mlp.slices"])
def test_any_engine_gives_the_same(lamella: Lamella, source: str, engine: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)
    np.save("x.npy", x)
    result = lamella("run", source, "--input", "x=x.npy", "-o", "out.npz", "--engine", engine, "--json")
    assert (result.status, result.err) == (0, "wrote `out.npz`\n")
    assert result.json["engine"] == engine
    session = ort.InferenceSession("mlp.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(np.load("out.npz")["y"], session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)


def test_the_environment_may_choose_the_engine(lamella: Lamella, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMELLA_ENGINE", "opencv")
    assert lamella("run", "mlp.onnx", "--random", "--json").json["engine"] == "opencv"
    assert lamella("run", "mlp.onnx", "--random", "--json", "--engine", "openvino").json["engine"] == "openvino"


def test_execution_providers_that_are_lacking_are_said_once_each_on_stderr(lamella: Lamella, slices: str) -> None:
    asked = ("--execution-provider", "tensorrt", "--execution-provider", "cuda:device_id=1")
    result = lamella("run", slices, "--random", "--json", *asked)
    assert result.status == 0
    assert [line.split("; ")[0] for line in result.err.splitlines()] == [
        f"warning: this ONNX Runtime has no execution provider `{name}`, and the model runs without it"
        for name in ("tensorrt", "cuda")
    ]
    assert len(result.json["slices"]) == 3
    again = lamella("run", slices, "--random", "--json", *asked)
    assert again.err == result.err


def test_a_model_for_another_engine_is_known_by_its_content(lamella: Lamella) -> None:
    Path("model.onnx").write_text('<?xml version="1.0"?>\n<net name="Model0" version="11">')
    result = lamella("inspect", "model.onnx")
    assert result.status == 2
    assert result.err.startswith("error: `model.onnx` is OpenVINO's IR\n")
