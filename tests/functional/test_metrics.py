"""What requests on this machine took and cost, from the logs of functions that ran."""

import csv
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from tests import models
from tests.unit.bench.test_results_file import SCHEMA

import lamella
from lamella.bench import read_results, summarize
from lamella.cli import main
from lamella.errors import UsageError
from lamella.gateway.starting import stop_service

pytest_plugins = ["lamella.testing"]
X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
Deploy = Callable[..., lamella.Endpoint]


def test_an_endpoint_says_what_its_requests_took(lamella_endpoint: Deploy, tmp_path: Path) -> None:
    endpoint = lamella_endpoint(models.mlp(tmp_path / "mlp.onnx"), slices=2, memory_mb=1769)
    answers = [endpoint.infer_with_timeline({"x": X}) for _ in range(5)]
    endpoint.infer_slice(0, {"x": X})
    results = lamella.metrics(endpoint)
    whole = [one for one in results.samples if one.whole]
    assert [one.request for one in whole] == [answer.request_id for answer in answers]
    for sample, answer in zip(whole, answers, strict=True):
        told = {run.slice: run for run in answer.timeline}
        assert [run.slice for run in sample.runs] == [0, 1]
        assert all(run.billed_ms == told[run.slice].billed_ms for run in sample.runs)
        assert all(run.cold_start == told[run.slice].cold_start for run in sample.runs)
        assert all(run.max_memory_mb == told[run.slice].max_memory_mb for run in sample.runs)
        # times in logs are those of the clock on the wall, in whole milliseconds
        assert 0 < sample.latency_ms < answer.latency_ms + 20
    summary = summarize(results)
    assert (summary.requests, summary.cold_starts, summary.failed, summary.partial) == (5, 1, 0, 1)
    assert results.verdict.valid
    assert lamella.metrics(endpoint, slice=0).samples[-1].runs[0].slice == 0
    assert summarize(lamella.metrics(endpoint, slice=0)).requests == 6
    assert lamella.metrics(endpoint, since_s=7200, until_s=3600).verdict.reasons == (
        "no function ran in this span of time",
    )
    with pytest.raises(UsageError, match="no slice 7"):
        lamella.metrics(endpoint, slice=7)


def test_one_of_several_models_is_measured_alone(lamella_endpoint: Deploy, tmp_path: Path) -> None:
    one, two = models.mlp(tmp_path / "one.onnx"), models.mlp(tmp_path / "two.onnx", layers=4)
    endpoint = lamella_endpoint({"one": one, "two": two}, name="app", memory_mb=1769)
    endpoint.infer({"x": X}, model="one")
    endpoint.infer({"x": X}, model="two")
    found = lamella.metrics(endpoint, model="two")
    assert (found.subject.file, [run.function for sample in found.samples for run in sample.runs]) == (
        "two.onnx",
        ["app-dev-two-slice-0"],
    )
    with pytest.raises(UsageError, match="holds 2 models"):
        lamella.metrics(endpoint)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    stop_service(tmp_path / "home")


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out.startswith("{") else printed.out, printed.err


def test_the_verb_writes_results_rows_and_charts(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.parent == tmp_path
    model = models.mlp(tmp_path / "mlp.onnx")
    assert say(capsys, "deploy", model, "--slices", "2", "--memory", "1769", "--json")[0] == 0
    status, found, _ = say(capsys, "metrics", "mlp", "--json")
    assert (status, found["verdict"]["reasons"]) == (1, ["no function ran in this span of time"])
    for _ in range(3):
        assert say(capsys, "infer", "mlp", "--random", "--json")[0] == 0
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "png")}
    given = ["-o", files["json"], "--csv", files["csv"], "--plot", files["png"]]
    status, printed, said = say(capsys, "metrics", "mlp", "--since", "10m", *given)
    assert status == 0, said
    assert "requests    3, 1 cold, 0 failed" in printed
    assert all(f"wrote `{path}`" in said for path in files.values())
    jsonschema.validate(json.loads(files["json"].read_text()), SCHEMA)
    results = read_results(files["json"])
    assert [len(sample.runs) for sample in results.samples] == [2, 2, 2]
    assert results.subject.target == "local"
    with files["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["slice"] for row in rows] == ["0", "1"] * 3
    assert files["png"].read_bytes().startswith(b"\x89PNG")

    status, printed, _ = say(capsys, "metrics", "mlp", "--slice", "1", "--json")
    assert (status, printed["summary"]["requests"], printed["settings"]["slice"]) == (0, 3, 1)
    status, whole, _ = say(capsys, "metrics", "mlp", "-o", "-")
    assert (status, whole["schema"], len(whole["samples"])) == (0, "lamella.results/1", 3)
    status, _, said = say(capsys, "metrics", "mlp", "--slice", "9")
    assert (status, "no slice 9" in said) == (2, True)
    status, logged, _ = say(capsys, "logs", "mlp", "--json")
    times = [line["time_ms"] for line in logged["lines"]]
    assert all(time.time() * 1000 - 600_000 < moment <= time.time() * 1000 for moment in times)
    assert say(capsys, "delete", "mlp", "--yes")[0] == 0
