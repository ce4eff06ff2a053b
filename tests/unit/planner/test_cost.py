"""The cost model, against figures worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from lamella.planner.cost import CostModel, Load
from lamella.platforms import load_platform
from lamella.platforms.base import MB, Limits, Platform, Pricing, Speeds

SPEEDS = Speeds(
    mb_per_vcpu=1000,
    vcpus_max=4,
    cpu_period_ms=0,
    parallel_share=0.5,
    gflops_per_vcpu=10,
    memory_gb_s=10,
    operator_us=1,
    runtime_init_ms=200,
    package_mb_s=100,
    package_init_ms=50,
    weights_mb_s=1000,
    object_mb_s=100,
    object_request_ms=20,
    session_ms_per_node=0.1,
    session_ms_per_mb=2,
    hop_ms=5,
    handler_ms=0,
    inline_mb_s=10,
    inline_bytes=MB,
    floor_mb=60,
    weights_factor=1.5,
    activations_factor=2,
)
PRICING = Pricing(
    gb_s_usd={"x86_64": 1.0},
    request_usd=0.25,
    billing_step_ms=100,
    workflow_transition_usd=0.5,
    object_put_usd=0.01,
    object_get_usd=0.001,
)
PLATFORM = Platform(
    name="test",
    title="Test",
    architectures=("x86_64",),
    python_versions=(),
    limits=Limits(memory_min_mb=100, memory_max_mb=4096, package_unzipped_bytes=300 * MB),
    pricing=PRICING,
    speeds=SPEEDS,
    figures={},
)
LOAD = Load(
    compute_ms=300.0,
    nodes=100,
    weights_bytes=100 * MB,
    held_bytes=100 * MB,
    activations_bytes=10 * MB,
    inline_bytes=MB,
    object_in_bytes=10 * MB,
    object_out_bytes=0,
    objects_in=2,
    objects_out=0,
)


def model(platform: Platform = PLATFORM) -> CostModel:
    return CostModel(platform, "x86_64", 100 * MB)


@pytest.mark.parametrize(
    ("busy_ms", "memory_mb", "expected_ms"),
    [
        (4, 250, 4),  # within the share of one period: as on a whole processor
        (5, 250, 5),
        (100, 250, 385),  # 100 / 0.25, less the 15 ms that the idle function had saved up and that it need not wait
        (100, 500, 190),
        (100, 1000, 100),
        (100, 2000, 75),  # above one processor there is nothing to wait for
    ],
)
def test_idle_function_begins_with_the_share_of_a_period(busy_ms: float, memory_mb: int, expected_ms: float) -> None:
    platform = replace(PLATFORM, speeds=replace(SPEEDS, cpu_period_ms=20))
    costs = model(platform).costs(replace(LOAD, compute_ms=busy_ms, inline_bytes=0), memory_mb, workflow=False)
    assert float(costs.compute_ms) == pytest.approx(expected_ms)


def test_handler_waits_for_its_share_as_operators_do() -> None:
    platform = replace(PLATFORM, speeds=replace(SPEEDS, handler_ms=10))
    load = replace(LOAD, compute_ms=20, inline_bytes=0, object_in_bytes=0, objects_in=0)
    costs = model(platform).costs(load, 500, workflow=False)
    assert float(costs.transfer_ms) == pytest.approx(20)
    assert float(costs.compute_ms) == pytest.approx(40)


@pytest.mark.parametrize(("memory_mb", "speedup"), [(250, 0.25), (1000, 1), (2000, 4 / 3), (4000, 1.6), (8000, 1.6)])
def test_processors_come_with_memory_and_help_as_amdahl_says(memory_mb: int, speedup: float) -> None:
    assert float(np.asarray(model().speedup(memory_mb))) == pytest.approx(speedup)


def test_times_of_half_a_processor() -> None:
    costs = model().costs(LOAD, 500, workflow=False)
    assert costs.compute_ms == pytest.approx(600)
    assert costs.transfer_ms == pytest.approx(100 / 0.5 + 100 + 20)  # encoding at half speed, bandwidth, one request
    assert costs.warm_ms == pytest.approx(5 + 600 + 320)
    assert costs.start_ms == pytest.approx(50 + 200 / 100 * 1000)
    assert costs.runtime_ms == pytest.approx(400)
    assert costs.weights_ms == pytest.approx(100)  # they are in the package
    assert costs.session_ms == pytest.approx((10 + 200) / 0.5)
    assert costs.cold_ms == pytest.approx(costs.warm_ms + 2050 + 400 + 100 + 420)


def test_price_rounds_the_duration_up_and_adds_requests_objects_and_steps() -> None:
    alone, step = (model().costs(LOAD, 512, workflow=workflow) for workflow in (False, True))
    billed_s = np.ceil((float(alone.transfer_ms) + float(alone.compute_ms)) / 100) / 10
    assert alone.warm_usd == pytest.approx(0.5 * billed_s + 0.25 + 2 * 0.001)
    assert step.warm_usd == pytest.approx(float(alone.warm_usd) + 0.5)


def test_initialisation_is_billed_where_the_platform_says_so() -> None:
    billed, free = (
        model(replace(PLATFORM, pricing=replace(PRICING, init_billed=billed))).costs(LOAD, 1024, workflow=False)
        for billed in (True, False)
    )
    assert free.cold_usd == pytest.approx(free.warm_usd)
    assert float(billed.cold_usd) > float(free.cold_usd)


def test_weights_that_make_the_package_too_large_come_from_the_object_store() -> None:
    large = replace(LOAD, weights_bytes=250 * MB)
    assert bool(model().in_package(LOAD))
    assert not bool(model().in_package(large))
    costs = model().costs(large, 1000, workflow=False)
    assert costs.weights_ms == pytest.approx(2500 + 20)
    assert costs.start_ms == pytest.approx(50 + 1000)


def test_an_initialisation_over_the_limit_is_lost_and_run_again() -> None:
    limited = replace(PLATFORM, limits=replace(PLATFORM.limits, init_timeout_s=0.5))
    within, beyond = (model(limited).costs(LOAD, memory_mb, workflow=False) for memory_mb in (4000, 500))
    assert within.lost_ms == pytest.approx(500)  # 200 + 100 + 210 ms even on a whole processor
    assert beyond.lost_ms == pytest.approx(500)
    assert model().costs(LOAD, 500, workflow=False).lost_ms == 0
    assert beyond.init_ms == pytest.approx(500 + 400 + 100 + 420)


def test_peak_memory_is_the_floor_and_what_the_slice_holds() -> None:
    assert model().peak_bytes(LOAD) == pytest.approx((60 + 150 + 20 + 1 + 10) * MB)


def test_arrays_cost_what_each_of_their_elements_costs() -> None:
    loads = [replace(LOAD, compute_ms=float(ms), weights_bytes=mb * MB) for ms, mb in ((1, 10), (50, 100), (999, 400))]
    together = Load(**{name: np.array([getattr(load, name) for load in loads], float) for name in vars(LOAD)})
    memory = np.array([128.0, 1000.0, 4096.0])
    found = model().costs(together, memory, workflow=np.array([True, False, True]))
    for index, (load, memory_mb) in enumerate(zip(loads, memory, strict=True)):
        one = model().costs(load, float(memory_mb), workflow=index != 1)
        for name in ("warm_ms", "cold_ms", "ready_ms", "warm_usd", "cold_usd"):
            assert np.broadcast_to(getattr(found, name), 3)[index] == pytest.approx(float(getattr(one, name)))


def test_processors_billed_apart() -> None:
    platform = load_platform("gcp-run")
    costs = CostModel(platform, platform.architectures[0], 0)
    one_vcpu = platform.speeds.mb_per_vcpu
    assert costs.second_usd(one_vcpu) == pytest.approx(0.000024 + 0.0000025 * one_vcpu / 1024)
