import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from agreement import Pair, kendall_tau, regret, swaps
from baselines import BASELINES
from cgroup import MB_PER_VCPU, function_cgroup
from chain import Slices, measure_chain, measure_transport
from estimates_report import QUANTITIES, documented, pairs
from function import Function, FunctionError, started
from measure import Sample
from models import BenchModel
from results import Group, summarised
from tables import BEGIN, END
from tests.models import mlp

import lamella
from lamella.planner.cuts import cuts_of
from lamella.planner.flow import flow_of
from lamella.planner.sizes import value_sizes

BURN = "import time; b = time.process_time(); e = time.monotonic() + 1\nwhile time.monotonic() < e: pass\n"


@pytest.fixture(scope="module")
def cgroups() -> None:
    try:
        with function_cgroup(512):
            pass
    except OSError as error:
        pytest.skip(str(error))


def plans(*values: tuple[float, float]) -> list[Pair]:
    return [Pair(str(index), estimated, measured) for index, (estimated, measured) in enumerate(values)]


def test_plans_in_the_measured_order_agree() -> None:
    found = plans((1, 10), (2, 20), (3, 30))
    assert kendall_tau(found) == 1
    assert swaps(found) == []
    assert regret(found) == 0


def test_swapped_pair_is_named_with_what_it_costs() -> None:
    found = plans((2, 10), (1, 15), (3, 30))
    assert kendall_tau(found) == pytest.approx(1 / 3)
    assert [(s.preferred, s.better, s.loss) for s in swaps(found)] == [("1", "0", 0.5)]
    assert regret(found) == 0.5


def test_plans_measured_equal_are_in_no_order() -> None:
    assert kendall_tau(plans((2, 100), (1, 101))) == 1


def test_plans_estimated_equal_are_half_in_order() -> None:
    assert kendall_tau(plans((1, 10), (1, 20))) == 0


def test_summary_without_values_is_not_measured() -> None:
    assert summarised("x", [], group="g", model="m", at_most=1.0)["verdict"] == "not measured"
    assert summarised("x", [0.1, 0.2, 0.9], group="g", model="m", at_most=0.15)["verdict"] == "fail"


@pytest.mark.parametrize("way", BASELINES)
def test_baseline_cuts_are_legal_and_about_equal(way: str, tmp_path: Path) -> None:
    model = lamella.load(mlp(tmp_path / "mlp.onnx", layers=8))
    flow = flow_of(model)
    cuts = cuts_of(flow, flow.placed, *value_sizes(model))
    found = BASELINES[way](cuts, 4)
    assert set(found) <= set(cuts.positions)
    assert len(found) == 3
    edges = [0, *found, len(cuts.order)]
    weights = [cuts.needs(a, b)[0] for a, b in pairwise(edges)]
    assert max(weights) <= 1.5 * sum(weights) / 4


@pytest.mark.usefixtures("cgroups")
def test_function_gets_its_share_of_a_processor() -> None:
    with function_cgroup(MB_PER_VCPU // 4) as cgroup:
        program = BURN + "print(time.process_time() - b)"
        done = subprocess.run(
            [*cgroup.enter, sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
    assert 0.1 < float(done.stdout) < 0.35


@pytest.mark.usefixtures("cgroups")
def test_function_above_its_memory_is_killed() -> None:
    with function_cgroup(64) as cgroup:
        done = subprocess.run([*cgroup.enter, sys.executable, "-c", "bytearray(b'x') * (256 << 20)"], check=False)
    assert done.returncode == -9


@pytest.mark.usefixtures("cgroups")
def test_nothing_of_a_function_stays() -> None:
    with function_cgroup(512) as cgroup:
        folders = [folder for folder in (cgroup.path, cgroup.processors) if folder is not None]
        assert all(folder.exists() for folder in folders)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.usefixtures("cgroups")
def test_transport_is_measured_with_a_function_that_answers_and_ends(tmp_path: Path) -> None:
    transport = measure_transport(tmp_path)
    assert transport.hop_ms > 0
    assert transport.handler_ms > 0
    assert transport.mb_s > 1
    with started(Function(tmp_path / "slices", 0, {"x": "FP32", "y": "FP32"}, MB_PER_VCPU)) as instance:
        assert instance.infer({"x": np.arange(5, dtype=np.float32)})["y"].tolist() == [0, 1, 2, 3, 4]
        pid = instance.process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchModel:
    path = mlp(tmp_path / "small.onnx", layers=4, width=256)
    values = np.random.default_rng(0).standard_normal((1, 256), dtype=np.float32)
    monkeypatch.setattr("chain.inputs", lambda _: {"x": values})
    return BenchModel("small", path, (path,), path.stat().st_size, {}, 0, 0)


@pytest.mark.usefixtures("cgroups")
def test_chain_gives_the_answer_of_the_whole(model: BenchModel, tmp_path: Path) -> None:
    whole, chain = (
        measure_chain(Slices(model, count, tmp_path / f"{count}"), [512] * count, requests=2) for count in (1, 2)
    )
    assert chain["facts"]["answer"] == whole["facts"]["answer"]
    assert len(chain["facts"]["billed_ms"]) == 2
    assert chain["peak_bytes"] > 1.5 * whole["peak_bytes"]
    assert chain["seconds_since_start"] > 0.05


@pytest.mark.usefixtures("cgroups")
def test_function_without_room_for_its_engine_says_so(model: BenchModel, tmp_path: Path) -> None:
    with pytest.raises(FunctionError, match="killed: over its memory"):
        measure_chain(Slices(model, 1, tmp_path / "one"), [16], requests=2)


def sample(label: str, seconds: float) -> Sample:
    estimated = {"warm_ms": 110.0, "init_ms": 200.0, "peak_bytes": [100 << 20]}
    facts: dict[str, object] = {"estimated": estimated, "estimated_without_profile": estimated}
    return {
        "label": label,
        "round": 0,
        "seconds": seconds,
        "seconds_since_start": 0.25,
        "peak_bytes": 80 << 20,
        "facts": facts,
    }


def test_error_is_against_the_median_of_the_rounds() -> None:
    group = Group(name="function", model="m", slices=1, samples=[sample("512 MB", s) for s in (0.1, 0.1, 0.9)])
    warm, peak, start = (pairs(group, quantity)[0].error for quantity in QUANTITIES)
    assert (warm, peak, start) == pytest.approx((0.1, 0.25, -0.2))


def test_tables_are_written_between_their_markers_only() -> None:
    group = Group(name="function", model="m", slices=1, samples=[sample("512 MB", 0.1)])
    page = documented(f"before\n{BEGIN}\nold\n{END}\nafter\n", {"groups": [group]})
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "old" not in page
    assert "| m | 512 MB | 110 | 100 | +10% | 100.0 | 80.0 | +25% | 200 | 250 | -20% |" in page
    assert documented(page, {"groups": [group]}) == page
