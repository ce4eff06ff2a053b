"""Profiles of real models, measured here."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from onnx import TensorProto, helper
from tests import models

from lamella.errors import EngineError, InputError, UsageError
from lamella.graph.reader import load
from lamella.planner.profile import profile_path, read_profile, write_profile
from lamella.planner.profiling import measure_machine, measure_profile


def uneven(path: Path, *, narrow: int = 64, wide: int = 1024) -> Path:
    """`x` FP32[64, narrow] widened, through one product with most of the work, and narrowed; Gelu in the middle."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "widen"),
        helper.make_node("MatMul", ["a", "w1"], ["b"], "heavy"),
        helper.make_node("Div", ["b", "root"], ["c"], "divide"),
        helper.make_node("Erf", ["c"], ["d"], "erf"),
        helper.make_node("Add", ["d", "one"], ["e"], "shift"),
        helper.make_node("Mul", ["b", "e"], ["f"], "gate"),
        helper.make_node("Mul", ["f", "half"], ["g"], "halve"),
        helper.make_node("MatMul", ["g", "w2"], ["y"], "narrow"),
    ]
    weights = [
        *(models.weight(f"w{i}", *shape) for i, shape in enumerate([(narrow, wide), (wide, wide), (wide, narrow)])),
        *(helper.make_tensor(n, 1, [], [v]) for n, v in [("root", 1.4142135), ("one", 1.0), ("half", 0.5)]),
    ]
    inputs, outputs = [models.floats("x", [64, narrow])], [models.floats("y", [64, narrow])]
    return models.save(path, helper.make_graph(nodes, "uneven", inputs, outputs, weights))


def test_a_profile_tells_which_operators_take_the_time(tmp_path: Path) -> None:
    path = uneven(tmp_path / "uneven.onnx")
    profile = measure_profile(path, rounds=20)
    assert sum(profile.node_ms) == pytest.approx(profile.measured_ms)
    assert all(time > 0 for time in profile.node_ms)  # those that were fused into Gelu have their parts
    by_name = {node.name: time for node, time in zip(load(path).graph.nodes, profile.node_ms, strict=True)}
    assert by_name["heavy"] > 0.4 * profile.measured_ms
    assert by_name["heavy"] > 3 * max(by_name["widen"], by_name["narrow"])
    assert profile.machine.gflops > 1
    assert profile.machine.memory_gb_s > 0.1
    assert profile.machine.runtime_ms > 10
    assert profile.machine.floor_bytes > 20 << 20
    assert profile.resident_bytes > 4 << 20
    assert profile.peak_bytes >= profile.resident_bytes
    assert profile.rounds == 20


def test_convolutions_in_another_layout_are_found_again(tmp_path: Path) -> None:
    path = models.residual_conv(tmp_path / "m.onnx", channels=32)
    profile = measure_profile(path, rounds=20)
    by_name = {node.name: time for node, time in zip(load(path).graph.nodes, profile.node_ms, strict=True)}
    assert sum(by_name.values()) == pytest.approx(profile.measured_ms)
    assert by_name["conv0"] > by_name["relu0"]
    assert by_name["conv1"] > by_name["skip"]


def test_a_profile_goes_to_a_file_and_follows_its_schema(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    profile = measure_profile(path, rounds=1)
    write_profile(profile, profile_path(path))
    schema = json.loads(files("lamella.planner").joinpath("profile.schema.json").read_text())
    jsonschema.validate(json.loads(profile_path(path).read_text()), schema)
    assert read_profile(profile_path(path), load(path)) == profile
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mlp.onnx", "mlp.profile.json"]


def test_given_inputs_and_sizes_are_used_and_recorded(tmp_path: Path) -> None:
    path = models.lookup(tmp_path / "m.onnx")
    ids = np.zeros((2, 5), np.int64)
    assert measure_profile(path, inputs={"ids": ids}, rounds=1).dims == {"batch": 2, "sequence": 5}
    assert measure_profile(path, dims={"sequence": 7}, rounds=1).dims == {"batch": 1, "sequence": 7}


def test_bodies_and_text_are_measured_too(tmp_path: Path) -> None:
    for builder in (models.conditional, models.strings):
        profile = measure_profile(builder(tmp_path / f"{builder.__name__}.onnx"), rounds=3)
        assert sum(profile.node_ms) == pytest.approx(profile.measured_ms)


def test_inputs_that_cannot_be_made_up_are_asked_for(tmp_path: Path) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    inputs = [helper.make_value_info("parts", kind)]
    nodes = [helper.make_node("SequenceLength", ["parts"], ["count"])]
    outputs = [helper.make_tensor_value_info("count", TensorProto.INT64, [])]
    path = models.save(tmp_path / "m.onnx", helper.make_graph(nodes, "g", inputs, outputs))
    with pytest.raises(InputError, match="cannot be made up") as caught:
        measure_profile(path)
    assert caught.value.hint == "give it with `--input`"


def test_made_up_inputs_that_do_not_run_are_said_to_be_made_up(tmp_path: Path) -> None:
    inputs = [models.floats("x", ["rows", 4]), models.floats("z", [3, "columns"])]
    nodes = [helper.make_node("MatMul", ["x", "z"], ["y"])]
    path = models.save(
        tmp_path / "m.onnx", helper.make_graph(nodes, "g", inputs, [models.floats("y", ["rows", "columns"])])
    )
    with pytest.raises(EngineError) as caught:
        measure_profile(path)
    assert caught.value.hint == "inputs were made up: give real ones with `--input`"


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    with pytest.raises(InputError, match="the model has no input `z`"):
        measure_profile(path, inputs={"z": np.zeros((1, 32), np.float32)})
    with pytest.raises(UsageError, match="1 thread and 1 round"):
        measure_profile(path, rounds=0)
    with pytest.raises(EngineError) as caught:
        measure_profile(path, inputs={"x": np.zeros((1, 31), np.float32)})
    assert caught.value.hint == "give inputs of the shapes that `lamella inspect` shows"


def test_the_machine_is_measured_by_itself() -> None:
    machine = measure_machine()
    assert machine.gflops > 1
    assert machine.processor
