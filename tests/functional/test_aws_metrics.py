"""What requests on AWS took and cost, from the logs of functions that ran."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import models
from tests.emulated_aws.server import REGION
from tests.functional.aws import X, client, remove_all, sliced, target, wanted

import lamella
from lamella.bench.metrics import measured
from lamella.bench.results import Results
from lamella.bench.summary import summarize
from lamella.cli import main
from lamella.targets.aws.target import AwsTarget
from lamella.targets.deploying import Endpoint

NAME = "measured"
_PATIENCE_S = 60


@pytest.fixture(autouse=True)
def nothing_left(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    del aws
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path / "home"))
    yield
    remove_all()


def measure(aws: AwsTarget, runs: int, **options: Any) -> Results:
    """Logs reach CloudWatch some time after a request."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        found = aws.reports(NAME, **options)
        if len(found.invocations) >= runs:
            return measured(aws.find(NAME), found, since_ms=0, until_ms=1, slice=options.get("slice"))
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


@pytest.mark.parametrize("workflow", ["express", "direct"])
def test_each_request_is_joined_of_its_runs(workflow: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aws = target(workflow=workflow)
    aws.apply(wanted(NAME, sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 2)))
    for _ in range(3):
        aws.infer(NAME, {"x": X})
    results = measure(aws, 6)
    order = [0, 1] if workflow == "express" else [1, 0]  # with `direct`, each waits for those behind it
    assert [[run.slice for run in one.runs] for one in results.samples] == [order] * 3
    assert all(one.whole and one.status == "success" for one in results.samples)
    assert [one.cold_start for one in results.samples].count(True) >= 1
    summary = summarize(results)
    assert (summary.requests, summary.partial, [one.runs for one in summary.slices]) == (3, 0, [3, 3])
    assert summary.usd_per_1000 > 0
    assert results.place.region == REGION

    aws.infer(NAME, {"x": X}, slice=0)
    again = measure(aws, 7)
    assert [one.whole for one in again.samples] == [True, True, True, False]
    assert summarize(measure(aws, 4, slice=0)).requests == 4
    before = int(again.samples[0].began_ms) - 1
    assert aws.reports(NAME, until_ms=before).invocations == ()

    endpoint = Endpoint(aws, aws.find(NAME))
    assert summarize(lamella.metrics(endpoint)).requests == 3
    status = main(["metrics", NAME, "--target", "aws", "--region", REGION, "--json", "-o", str(tmp_path / "r.json")])
    printed = json.loads(capsys.readouterr().out)
    assert (status, printed["summary"]["requests"], printed["place"]["region"]) == (0, 3, REGION)
    assert len(json.loads((tmp_path / "r.json").read_text())["samples"]) == 4


def test_more_lines_than_a_page_are_read_to_the_end(tmp_path: Path) -> None:
    aws = target()
    aws.apply(wanted(NAME, sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 1)))
    group, stream = f"/aws/lambda/lamella-{NAME}-dev-slice-0", "more"
    client("logs").create_log_stream(logGroupName=group, logStreamName=stream)
    now = int(time.time() * 1000)
    text = (
        "REPORT RequestId: {}\tDuration: 5.00 ms\tBilled Duration: 5 ms\tMemory Size: 1769 MB\tMax Memory Used: 90 MB"
    )
    for batch in range(4):
        events = [{"timestamp": now + batch, "message": text.format(f"{batch}-{n}")} for n in range(6000)]
        client("logs").put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    found = aws.reports(NAME, since_ms=now, until_ms=now + 3)
    assert len(found.invocations) == 3 * 6000
    assert {run.slice for run in found.invocations} == {0}
