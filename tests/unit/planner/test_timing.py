"""How long nodes take on a platform."""

from dataclasses import replace
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from tests import models

from lamella.graph.model import Model
from lamella.graph.reader import load
from lamella.planner.plan import structure_sha256
from lamella.planner.profile import Machine, Profile
from lamella.planner.sizes import value_sizes
from lamella.planner.timing import node_times
from lamella.planner.work import WEIGHTS_SLOWDOWN
from lamella.platforms.base import Speeds

SPEEDS = Speeds(
    mb_per_vcpu=1769,
    vcpus_max=6,
    cpu_period_ms=0,
    parallel_share=0.9,
    gflops_per_vcpu=50,
    memory_gb_s=10,
    operator_us=5,
    runtime_init_ms=200,
    package_mb_s=100,
    package_init_ms=100,
    weights_mb_s=300,
    object_mb_s=80,
    object_request_ms=20,
    session_ms_per_node=0.1,
    session_ms_per_mb=1,
    hop_ms=10,
    handler_ms=0,
    inline_mb_s=30,
    inline_bytes=200_000,
    floor_mb=50,
    weights_factor=1.1,
    activations_factor=1.1,
)


def times(model: Model, profile: Profile | None = None, **dims: int) -> list[float]:
    _, values = value_sizes(model, dims=dims)
    return node_times(model, values, dims, SPEEDS, profile)


def profile_of(model: Model, node_ms: tuple[float, ...], machine: Machine, **dims: int) -> Profile:
    return Profile(structure_sha256(model), machine, {}, 1, dims, 9, sum(node_ms), node_ms, 1.0, 0, 0)


SAME = Machine("this one", 50.0, 10.0, 47 << 20, 160.0)


def test_without_a_profile_an_operator_takes_what_it_computes_or_moves(tmp_path: Path) -> None:
    model = load(models.mlp(tmp_path / "mlp.onnx", layers=1, width=512))
    product, shifted, _ = times(model, batch=1)
    weights_ms = WEIGHTS_SLOWDOWN * 512 * 512 * 4 / 10e9 * 1000
    assert product == pytest.approx(0.005 + weights_ms + 2 * 512 * 512 / 50e9 * 1000)
    assert shifted == pytest.approx(0.005 + (2 + WEIGHTS_SLOWDOWN) * 512 * 4 / 10e9 * 1000)
    product, _, positive = times(model, batch=512)
    assert product == pytest.approx(0.005 + weights_ms + 2 * 512**3 / 50e9 * 1000)
    assert positive == pytest.approx(0.005 + 2 * 512 * 512 * 4 / 10e9 * 1000)


def test_what_engines_compute_within_a_convolution_takes_no_time_of_its_own(tmp_path: Path) -> None:
    model = load(models.residual_conv(tmp_path / "m.onnx"))
    free = [node.name for node, time in zip(model.graph.nodes, times(model), strict=True) if time == 0]
    assert free == ["relu0", "skip", "relu1"]


def test_nodes_that_depend_on_weights_alone_take_no_time(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    inputs, outputs = [models.floats("x", [4, 64])], [models.floats("y", [4, 64])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [models.weight("w", 64, 64)])
    turned, product = times(load(models.save(tmp_path / "m.onnx", graph)))
    assert turned == 0
    assert product > 0


def test_with_a_profile_of_an_equal_machine_times_are_the_measured_ones(tmp_path: Path) -> None:
    model = load(models.mlp(tmp_path / "mlp.onnx", layers=1))
    assert times(model, profile_of(model, (3.0, 2.0, 1.0), SAME, batch=1), batch=1) == [3.0, 2.0, 1.0]


def test_a_faster_machine_s_times_grow_by_what_bounds_each_node(tmp_path: Path) -> None:
    model = load(models.mlp(tmp_path / "mlp.onnx", layers=1, width=512))
    machine = replace(SAME, gflops=200.0, memory_gb_s=15.0)
    product, shifted, positive = times(model, profile_of(model, (4.0, 2.0, 1.0), machine, batch=4096), batch=4096)
    assert product == pytest.approx(16.0, rel=0.02)  # but for its weights
    assert (shifted, positive) == pytest.approx((3.0, 1.5))


def test_a_profile_serves_other_dimensions_in_proportion_to_the_work(tmp_path: Path) -> None:
    model = load(models.mlp(tmp_path / "mlp.onnx", layers=1, width=512))
    profile = profile_of(model, (4.0, 2.0, 1.0), SAME, batch=512)
    product, _, positive = times(model, profile, batch=1024)
    assert product == pytest.approx(8.0, rel=0.05)  # its weights come once for twice the rows
    assert product < 8.0
    assert positive == pytest.approx(2.0)


def test_a_node_of_unknown_work_scales_with_the_processor(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Cast", ["places"], ["y"], to=1)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, "found"])]
    graph = helper.make_graph(nodes, "g", [models.floats("x", [2, 3])], outputs)
    model = load(models.save(tmp_path / "m.onnx", graph))
    machine = replace(SAME, gflops=200.0)
    assert times(model, profile_of(model, (0.5, 1.0), machine))[1] == pytest.approx(4.0)
