"""What every target does, wherever it deploys to.

`LAMELLA_AWS_TESTS=1` runs it in the AWS account of the user's credentials too, which costs some cents and takes an
hour; `LAMELLA_AWS_TESTS=emulated` in the one that `tests/functional/test_aws.py` uses.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.emulated_aws.server import REGION

import lamella
from lamella.errors import InputError, LamellaError, UsageError
from lamella.platforms import load_platform
from lamella.stores.opening import open_store
from lamella.targets.aws.account import Account
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.target import AwsTarget
from lamella.targets.base import VERSIONS_KEPT, Deployment, NotDeployedError, Target, Wanted
from lamella.targets.local.target import LocalTarget

AWS_TESTS = os.environ.get("LAMELLA_AWS_TESTS")


def open_aws(_folder: Path, **chosen: Any) -> Target:
    region = REGION if AWS_TESTS == "emulated" else Account().region
    return AwsTarget(Settings(region=region, concurrency=None, **chosen))


Open = Callable[[Path], Target]
TARGETS: dict[str, Open] = {"local": LocalTarget, **({"aws": open_aws} if AWS_TESTS else {})}
GAPS = {
    "test_the_timeline_tells_cold_from_warm": "a workflow does not say what was billed; logs do",
    "test_a_model_that_is_not_in_the_package_answers_alike[aws-image]": "it is in test_aws_images.py",
    "test_functions_of_one_name_are_refused": "tests/functional/test_aws_faults.py has it, in terms of stacks",
}
"""What AWS does not do as the local platform does."""
X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)


@dataclass
class Place:
    """A target, and a way to close it and open it again on the same state."""

    folder: Path
    open: Open
    target: Target

    def reopen(self) -> None:
        self.close()
        self.target = self.open(self.folder)

    def close(self) -> None:
        """Of the object, not of the deployments."""
        if isinstance(self.target, LocalTarget):
            self.target.close()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LAMELLA_HOME", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=TARGETS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "aws":
        if reason := GAPS.get(request.node.name) or GAPS.get(request.node.originalname):
            pytest.skip(reason)
        if AWS_TESTS == "emulated":
            request.getfixturevalue("aws")
    make = TARGETS[request.param]
    made = Place(tmp_path / "home", make, make(tmp_path / "home"))
    if request.param == "aws" and made.target.status():
        pytest.exit("something is deployed in this account and region already, and these tests delete what they find")
    yield made
    if request.param == "aws":
        for deployment in made.target.status():
            made.target.delete(deployment.name, stage=deployment.stage)
    made.close()


def sliced(model: Path, slices: int = 2) -> Path:
    return lamella.slice(model, model.with_suffix(".slices"), slices=slices).directory


def wanted(directory: Path, **options: Any) -> Wanted:
    given: dict[str, Any] = {"name": "model", "stage": "dev", "memory_mb": 1769, **options}
    return Wanted(models={"model": directory}, platform=load_platform("aws-lambda"), **given)


def expected(directory: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    with lamella.Pipeline(directory) as pipeline:
        return pipeline.infer(inputs)


def assert_answers(target: Target, directory: Path, **inputs: np.ndarray) -> None:
    found = target.infer("model", inputs).outputs
    for name, array in expected(directory, **inputs).items():
        assert found[name].dtype == array.dtype
        if array.dtype == object:
            assert found[name].tolist() == array.tolist()
        else:
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def stored(deployment: Deployment) -> list[str]:
    return [entry.key for entry in open_store(deployment.version.store).list("requests/")]


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (models.mlp, {"x": X}),
        (models.conditional, {"x": X[:, :16].copy()}),
        (models.residual_conv, {"image": np.ones((1, 4, 8, 8), np.float32)}),
        (models.strings, {"words": np.array(["cat", "größe"], object)}),
        (models.lookup, {"ids": np.array([[1, 2, 49]]), "mask": np.ones((1, 3), np.float32)}),
    ],
)
def test_a_deployment_answers_as_the_pipeline_does(
    place: Place, build: Callable[[Path], Path], inputs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    directory = sliced(build(tmp_path / "model.onnx"))
    deployment = place.target.apply(wanted(directory))
    assert [function.slice for function in deployment.version.functions] == [0, 1]
    assert_answers(place.target, directory, **inputs)


def test_the_timeline_tells_cold_from_warm(place: Place, tmp_path: Path) -> None:
    place.target.apply(wanted(sliced(models.mlp(tmp_path / "model.onnx"))))
    cold, warm = (place.target.infer("model", {"x": X}).timeline for _ in range(2))
    assert [(run.slice, run.cold_start) for run in cold] == [(0, True), (1, True)]
    assert [(run.slice, run.cold_start) for run in warm] == [(0, False), (1, False)]
    for run in cold:
        assert (run.init_ms or 0) > (run.load_ms or 0) > 0
        assert (run.billed_ms or 0) > 0
        assert 20 < (run.max_memory_mb or 0) <= 1769
    assert all(run.init_ms is None and run.load_ms is None for run in warm)
    assert warm[0].end_ms <= warm[1].begin_ms


def test_large_values_pass_by_reference_and_are_gone_afterwards(place: Place, tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"), 3)
    deployment = place.target.apply(wanted(directory))
    rows = np.random.default_rng(0).standard_normal((60_000, 32), np.float32)  # 7.7 MB, above what an event may hold
    assert_answers(place.target, directory, x=rows)
    assert stored(deployment) == []


def test_requests_at_the_same_time_get_their_own_answers(place: Place, tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"))
    place.target.apply(wanted(directory))
    given = [np.full((rows % 3 + 1, 32), rows / 10, np.float32) for rows in range(24)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda x: place.target.infer("model", {"x": x}).outputs["y"], given))
    for x, y in zip(given, found, strict=True):
        np.testing.assert_allclose(y, expected(directory, x=x)["y"], rtol=1e-5, atol=1e-6)


def test_one_slice_alone(place: Place, tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"))
    place.target.apply(wanted(directory))
    first = place.target.infer("model", {"x": X}, slice=0)
    assert [run.slice for run in first.timeline] == [0]
    second = place.target.infer("model", first.outputs, slice=1)
    np.testing.assert_allclose(second.outputs["y"], expected(directory, x=X)["y"], rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="slice 2"):
        place.target.infer("model", {}, slice=2)


@pytest.mark.parametrize("inputs", [{}, {"x": X, "z": X}, {"x": X.astype(np.float64)}, {"x": X[0]}])
def test_wrong_inputs_are_refused(place: Place, inputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    place.target.apply(wanted(sliced(models.mlp(tmp_path / "model.onnx"))))
    with pytest.raises(InputError) as caught:
        place.target.infer("model", inputs)
    assert caught.value.hint


def test_what_is_not_deployed_is_unknown_to_every_verb(place: Place) -> None:
    assert list(place.target.status()) == []
    for call in (
        lambda: place.target.infer("model", {"x": X}),
        lambda: list(place.target.logs("model")),
        lambda: place.target.rollback("model"),
        lambda: place.target.delete("model"),
    ):
        with pytest.raises(NotDeployedError, match="model@dev") as caught:
            call()
        assert caught.value.hint


def test_a_difference_is_what_applying_does(place: Place, tmp_path: Path) -> None:
    first = wanted(sliced(models.mlp(tmp_path / "model.onnx"), 3))

    def actions(of: Wanted) -> list[str]:
        return [change.action for change in place.target.diff(of)]

    assert actions(first) == ["create"] * 3
    assert list(place.target.status()) == []
    place.target.apply(first)
    assert actions(first) == ["keep"] * 3
    larger = wanted(first.models["model"], memory_mb=2048)
    assert actions(larger) == ["update"] * 3
    assert "2048 MB" in place.target.diff(larger)[0].reason
    other = wanted(sliced(models.mlp(tmp_path / "other.onnx", layers=2)))
    assert actions(other) == ["update", "update", "delete"]


def test_a_rollback_lets_the_earlier_version_answer(place: Place, tmp_path: Path) -> None:
    old, new = sliced(models.mlp(tmp_path / "old.onnx")), sliced(models.mlp(tmp_path / "new.onnx", layers=6), 3)
    with pytest.raises(NotDeployedError):
        place.target.rollback("model")
    place.target.apply(wanted(old))
    with pytest.raises(UsageError, match="no version before 1"):
        place.target.rollback("model")
    assert place.target.apply(wanted(new)).live == 2
    assert_answers(place.target, new, x=X)
    found = place.target.infer("model", {"x": X}, version=1).outputs["y"]
    np.testing.assert_allclose(found, expected(old, x=X)["y"], rtol=1e-5, atol=1e-6)
    with pytest.raises(NotDeployedError, match="no version 7"):
        place.target.infer("model", {"x": X}, version=7)
    assert place.target.rollback("model").live == 1
    assert_answers(place.target, old, x=X)
    assert place.target.apply(wanted(new)).live == 3
    assert_answers(place.target, new, x=X)


def test_a_rollback_goes_to_any_version_that_is_kept(place: Place, tmp_path: Path) -> None:
    directories = [sliced(models.mlp(tmp_path / f"{layers}.onnx", layers=layers)) for layers in (2, 4, 6)]
    for directory in directories:
        place.target.apply(wanted(directory))
    for version in (1, 3, 2, 2):
        assert place.target.rollback("model", to=version).live == version
        assert_answers(place.target, directories[version - 1], x=X)
    with pytest.raises(NotDeployedError, match="no version 4") as caught:
        place.target.rollback("model", to=4)
    assert "1, 2, 3" in (caught.value.hint or "")
    assert place.target.rollback("model").live == 1


def test_a_version_with_an_alias_is_kept_and_answers_by_it(place: Place, tmp_path: Path) -> None:
    old, new = sliced(models.mlp(tmp_path / "old.onnx")), sliced(models.mlp(tmp_path / "new.onnx", layers=6))
    place.target.apply(wanted(old))
    assert place.target.set_alias("model", "stable", to=1).aliases == {"stable": 1}
    for memory_mb in range(1769, 1769 + VERSIONS_KEPT):
        deployment = place.target.apply(wanted(new, memory_mb=memory_mb))
    kept = [version.number for version in deployment.versions]
    assert kept == [1, *range(deployment.live - VERSIONS_KEPT + 1, deployment.live + 1)]
    place.reopen()
    found = place.target.infer("model", {"x": X}, version="stable").outputs["y"]
    np.testing.assert_allclose(found, expected(old, x=X)["y"], rtol=1e-5, atol=1e-6)
    assert_answers(place.target, new, x=X)
    assert place.target.set_alias("model", "stable", to="live").aliases == {"stable": deployment.live}
    assert [v.number for v in place.target.apply(wanted(old)).versions] == list(range(3, 8))
    place.target.set_alias("model", "stable", to=None)
    for alias, to, error in (
        ("stable", None, NotDeployedError),
        ("canary", 99, NotDeployedError),
        ("live", 7, UsageError),
        ("7", 7, UsageError),
        ("a/b", 7, UsageError),
    ):
        with pytest.raises(error) as caught:
            place.target.set_alias("model", alias, to=to)
        assert caught.value.hint
    with pytest.raises(NotDeployedError, match="no alias `stable`"):
        place.target.infer("model", {"x": X}, version="stable")


def two_models(tmp_path: Path, **options: Any) -> Wanted:
    """A deployment with two models that take different inputs."""
    first, second = sliced(models.mlp(tmp_path / "mlp.onnx")), sliced(models.lookup(tmp_path / "lookup.onnx"))
    given: dict[str, Any] = {"name": "app", "stage": "dev", "memory_mb": 1769, **options}
    return Wanted(models={"mlp": first, "lookup": second}, platform=load_platform("aws-lambda"), **given)


LOOKED_UP = {"ids": np.array([[1, 2, 49]]), "mask": np.ones((1, 3), np.float32)}


def assert_both_answer(target: Target, of: Wanted, version: int | None = None) -> None:
    for model, inputs in (("mlp", {"x": X}), ("lookup", LOOKED_UP)):
        found = target.infer("app", inputs, model=model, version=version)
        for name, array in expected(of.models[model], **inputs).items():
            np.testing.assert_allclose(found.outputs[name], array, rtol=1e-5, atol=1e-6)
        assert {run.function for run in found.timeline} == {f"app-dev-{model}-slice-{index}" for index in (0, 1)}


def test_a_deployment_may_hold_several_models(place: Place, tmp_path: Path) -> None:
    both = two_models(tmp_path)
    deployment = place.target.apply(both)
    functions = [(function.model, function.slice) for function in deployment.version.functions]
    assert functions == [("mlp", 0), ("mlp", 1), ("lookup", 0), ("lookup", 1)]
    assert_both_answer(place.target, both)
    second = place.target.infer("app", {"ids": LOOKED_UP["ids"]}, model="lookup", slice=0)
    assert [run.slice for run in second.timeline] == [0]
    with pytest.raises(UsageError, match="`app@dev` holds 2 models") as caught:
        place.target.infer("app", {"x": X})
    assert "`app.mlp`, `app.lookup`" in (caught.value.hint or "")
    with pytest.raises(NotDeployedError, match="no model `bert`"):
        place.target.infer("app", {"x": X}, model="bert")
    with pytest.raises(InputError):
        place.target.infer("app", {"x": X}, model="lookup")


def test_the_only_model_may_be_named_or_not(place: Place, tmp_path: Path) -> None:
    place.target.apply(wanted(sliced(models.mlp(tmp_path / "mlp.onnx"), 1)))
    for model in (None, "model"):
        assert place.target.infer("model", {"x": X}, model=model).outputs["y"].shape == (2, 32)
    with pytest.raises(NotDeployedError, match="no model `other`"):
        place.target.infer("model", {"x": X}, model="other")


def test_several_models_change_together_and_outlive_the_object(place: Place, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    old, one = two_models(tmp_path), sliced(models.mlp(tmp_path / "new" / "mlp.onnx", layers=6))
    new = wanted(one, name="app")
    place.target.apply(old)
    assert [change.action for change in place.target.diff(new)] == ["create"] * 2 + ["delete"] * 4
    place.target.apply(new)
    np.testing.assert_allclose(
        place.target.infer("app", {"x": X}).outputs["y"], expected(one, x=X)["y"], rtol=1e-5, atol=1e-6
    )
    with pytest.raises(NotDeployedError, match="no model `lookup`"):
        place.target.infer("app", LOOKED_UP, model="lookup")
    assert_both_answer(place.target, old, version=1)
    assert place.target.rollback("app").live == 1
    assert_both_answer(place.target, old)
    place.reopen()
    assert_both_answer(place.target, old)
    assert [change.action for change in place.target.diff(old)] == ["keep"] * 4


def test_models_at_the_same_time_get_their_own_answers_through_one_store(place: Place, tmp_path: Path) -> None:
    both = two_models(tmp_path)
    deployment = place.target.apply(both)
    rows = np.random.default_rng(0).standard_normal((60_000, 32), np.float32)  # above what an event may hold
    ids = np.tile(np.arange(50), (6_000, 1))
    asked = {"mlp": {"x": rows}, "lookup": {"ids": ids, "mask": np.ones(ids.shape, np.float32)}}
    with ThreadPoolExecutor(4) as pool:
        names = [*asked] * 2
        found = list(pool.map(lambda name: place.target.infer("app", asked[name], model=name, request_id="x"), names))
    for name, answer in zip(names, found, strict=True):
        for output, array in expected(both.models[name], **asked[name]).items():
            np.testing.assert_allclose(answer.outputs[output], array, rtol=1e-4, atol=1e-5)
    assert stored(deployment) == []


def test_logs_are_of_all_models_or_of_one(place: Place, tmp_path: Path) -> None:
    place.target.apply(two_models(tmp_path))
    place.target.infer("app", {"x": X}, model="mlp")
    place.target.infer("app", LOOKED_UP, model="lookup")

    def functions(**of: Any) -> set[str]:
        lines = place.target.logs("app", **of)
        return {line.function for line in lines if line.text.startswith("REPORT RequestId: ")}

    assert len(functions()) == 4
    assert functions(model="mlp") == {"app-dev-mlp-slice-0", "app-dev-mlp-slice-1"}
    assert functions(model="lookup", slice=1) == {"app-dev-lookup-slice-1"}
    with pytest.raises(UsageError, match="holds 2 models"):
        place.target.logs("app", slice=1)


def test_deleting_several_models_leaves_nothing(place: Place, tmp_path: Path) -> None:
    both = two_models(tmp_path)
    place.target.apply(both)
    assert_both_answer(place.target, both)
    place.target.delete("app")
    assert list(place.target.status()) == []
    assert [path for path in place.folder.rglob("*") if path.is_file()] == []


def test_a_model_that_cannot_be_deployed_keeps_the_others_as_they_are(place: Place, tmp_path: Path) -> None:
    both = two_models(tmp_path)
    place.target.apply(both)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    with pytest.raises(LamellaError):
        place.target.apply(replace(both, models={**both.models, "third": damaged}))
    with pytest.raises(UsageError, match="13 more than the 64 that names of functions may have"):
        place.target.apply(replace(both, models={**both.models, "a" * 32: both.models["mlp"]}, name="n" * 32))
    assert [(one.key, one.live) for one in place.target.status()] == [("app@dev", 1)]
    assert_both_answer(place.target, both)


def test_functions_of_one_name_are_refused(place: Place, tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"))
    place.target.apply(wanted(directory, name="a", stage="b-c"))
    with pytest.raises(UsageError, match="`a@b-c` has a function `a-b-c-slice-0` already") as caught:
        place.target.apply(wanted(directory, name="a-b", stage="c"))
    assert caught.value.hint
    assert [one.key for one in place.target.status()] == ["a@b-c"]
    assert place.target.infer("a", {"x": X}, stage="b-c").outputs["y"].shape == (2, 32)


@pytest.mark.parametrize(("platform", "memory_mb"), [(None, 512), ("aws-lambda", 192)])
def test_memory_is_what_was_planned_for_a_platform_and_else_has_a_floor(
    place: Place, platform: str | None, memory_mb: int, tmp_path: Path
) -> None:
    model = models.mlp(tmp_path / "model.onnx")
    planned = lamella.plan(model, slices=1, platform=platform)
    planned = replace(planned, slices=(replace(planned.slices[0], assigned_memory_mb=192),))
    directory = lamella.slice(planned, tmp_path / "slices").directory
    deployment = place.target.apply(wanted(directory, memory_mb=None))
    assert [function.memory_mb for function in deployment.version.functions] == [memory_mb]


def test_stages_are_apart(place: Place, tmp_path: Path) -> None:
    old, new = sliced(models.mlp(tmp_path / "old.onnx")), sliced(models.mlp(tmp_path / "new.onnx", layers=6))
    place.target.apply(wanted(old))
    place.target.apply(wanted(new, stage="prod"))
    assert [deployment.key for deployment in place.target.status()] == ["model@dev", "model@prod"]
    found = place.target.infer("model", {"x": X}, stage="prod").outputs["y"]
    np.testing.assert_allclose(found, expected(new, x=X)["y"], rtol=1e-5, atol=1e-6)
    place.target.delete("model", stage="prod")
    assert_answers(place.target, old, x=X)


def test_deployments_outlive_the_object(place: Place, tmp_path: Path) -> None:
    old, new = sliced(models.mlp(tmp_path / "old.onnx")), sliced(models.mlp(tmp_path / "new.onnx", layers=6))
    place.target.apply(wanted(old))
    place.target.apply(wanted(new))
    before = list(place.target.status())
    place.reopen()
    assert list(place.target.status()) == before
    assert_answers(place.target, new, x=X)
    place.target.rollback("model")
    place.reopen()
    assert_answers(place.target, old, x=X)


def test_logs_tell_of_every_request(place: Place, tmp_path: Path) -> None:
    place.target.apply(wanted(sliced(models.mlp(tmp_path / "model.onnx"))))
    for _ in range(2):
        place.target.infer("model", {"x": X})
    reports = [line for line in place.target.logs("model") if line.text.startswith("REPORT RequestId: ")]
    assert [line.slice for line in reports] == [0, 0, 1, 1]
    assert {line.slice for line in place.target.logs("model", slice=1)} == {1}
    with pytest.raises(UsageError):
        place.target.logs("model", slice=7)


def test_reports_tell_of_every_run_and_which_request_it_was_for(place: Place, tmp_path: Path) -> None:
    place.target.apply(wanted(sliced(models.mlp(tmp_path / "model.onnx"))))
    for _ in range(2):
        place.target.infer("model", {"x": X})
    deadline = time.monotonic() + 60  # CloudWatch tells of a run some time later
    while len(found := place.target.reports("model").invocations) < 4 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert sorted(run.slice or 0 for run in found) == [0, 0, 1, 1]
    requests = {run.request for run in found}
    assert len(requests) == 2
    assert all({run.slice for run in found if run.request == request} == {0, 1} for request in requests)
    assert {run.model for run in found} == {"model"}
    assert {run.function for run in found} == {"model-dev-slice-0", "model-dev-slice-1"}
    assert all(run.report.billed_ms >= 1 and run.report.memory_mb > 0 for run in found)
    last = max(run.ended_ms for run in found)
    assert len(place.target.reports("model", since_ms=last).invocations) >= 1
    assert len(place.target.reports("model", since_ms=last + 1).invocations) == 0
    assert len(place.target.reports("model", until_ms=last).invocations) < 4
    assert {run.slice for run in place.target.reports("model", slice=1).invocations} == {1}
    with pytest.raises(UsageError):
        place.target.reports("model", slice=7)


def test_deleting_leaves_nothing(place: Place, tmp_path: Path) -> None:
    place.target.apply(wanted(sliced(models.mlp(tmp_path / "model.onnx"))))
    place.target.infer("model", {"x": X})
    place.target.delete("model")
    assert list(place.target.status()) == []
    with pytest.raises(NotDeployedError):
        place.target.infer("model", {"x": X})
    assert [path for path in place.folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("delivery", ["image", "object-store", "mount"])
def test_a_model_that_is_not_in_the_package_answers_alike(place: Place, delivery: str, tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx", width=64, layers=3))
    shared = tmp_path / "shared"
    shared.mkdir()
    mount = shared if delivery == "mount" else None
    if mount is not None and isinstance(place.target, AwsTarget):  # which makes a file system of its own
        mount, place.target = None, open_aws(place.folder, delivery="mount", mount="efs")
    place.target.apply(wanted(directory, delivery=delivery, mount=mount))
    assert_answers(place.target, directory, x=np.ones((1, 64), np.float32))
    place.reopen()
    assert_answers(place.target, directory, x=np.ones((1, 64), np.float32))


@pytest.mark.parametrize(
    "options",
    [{"memory_mb": 20_000}, {"timeout_s": 10_000}, {"timeout_s": 0}, {"environment": {"LAMBDA_TASK_ROOT": "x"}}],
)
def test_what_the_platform_does_not_offer_is_refused_and_leaves_nothing(
    place: Place, options: dict[str, Any], tmp_path: Path
) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"))
    with pytest.raises(LamellaError) as caught:
        place.target.apply(wanted(directory, **options))
    assert caught.value.hint
    assert list(place.target.status()) == []
    assert [path for path in place.folder.rglob("*") if path.is_file()] == []
    place.target.apply(wanted(directory))
    with pytest.raises(LamellaError):
        place.target.apply(wanted(directory, **options))
    assert_answers(place.target, directory, x=X)
