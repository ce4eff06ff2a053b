import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from measure import Job, Sample, measure, rehearse
from modelfile import Weight, write_external, write_inline
from network import Network
from results import Claim, Group, evaluate

HERE = "tests_jobs_of_the_harness"

JOBS = """
def imports_late():
    yield
    import wave
    held = bytearray(32 << 20)
    return {"held": len(held)}

def fails():
    yield
    raise ValueError("no such tensor")

def hangs():
    yield
    while True:
        pass
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    (tmp_path / f"{HERE}.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda function, **settings: Job(function, HERE, function, **settings)


def sample(label: str, number: int, seconds: float, others_share: float = 0.0) -> Sample:
    return {"label": label, "round": number, "seconds": seconds, "others_share": others_share}


def group(*samples: Sample) -> Group:
    return Group(name="test", model="model", slices=2, samples=list(samples))


def test_job_is_measured_without_what_it_imported_late(job: Callable[..., Job]) -> None:
    preload = rehearse(job("imports_late"))
    assert "wave" in preload
    measured = measure(job("imports_late", preload=preload))
    assert measured["late_imports"] == []
    assert measured["facts"] == {"held": 32 << 20}
    assert 31 << 20 < measured["peak_above_imports_bytes"] < 34 << 20  # the kernel counts pages in batches


def test_failing_job_is_recorded_with_its_error(job: Callable[..., Job]) -> None:
    assert measure(job("fails"))["error"] == "ValueError: no such tensor"


def test_job_is_stopped_at_its_budget(job: Callable[..., Job]) -> None:
    assert measure(job("hangs", budget_s=1.0))["error"] == "stopped after 1 s"


def test_ratio_is_the_median_of_paired_runs() -> None:
    pairs = [(1.0, 2.0), (3.0, 3.0), (1.0, 10.0)]
    samples = [sample(label, n, pair[i]) for n, pair in enumerate(pairs) for i, label in enumerate("ab")]
    finding = evaluate(Claim("a / b", "seconds", "a", "b", at_most=0.4), group(*samples))
    assert finding["value"] == 0.5
    assert finding["verdict"] == "fail"


def test_a_busy_machine_gives_no_verdict() -> None:
    samples = [sample("a", 0, 1.0, others_share=0.5), sample("b", 0, 2.0)]
    finding = evaluate(Claim("a / b", "seconds", "a", "b", at_most=1.0), group(*samples))
    assert finding["verdict"] == "invalid: others used the machine in 1 of 2 runs"


def test_missing_run_is_named_in_the_verdict() -> None:
    samples = [sample("a", 0, 1.0), {"label": "b", "round": 0, "error": "killed", "others_share": 0.0}]
    finding = evaluate(Claim("a / b", "seconds", "a", "b", at_most=1.0), group(*samples))
    assert finding["verdict"] == "not measured: b: killed"


@pytest.mark.parametrize("write", [write_inline, write_external])
def test_written_model_is_what_onnx_reads(write: Callable[..., object], tmp_path: Path) -> None:
    net = Network("small")
    x = net.input("x", onnx.TensorProto.FLOAT, ["batch", 300])
    net.output(net.node("MatMul", x, net.weight("w", (300, 7))), "y", ["batch", 7])
    path = tmp_path / "small.onnx"
    write(net.model(), net.weights, path, seed=1)
    onnx.checker.check_model(str(path), full_check=True)
    weight = onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    assert weight.tobytes() == b"".join(Weight("w", (300, 7)).blocks(1))
    assert np.isclose(weight.std(), 0.02, rtol=0.1)
