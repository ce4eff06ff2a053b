"""Deployments on AWS, from the first to the last call, against an AWS on this machine whose functions run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.functional.aws import X, assert_same, bucket_of, everything, keys, remove_all, sliced, target, wanted
from tests.functional.test_tensor_splits import KIB, classifier, limit

import lamella
from lamella.errors import InputError, UsageError
from lamella.targets.aws.settings import ObjectEvents
from lamella.targets.base import NotDeployedError

NAME = "model"


@pytest.fixture(autouse=True)
def nothing_left(aws: str) -> Iterator[None]:
    """A test may fail and leave what the next one would trip over."""
    del aws
    yield
    remove_all()


LARGE = np.random.default_rng(0).standard_normal((60_000, 32), np.float32)  # 7.7 MB, above what an event may hold


@pytest.mark.parametrize("slices", [1, 2])
def test_a_deployment_from_its_first_version_to_its_end(slices: int, tmp_path: Path) -> None:
    old = sliced(models.mlp(tmp_path / "old.onnx"), tmp_path / "old", slices)
    new = sliced(models.mlp(tmp_path / "new.onnx", layers=6), tmp_path / "new", slices)
    aws = target()
    first = aws.apply(wanted(NAME, old))
    assert [(function.slice, function.version) for function in first.version.functions] == [
        (index, "1") for index in range(slices)
    ]
    answer = aws.infer(NAME, {"x": X})
    assert_same(answer.outputs, old, {"x": X})
    assert [(run.slice, run.cold_start) for run in answer.timeline] == [(index, True) for index in range(slices)]
    assert [run.slice for run in aws.infer(NAME, {"x": X}, slice=0).timeline] == [0]
    with pytest.raises(InputError):
        aws.infer(NAME, {"x": X[0]})
    reports = [line for line in aws.logs(NAME) if line.text.startswith("REPORT RequestId: ")]
    assert {line.slice for line in reports} == set(range(slices))
    assert {line.function for line in reports} == {f"model-dev-slice-{index}" for index in range(slices)}

    second = aws.apply(wanted(NAME, new))
    assert (second.live, [version.number for version in second.versions]) == (2, [1, 2])
    assert second.version.functions[-1].version == "2"
    for target_ in (aws, target()):  # who deployed it, and whoever else has the account
        assert_same(target_.infer(NAME, {"x": X}).outputs, new, {"x": X})
        assert_same(target_.infer(NAME, {"x": X}, version=1).outputs, old, {"x": X})
    assert aws.rollback(NAME).live == 1
    assert_same(target().infer(NAME, {"x": X}).outputs, old, {"x": X})
    assert_same(target().infer(NAME, {"x": X}, version=2).outputs, new, {"x": X})
    assert [(found.key, found.live) for found in target().status()] == [("model@dev", 1)]

    aws.delete(NAME)
    assert everything(NAME) == []
    with pytest.raises(NotDeployedError):
        aws.infer(NAME, {"x": X})


@pytest.mark.parametrize(
    ("delivery", "workflow"), [("package", "standard"), ("package", "direct"), ("object-store", "express")]
)
def test_however_slices_are_joined_and_delivered(delivery: Any, workflow: Any, tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 2)
    aws = target(workflow=workflow)
    aws.apply(wanted(NAME, directory, delivery=delivery))
    for x in (X, LARGE):
        assert_same(aws.infer(NAME, {"x": x}).outputs, directory, {"x": x})
    assert keys(bucket_of(NAME), "requests/") == []
    second = aws.apply(wanted(NAME, directory, delivery=delivery, memory_mb=2048))
    assert {function.memory_mb for function in second.version.functions} == {2048}
    for version in (None, 1):
        assert_same(aws.infer(NAME, {"x": LARGE}, version=version).outputs, directory, {"x": LARGE})
    assert aws.rollback(NAME).live == 1
    assert_same(aws.infer(NAME, {"x": X}).outputs, directory, {"x": X})
    assert keys(bucket_of(NAME), "requests/") == []
    aws.delete(NAME)
    assert everything(NAME) == []


@pytest.mark.parametrize("workflow", ["express", "standard"])
def test_slices_of_a_split_weight_run_side_by_side(workflow: Any, tmp_path: Path) -> None:
    plan = lamella.plan(classifier(tmp_path), max_memory_bytes=limit(80 * KIB))
    assert len(plan.stages[0]) > 1
    directory = sliced(plan, tmp_path / "slices")
    aws = target(workflow=workflow)
    aws.apply(wanted(NAME, directory))
    for rows in (7, 600):  # 600: what the slices answer is too large for the state
        inputs = {"x": np.random.default_rng(rows).standard_normal((rows, 512)).astype(np.float32)}
        assert_same(aws.infer(NAME, inputs).outputs, directory, inputs)
    assert keys(bucket_of(NAME), "requests/") == []


def test_logs_are_followed(tmp_path: Path) -> None:
    """What comes while somebody reads is shown, too, each line once, until they stop."""
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 1)
    aws = target()
    aws.apply(wanted(NAME, directory))
    aws.infer(NAME, {"x": X})
    lines = aws.logs(NAME, follow=True)
    ends = (line for line in lines if line.text.startswith("END RequestId: "))
    first = next(ends)
    aws.infer(NAME, {"x": X})
    second = next(ends)
    assert first.text != second.text
    assert [line.text for line in aws.logs(NAME) if line.text.startswith("END ")] == [first.text, second.text]


def test_doors_go_and_come_with_the_versions_that_were_made_for_them(tmp_path: Path) -> None:
    one = sliced(models.mlp(tmp_path / "one.onnx"), tmp_path / "one", 1)
    two = sliced(models.mlp(tmp_path / "two.onnx", layers=6), tmp_path / "two", 2)
    target().apply(wanted(NAME, one))
    with_doors = target(function_url=True, s3_events=ObjectEvents())
    with_doors.apply(wanted(NAME, two))
    assert with_doors.outputs(NAME).keys() >= {"FunctionUrl", "Queue"}
    assert target().rollback(NAME).live == 1
    assert with_doors.outputs(NAME).keys().isdisjoint({"FunctionUrl", "Queue"})
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})
    assert target().rollback(NAME, to=2).live == 2
    assert with_doors.outputs(NAME).keys() >= {"FunctionUrl", "Queue"}
    assert_same(target().infer(NAME, {"x": X}).outputs, two, {"x": X})
    target().delete(NAME)
    assert everything(NAME) == []


def test_slices_side_by_side_cannot_invoke_each_other(tmp_path: Path) -> None:
    plan = lamella.plan(classifier(tmp_path), max_memory_bytes=limit(80 * KIB))
    with pytest.raises(UsageError, match="side by side"):
        target(workflow="direct").apply(wanted(NAME, sliced(plan, tmp_path / "slices")))
    assert everything(NAME) == []


def test_several_models_are_one_stack(tmp_path: Path) -> None:
    """Its template is too long for a call, and comes from the bucket."""
    directories = {
        "mlp": sliced(models.mlp(tmp_path / "mlp.onnx", layers=8), tmp_path / "mlp", 6),
        "lookup": sliced(models.lookup(tmp_path / "lookup.onnx"), tmp_path / "lookup", 1),
    }
    looked_up = {"ids": np.array([[1, 2, 49]]), "mask": np.ones((1, 3), np.float32)}
    aws = target()
    aws.apply(wanted("app", directories))
    assert_same(aws.infer("app", {"x": X}, model="mlp").outputs, directories["mlp"], {"x": X})
    assert_same(aws.infer("app", looked_up, model="lookup").outputs, directories["lookup"], looked_up)
    with pytest.raises(UsageError, match="holds 2 models"):
        aws.infer("app", {"x": X})
    assert {line.function for line in aws.logs("app", model="lookup")} == {"app-dev-lookup-slice-0"}
    aws.delete("app")
    assert everything("app") == []


def test_a_preview_of_weights_in_the_bucket_uploads_none(tmp_path: Path) -> None:
    """Also before there is a bucket, and with weights that no package could hold."""
    model = sliced(lamella.load(models.mlp(tmp_path / "model.onnx", width=32)), tmp_path / "a.slices", 1)
    other = sliced(lamella.load(models.mlp(tmp_path / "other.onnx", layers=5)), tmp_path / "b.slices", 1)
    aws = target()
    first = aws.preview(wanted("previewed", model, delivery="object-store"))
    assert [function.weights for function in first.release.functions] != [()]
    assert first.weights_bytes > 0
    assert everything("previewed") == []
    aws.apply(wanted("previewed", model, delivery="object-store"))
    before = keys(bucket_of("previewed"))
    second = aws.preview(wanted("previewed", other, delivery="object-store"))
    assert [change.action for change in second.changes] == ["update"]
    assert keys(bucket_of("previewed")) == before
    assert_same(aws.infer("previewed", {"x": X}).outputs, model, {"x": X})
    aws.delete("previewed")
