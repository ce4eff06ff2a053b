"""A weight that is too large for a slice is split, and the slices still give the whole model's answer."""

import json
import re
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.models import floats, mlp, save, weight

import lamella
from lamella.errors import PlanError
from lamella.planner import Plan, read_plan, write_plan
from lamella.planner.plan import ENGINE_FLOOR_BYTES
from lamella.slicing.bisect import first_difference

KIB = 1 << 10


def classifier(folder: Path) -> Path:
    """`x` through a `Gemm` of 200 KiB, transposed, to `hidden`, and one of 20 KiB to `y`: as VGG ends."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["wide"], "first", transB=1),
        helper.make_node("Relu", ["wide"], ["hidden"], "relu"),
        helper.make_node("Gemm", ["hidden", "w1"], ["y"], "last"),
    ]
    weights = [weight("w0", 100, 512), weight("b0", 100), weight("w1", 100, 50)]
    graph = helper.make_graph(nodes, "classifier", [floats("x", ["n", 512])], [floats("y", ["n", 50])], weights)
    return save(folder / "m.onnx", graph)


def vocabulary(folder: Path, *, tied: bool) -> Path:
    """`ids` into a table of 250 KiB, a sum, and a product with the table, or with columns of another, to `logits`."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"], "embed"),
        helper.make_node("ReduceMean", ["embedded"], ["mean"], "mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "table"], ["logits"], "head", transB=1)
        if tied
        else helper.make_node("MatMul", ["mean", "columns"], ["logits"], "head"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])
    weights = [weight("table", 1001, 64)] + ([] if tied else [weight("columns", 64, 1001)])
    return save(folder / "m.onnx", helper.make_graph(nodes, "lm", [ids], [floats("logits", ["batch", 1001])], weights))


def limit(bytes_: int) -> int:
    return ENGINE_FLOOR_BYTES + bytes_


def assert_fits(plan: Plan, bytes_: int) -> None:
    assert max(part.weights_bytes + part.activations_bytes for part in plan.slices) <= bytes_


@pytest.mark.parametrize("copy_weights", [False, True])
def test_a_large_gemm_is_split_into_the_fewest_parts_that_fit(tmp_path: Path, copy_weights: bool) -> None:
    plan = lamella.plan(classifier(tmp_path), max_memory_bytes=limit(80 * KIB))
    assert [(s.node, s.weight, s.axis, s.parts) for s in plan.splits] == [(0, "w0", 0, 3)]
    assert_fits(plan, 80 * KIB)
    sliced = lamella.slice(plan, tmp_path / "s", copy_weights=copy_weights)
    assert sliced.verification is not None
    assert sliced.verification.ok
    if not copy_weights:
        assert {placement.method for placement in sliced.placements} == {"hard-link"}
    assert lamella.verify(tmp_path / "m.onnx", tmp_path / "s").ok
    feeds = {"x": np.random.default_rng(0).standard_normal((7, 512)).astype(np.float32)}
    assert lamella.verify(tmp_path / "m.onnx", tmp_path / "s", inputs=feeds).ok


@pytest.mark.parametrize(("make", "kib", "parts"), [(classifier, 45, 4), (partial(vocabulary, tied=False), 140, 3)])
def test_parts_do_not_wait_for_each_other(tmp_path: Path, make: Callable[[Path], Path], kib: int, parts: int) -> None:
    plan = lamella.plan(make(tmp_path), max_memory_bytes=limit(kib * KIB))
    first, *others = plan.stages
    assert len(first) == parts  # and, of the classifier, a fifth in one slice with what puts them together
    assert plan.after[len(first)] == first
    assert [plan.after[index] for index in first] == [()] * len(first)
    assert sorted(index for stage in others for index in stage) == list(range(len(first), len(plan.slices)))


def test_rows_that_are_inputs_are_split_in_place_and_added(tmp_path: Path) -> None:
    plan = lamella.plan(mlp(tmp_path / "m.onnx", layers=2, width=128), max_memory_bytes=limit(40 * KIB))
    assert [(s.node, s.axis, s.parts) for s in plan.splits] == [(0, 0, 2), (3, 0, 2)]
    assert [node.op[1] for node in plan.model.graph.nodes if node.op[1] == "Sum"] == ["Sum", "Sum"]
    sliced = lamella.slice(plan, tmp_path / "s")
    assert {placement.method for placement in sliced.placements} == {"hard-link"}
    assert sliced.verification is not None
    assert 0 < sliced.verification.max_abs_diff < 1e-5


def test_slices_in_a_row_are_one_stage_each(tmp_path: Path) -> None:
    plan = lamella.plan(classifier(tmp_path), slices=3)
    assert plan.stages == ((0,), (1,), (2,))
    assert plan.splits == ()
    assert plan.whole is plan.model


def test_everything_that_is_too_large_is_split_and_columns_are_copied(tmp_path: Path) -> None:
    plan = lamella.plan(vocabulary(tmp_path, tied=False), max_memory_bytes=limit(160 * KIB))
    assert {(s.weight, s.axis) for s in plan.splits} == {("table", 0), ("columns", 1)}
    assert_fits(plan, 160 * KIB)
    sliced = lamella.slice(plan, tmp_path / "s")
    assert {(p.path.name, p.method) for p in sliced.placements} == {
        ("m.onnx", "hard-link"),
        ("typed_weights.data", "copy"),
    }
    copied = (tmp_path / "s" / "typed_weights.data").stat().st_size
    assert 64 * 1001 * 4 <= copied < 64 * 1001 * 4 + 4096 * 4
    ids = np.array([[0, -1, 1000, -1001, 500, 3]])
    assert lamella.verify(tmp_path / "m.onnx", tmp_path / "s", inputs={"ids": ids}).ok


def test_a_table_shared_by_two_nodes_is_split_for_both(tmp_path: Path) -> None:
    plan = lamella.plan(vocabulary(tmp_path, tied=True), max_memory_bytes=limit(160 * KIB))
    assert [(s.node, s.weight, s.axis) for s in plan.splits] == [(0, "table", 0), (2, "table", 0)]
    assert "table" not in plan.model.graph.initializers
    sliced = lamella.slice(plan, tmp_path / "s")
    assert sliced.verification is not None
    with lamella.Pipeline(sliced, low_memory=True) as parts, lamella.Pipeline(tmp_path / "m.onnx") as whole:
        ids = {"ids": np.array([[5, -7], [1000, 0], [-1, 2]])}
        np.testing.assert_allclose(parts.infer(ids)["logits"], whole.infer(ids)["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("index", [1001, -1002])
def test_an_index_outside_the_table_is_refused_as_by_the_whole(tmp_path: Path, index: int) -> None:
    model = vocabulary(tmp_path, tied=False)
    sliced = lamella.slice(model, tmp_path / "s", max_memory_bytes=limit(140 * KIB))
    assert sliced.plan.splits[0].parts > 2
    for source in (model, sliced):
        with lamella.Pipeline(source) as pipeline, pytest.raises(lamella.LamellaError, match="out of data bounds"):
            pipeline.infer({"ids": np.array([[1, index]])})


def test_a_convolution_in_external_data_is_split(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "k", "c"], ["z"], "conv"), helper.make_node("Relu", ["z"], ["y"])]
    image, output = floats("x", ["n", 32, 8, 8]), floats("y", ["n", 50, 6, 6])
    graph = helper.make_graph(nodes, "conv", [image], [output], [weight("k", 50, 32, 3, 3), weight("c", 50)])
    path = save(tmp_path / "m.onnx", graph)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=64)
    plan = lamella.plan(path, max_memory_bytes=limit(50 * KIB))
    assert plan.splits[0].weight == "k"
    verification = lamella.slice(plan, tmp_path / "s").verification
    assert verification is not None
    assert verification.ok


def test_a_plan_with_splits_is_read_again_and_follows_its_schema(tmp_path: Path) -> None:
    plan = lamella.plan(vocabulary(tmp_path, tied=False), max_memory_bytes=limit(160 * KIB))
    write_plan(plan, tmp_path / "p.json")
    content = json.loads((tmp_path / "p.json").read_text())
    jsonschema.validate(content, json.loads(files("lamella.planner").joinpath("plan.schema.json").read_text()))
    again = read_plan(tmp_path / "p.json")
    assert (again.slices, again.splits, again.crossing_bytes) == (plan.slices, plan.splits, plan.crossing_bytes)
    assert again.model.structure == plan.model.structure
    assert again.to_json() == plan.to_json()
    first = lamella.slice(plan, tmp_path / "a", verify=False).manifest
    assert lamella.slice(again, tmp_path / "b", verify=False).manifest == first


@pytest.mark.parametrize(
    "splits",
    [
        5,
        [5],
        [{"node": 0, "weight": 3, "axis": 0, "parts": 2}],
        [{"node": -1, "weight": "w0", "axis": 0, "parts": 2}],
        [{"node": 99, "weight": "w0", "axis": 0, "parts": 2}],
        [{"node": 1, "weight": "w0", "axis": 0, "parts": 2}],
        [{"node": 0, "weight": "w0", "axis": 5, "parts": 2}],
        [{"node": 0, "weight": "w0", "axis": 0, "parts": 10**9}],
        [{"node": 0, "weight": "w0"}],
        [{"node": 0, "weight": "w0", "axis": 0, "parts": 2}] * 2,
        [{"node": 0, "weight": "w0", "axis": 0, "parts": 4}],
    ],
)
def test_a_plan_with_splits_that_do_not_fit_the_model_is_refused(tmp_path: Path, splits: object) -> None:
    write_plan(lamella.plan(classifier(tmp_path), max_memory_bytes=limit(80 * KIB)), tmp_path / "p.json")
    content = json.loads((tmp_path / "p.json").read_text())
    (tmp_path / "p.json").write_text(json.dumps({**content, "splits": splits}))
    with pytest.raises(PlanError):
        read_plan(tmp_path / "p.json")


def test_what_cannot_be_split_says_why(tmp_path: Path) -> None:
    graph = onnx.load(classifier(tmp_path)).graph
    graph.output.append(floats("w0", [100, 512]))
    kept = save(tmp_path / "kept.onnx", graph)
    with pytest.raises(PlanError, match="cannot be split: its weight `w0` is an output of the model too"):
        lamella.plan(kept, max_memory_bytes=limit(80 * KIB))
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    packed = numpy_helper.from_array(np.ones((512, 100), np.int8), "packed")
    nodes = [
        helper.make_node("DequantizeLinear", ["packed", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    graph = helper.make_graph(nodes, "q", [floats("x", ["n", 512])], [floats("y", ["n", 100])], [packed, scale])
    with pytest.raises(PlanError, match=r"MatMul 'product' cannot be split: .* dequantised"):
        lamella.plan(save(tmp_path / "q.onnx", graph), max_memory_bytes=limit(80 * KIB))


def test_activations_that_are_too_large_are_no_matter_of_splits(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no number of parts is small enough") as error:
        lamella.plan(classifier(tmp_path), max_memory_bytes=limit(2 * KIB))
    assert error.value.hint is not None
    more = int(re.findall(r"by at least (\d+) bytes", error.value.hint)[0])
    with pytest.raises(PlanError):
        lamella.plan(classifier(tmp_path), max_memory_bytes=limit(2 * KIB + more - 1))
    assert len(lamella.plan(classifier(tmp_path), max_memory_bytes=limit(2 * KIB + more + 64)).splits) == 2


def test_a_part_with_other_bytes_is_found_where_the_parts_are_put_together(tmp_path: Path) -> None:
    plan = lamella.plan(classifier(tmp_path), max_memory_bytes=limit(45 * KIB))
    directory = lamella.slice(plan, tmp_path / "s", copy_weights=True).directory
    with (directory / "slice_001.data").open("r+b") as file:
        file.seek(8000)
        file.write(np.full(500, 3, np.float32).tobytes())
    feeds = {"x": np.ones((2, 512), np.float32)}
    found = first_difference(plan.whole, directory, feeds, None, ())
    assert found is not None
    assert found.output.name == "wide"


def test_the_optimised_model_is_split_too(tmp_path: Path) -> None:
    sliced = lamella.slice(classifier(tmp_path), tmp_path / "s", max_memory_bytes=limit(80 * KIB), optimize_first=True)
    assert [s.parts for s in sliced.plan.splits] == [3]
    assert sliced.verification is not None
    assert sliced.verification.ok
