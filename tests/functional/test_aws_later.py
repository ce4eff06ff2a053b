"""Requests on AWS that are answered later, sent and fetched with the user's own credentials, whatever the workflow."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.emulated_aws.server import REGION
from tests.functional.aws import X, assert_same, bucket_of, everything, keys, remove_all, sliced, target, wanted

from lamella.cli import main
from lamella.errors import InputError, LamellaError, UsageError
from lamella.targets.aws.remembered import Remembered, Somewhere

NAME = "later"
LARGE = np.random.default_rng(0).standard_normal((60_000, 32), np.float32)  # 7.7 MB, above what an event may hold


@pytest.fixture(autouse=True)
def nothing_left(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    del aws
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path / "home"))
    Remembered(tmp_path / "home").keep(NAME, "dev", Somewhere(REGION))
    yield
    remove_all()


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out.startswith("{") else printed.out, printed.err


@pytest.mark.parametrize(
    ("workflow", "slices", "asynchronous"),
    [("express", 2, True), ("standard", 2, False), ("direct", 2, True), ("express", 1, True)],
    ids=["express", "standard", "direct", "single"],
)
def test_a_request_is_answered_later(
    workflow: Any, slices: int, asynchronous: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", slices)
    aws = target(workflow=workflow, asynchronous=asynchronous)
    aws.apply(wanted(NAME, directory))
    assert {"HttpApi", "FunctionUrl"}.isdisjoint(aws.outputs(NAME))  # nobody else can ask
    ids = {name: aws.submit(NAME, {"x": x}) for name, x in (("small", X), ("large", LARGE))}
    for name, x in (("large", LARGE), ("small", X)):
        for _ in range(2):  # it is kept for a day
            answer = aws.result(NAME, ids[name])
            assert_same(answer.outputs, directory, {"x": x})
            assert answer.request_id == ids[name]
    assert [run.slice for run in answer.timeline] == list(range(slices))
    assert f"results/{ids['small']}" in keys(bucket_of(NAME), "results/")
    with pytest.raises(InputError):
        aws.submit(NAME, {"x": X[0]})
    with pytest.raises(UsageError, match="there is no request"):
        aws.result(NAME, "0" * 32)

    np.save(tmp_path / "x.npy", X)
    status, sent, said = say(capsys, "infer", NAME, "--input", f"x={tmp_path / 'x.npy'}", "--async", "--json")
    assert (status, sent["status"]) == (0, "running"), said
    status, found, said = say(capsys, "infer", NAME, "--result", sent["id"], "-o", tmp_path / "y.npz", "--json")
    assert (status, found["request_id"], found["latency_ms"]) == (0, sent["id"], None), said
    assert_same(dict(np.load(tmp_path / "y.npz")), directory, {"x": X})
    status, printed, said = say(capsys, "infer", NAME, "--random", "--async")
    assert (status, len(printed.strip())) == (0, 32)
    assert f"its answer: `lamella infer {NAME}@dev --result {printed.strip()}`" in said
    status, printed, _ = say(capsys, "infer", NAME, "--result", printed.strip())
    assert (status, "latency" in printed) == (0, False)
    status, _, said = say(capsys, "infer", NAME, "--random", "--async", "--version", "1")
    assert (status, "for all slices of the live version" in said) == (2, True)
    aws.delete(NAME)
    assert everything(NAME) == []


def test_what_failed_is_told_as_often_as_it_is_asked_for(tmp_path: Path) -> None:
    """An index beyond the table, which only the slice finds out."""
    directory = sliced(models.lookup(tmp_path / "model.onnx"), tmp_path / "slices", 1)
    aws = target(asynchronous=True)
    aws.apply(wanted(NAME, directory))
    request = aws.submit(NAME, {"ids": np.array([[1, 2, 5000]]), "mask": np.ones((1, 3), np.float32)})
    for _ in range(2):
        with pytest.raises(LamellaError) as failed:
            aws.result(NAME, request)
        assert "5000" in str(failed.value)


def test_where_nothing_answers_later_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aws = target()
    aws.apply(wanted(NAME, sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 2)))
    status, printed, said = say(capsys, "infer", NAME, "--random", "--async")
    assert (status, printed) == (2, "")
    assert "nothing of `later@dev` answers later" in said
    assert "hint: deploy it with `--async`, or with `--workflow standard`" in said
    assert keys(bucket_of(NAME), "re") == []
