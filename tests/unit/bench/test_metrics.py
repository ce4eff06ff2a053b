from dataclasses import replace

import pytest
from tests.measurements import BEGAN_MS

from lamella.bench.metrics import measured, metrics, named_model
from lamella.bench.results import Results
from lamella.bench.summary import summarize
from lamella.errors import UsageError
from lamella.platforms import load_platform
from lamella.targets.base import DeployedFunction, DeployedModel, Deployment, NotDeployedError, Version
from lamella.targets.reports import Invocation, Reported, Reports
from lamella.workflow.steps import Step, Workflow

LAMBDA = load_platform("aws-lambda").pricing


def step(index: int) -> Step:
    return Step(index, f"app-dev-slice-{index}", (), (), ())


def deployed(*slices: int, models: tuple[str, ...] = ("app",)) -> Deployment:
    """A version for each number of slices."""
    versions = []
    for number, count in enumerate(slices, 1):
        workflow = Workflow((), (), (), {}, tuple(step(index) for index in range(count)))
        functions = tuple(
            DeployedFunction(f"app-dev-slice-{index}", name, index, "1", 1769, 60, 512, "0" * 64, 0, "")
            for name in models
            for index in range(count)
        )
        found = tuple(DeployedModel(name, f"{name}.onnx", workflow) for name in models)
        versions.append(Version(number, "", found, "package", None, {}, None, "s3://x", functions))
    return Deployment("app", "dev", "aws", "aws-lambda", tuple(versions), len(slices))


def ran(request: str, slice: int | None, ended_ms: float, status: str = "success", **other: object) -> Invocation:
    name = "lamella-app-dev-door" if slice is None else f"app-dev-slice-{slice}"
    report = Reported(f"{request}-{slice}", 10.0, 10, 1024, 100, status=status)
    found = Invocation(request, "app", slice, name, int(BEGAN_MS + ended_ms), report)
    return replace(found, **other)  # type: ignore[arg-type]


def found(deployment: Deployment, *runs: Invocation, architecture: str = "x86_64", slice: int | None = None) -> Results:
    reports = Reports(architecture, runs, "eu-central-1")  # type: ignore[arg-type]
    return measured(deployment, reports, slice=slice, since_ms=0, until_ms=1)


def test_runs_of_a_request_are_one_sample() -> None:
    results = found(deployed(2), ran("r", 0, 100), ran("r", 1, 130), ran("s", 0, 200), ran("s", 1, 215))
    assert [(one.request, one.latency_ms, one.whole) for one in results.samples] == [("r", 40, True), ("s", 25, True)]
    assert results.verdict.valid
    assert results.place.region == "eu-central-1"
    assert [function.slice for function in results.subject.functions] == [0, 1]


def test_a_start_counts_from_its_beginning_and_a_restore_is_one() -> None:
    cold = replace(ran("r", 0, 600), report=Reported("i", 10.0, 10, 1024, 100, init_ms=400.0))
    restored = replace(ran("s", 0, 2000), report=Reported("j", 10.0, 10, 1024, 100, restore_ms=300.0))
    first, second = found(deployed(1), cold, restored).samples
    assert (first.latency_ms, first.cold_start) == (410, True)
    assert (second.latency_ms, second.cold_start) == (310, True)


def test_a_slice_that_was_tried_again_is_no_failure() -> None:
    (one,) = found(deployed(2), ran("r", 0, 100, "timeout"), ran("r", 0, 200), ran("r", 1, 300)).samples
    assert (one.whole, one.status, len(one.runs)) == (True, "success", 3)


def test_a_request_that_failed_for_good_is_whole() -> None:
    (one,) = found(deployed(3), ran("r", 0, 100), ran("r", 1, 200, "error")).samples
    assert (one.whole, one.status) == (True, "error")


def test_what_is_no_whole_request_is_apart() -> None:
    """The end of a request that began before, a ping, a slice alone, the door."""
    ping = ran("p", 0, 300, ping=True)
    results = found(deployed(2), ran("r", 1, 100), ran("s", 0, 200), ping, ran("d", None, 400))
    assert [one.whole for one in results.samples] == [False] * 4
    assert results.verdict.reasons == ("functions ran in this span of time, and no request went through all slices",)


def test_a_ping_of_the_only_slice_is_no_request() -> None:
    results = found(deployed(1), ran("p", 0, 100, ping=True), ran("r", 0, 200))
    assert [(one.request, one.whole) for one in results.samples] == [("p", False), ("r", True)]


def test_requests_to_an_older_version_are_whole_by_its_slices() -> None:
    results = found(deployed(2, 3), ran("r", 0, 100), ran("r", 1, 130))
    assert results.samples[0].whole


def test_the_runs_of_one_slice_alone_are_requests() -> None:
    results = found(deployed(2), ran("r", 1, 100), ran("s", 1, 200), slice=1)
    assert [one.whole for one in results.samples] == [True, True]
    assert [function.slice for function in results.subject.functions] == [1]


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_the_price_is_that_of_the_architecture(architecture: str) -> None:
    summary = summarize(found(deployed(1), ran("r", 0, 100), architecture=architecture))
    time_usd = 0.010 * LAMBDA.gb_s_usd[architecture]  # type: ignore[index]
    assert summary.usd_per_1000 == pytest.approx(1000 * (time_usd + LAMBDA.request_usd))


def test_nothing_is_no_valid_measurement() -> None:
    assert found(deployed(1)).verdict.reasons == ("no function ran in this span of time",)


def test_one_of_several_models_must_be_named() -> None:
    two = deployed(1, models=("app", "other"))
    with pytest.raises(UsageError, match="holds 2 models"):
        named_model(two, None)
    with pytest.raises(NotDeployedError):
        named_model(two, "third")
    assert (named_model(two, "other"), named_model(deployed(1), None)) == ("other", None)


def test_a_span_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(UsageError, match="ends before it begins"):
        metrics(None, since_s=1, until_s=5)  # type: ignore[arg-type]  # nothing is asked
