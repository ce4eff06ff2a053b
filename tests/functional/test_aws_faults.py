"""What goes wrong on AWS: each a clear error, with nothing lost and nothing left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from tests import models
from tests.emulated_aws.refusing import refusing
from tests.emulated_aws.server import REGION
from tests.functional.aws import (
    X,
    assert_same,
    bucket_of,
    client,
    everything,
    remove_all,
    sliced,
    stacks,
    target,
    wanted,
)

from lamella.errors import LamellaError, PlanError, RemoteError, UsageError
from lamella.targets.aws.account import Account
from lamella.targets.aws.naming import Names
from lamella.targets.aws.record import KEY
from lamella.targets.base import NotDeployedError

NAME = "faulty"


@pytest.fixture(autouse=True)
def nothing_left(aws: str) -> Iterator[None]:
    del aws
    yield
    remove_all()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in one slice."""
    folder = tmp_path_factory.mktemp("one")
    return sliced(models.mlp(folder / "one.onnx"), folder / "slices", 1)


@contextmanager
def taken(function: str) -> Iterator[None]:
    """A function of somebody else's, under a name that a deployment would give."""
    role = client("iam").create_role(RoleName="other", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    code = {"ZipFile": b"PK\5\6" + bytes(18)}
    client("lambda").create_function(FunctionName=function, Runtime="python3.13", Handler="a.b", Role=role, Code=code)
    try:
        yield
    finally:
        client("lambda").delete_function(FunctionName=function)
        client("iam").delete_role(RoleName="other")


def test_a_first_deployment_that_fails_leaves_nothing_and_takes_nothing(one: Path) -> None:
    with taken("lamella-faulty-dev-slice-0"):
        with pytest.raises(RemoteError, match=r"could not be changed: Function\S+ \(AWS::Lambda::Function\)") as caught:
            target().apply(wanted(NAME, one))
        assert "name" in (caught.value.hint or "")
        assert everything(NAME) == ["lamella-faulty-dev-slice-0"]
    target().apply(wanted(NAME, one))
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})


def test_an_update_that_fails_lets_the_version_before_answer(one: Path, tmp_path: Path) -> None:
    two = sliced(models.mlp(tmp_path / "two.onnx", layers=6), tmp_path / "two", 2)
    target(log_retention_days=30).apply(wanted(NAME, one))
    with taken("lamella-faulty-dev-slice-1"):
        with pytest.raises(RemoteError, match="could not be changed"):
            target(log_retention_days=7).apply(wanted(NAME, two))
        (found,) = target().status()
        assert (found.live, [version.number for version in found.versions]) == (1, [1])
        assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})
    assert target().apply(wanted(NAME, two)).live == 2
    assert_same(target().infer(NAME, {"x": X}).outputs, two, {"x": X})
    assert target().rollback(NAME).live == 1
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})


def test_a_bucket_of_somebody_else_is_not_touched(one: Path) -> None:
    bucket = str(Names(NAME, "dev", REGION, Account(REGION).number).bucket)
    somebody = boto3.client("s3", region_name=REGION, aws_access_key_id="111111111111", aws_secret_access_key="secret")
    somebody.create_bucket(Bucket=bucket)
    somebody.put_object(Bucket=bucket, Key="precious", Body=b"x")
    with pytest.raises(RemoteError, match="AWS::S3::Bucket") as caught:
        target().apply(wanted(NAME, one))
    assert "choose another name" in (caught.value.hint or "")
    assert somebody.get_object(Bucket=bucket, Key="precious")["Body"].read() == b"x"
    with pytest.raises(NotDeployedError):
        target().find(NAME)
    somebody.delete_object(Bucket=bucket, Key="precious")
    somebody.delete_bucket(Bucket=bucket)


def test_more_concurrency_than_the_account_has_is_refused(one: Path) -> None:
    with pytest.raises(PlanError, match="can reserve") as caught:
        target(concurrency=1000).apply(wanted(NAME, one))
    assert "--concurrency none" in (caught.value.hint or "")
    assert everything(NAME) == []


def test_a_name_that_would_be_anothers_stack_is_refused(one: Path) -> None:
    target().apply(wanted("faulty", one, stage="a-b"))
    other = wanted("faulty-a", one, stage="b")
    with pytest.raises(UsageError, match="`lamella-faulty-a-b` is there already, and `faulty@a-b` made it"):
        target().apply(other)
    with pytest.raises(NotDeployedError):
        target().infer("faulty-a", {"x": X}, stage="b")
    with pytest.raises(UsageError, match="made it"):
        target().delete("faulty-a", stage="b")
    assert_same(target().infer("faulty", {"x": X}, stage="a-b").outputs, one, {"x": X})


def test_a_damaged_record_is_said_and_deleting_goes_on(one: Path) -> None:
    target().apply(wanted(NAME, one))
    client("s3").put_object(Bucket=bucket_of(NAME), Key=KEY, Body=b'{"schema": "lamella.aws/1"}')
    for call in (lambda: target().infer(NAME, {"x": X}), lambda: target().apply(wanted(NAME, one))):
        with pytest.raises(LamellaError, match=r"deployment\.json` is damaged") as caught:
            call()
        assert "delete" in (caught.value.hint or "")
    assert stacks() != []
    target().delete(NAME)
    assert everything(NAME) == []


@pytest.mark.parametrize("seen", ["create complete  CloudFormation::Stack", "create complete  Lambda::Function"])
def test_a_deployment_that_was_killed_goes_on(seen: str, one: Path, tmp_path: Path) -> None:
    """In its first phase, and in the middle of its second."""
    program = "import sys; from lamella.cli import main; sys.exit(main())"
    flags = ["--target", "aws", "--region", REGION, "--concurrency", "none", "--yes", "--name", NAME]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "deploy", one, *flags],
        env={**os.environ, "LAMELLA_HOME": str(tmp_path / "home"), "PYTHONPATH": "src"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(seen):
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, said
    process.stderr.close()
    assert stacks() == ["lamella-faulty-dev"]
    target().apply(wanted(NAME, one))
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})
    target().delete(NAME)
    assert everything(NAME) == []


class Refusal:
    """Refuses calls of one kind, from the first to the last of them that is given."""

    def __init__(self, code: str, action: str, first: int = 1, last: int = 10**6) -> None:
        self.code, self.action, self.first, self.last, self.calls = code, action, first, last, 0

    def __call__(self, action: str) -> str | None:
        self.calls += action == self.action
        return self.code if action == self.action and self.first <= self.calls <= self.last else None


@contextmanager
def refused(server: str, refusal: Refusal) -> Iterator[None]:
    with refusing(server, refusal) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        yield


def test_what_is_throttled_is_tried_again(aws: str, one: Path) -> None:
    refusal = Refusal("Throttling", "DescribeStackEvents", first=2, last=5)
    with refused(aws, refusal):
        target().apply(wanted(NAME, one))
    assert refusal.calls > refusal.last
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})


def test_what_is_throttled_for_too_long_is_said(aws: str) -> None:
    with pytest.MonkeyPatch.context() as patch, refused(aws, Refusal("Throttling", "GetCallerIdentity")):
        patch.setattr("lamella.targets.aws.account.ATTEMPTS", 2)
        with pytest.raises(RemoteError, match=r"AWS refuses sts:get_caller_identity: Throttling") as caught:
            target().find(NAME)
    assert caught.value.hint == "AWS takes no more calls for a moment: run it again, it goes on where it stopped"


def test_expired_credentials_are_said(aws: str) -> None:
    refusal = Refusal("ExpiredToken", "DescribeStacks")
    with refused(aws, refusal), pytest.raises(RemoteError, match="ExpiredToken") as caught:
        target().status()
    assert "have expired" in (caught.value.hint or "")
    assert refusal.calls == 1


def test_credentials_that_expire_meanwhile_lose_nothing(aws: str, one: Path) -> None:
    """The second change set cannot be made any more: nor can what is there be taken away, which the next run uses."""
    with refused(aws, Expiring("CreateChangeSet", 2)):
        with pytest.raises(RemoteError, match=r"ExpiredToken.* could not be removed: .*ExpiredToken") as caught:
            target().apply(wanted(NAME, one))
        for said in ("have expired", "used by the next run", "lamella delete"):
            assert said in (caught.value.hint or "")
    assert stacks() == ["lamella-faulty-dev"]
    target().apply(wanted(NAME, one))
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})
    with refused(aws, Expiring("DeleteStack", 1)), pytest.raises(RemoteError, match="ExpiredToken") as caught:
        target().delete(NAME)
    assert "have expired" in (caught.value.hint or "")
    target().delete(NAME)
    assert everything(NAME) == []


class Expiring(Refusal):
    """Refuses everything from one call on."""

    def __init__(self, action: str, first: int) -> None:
        super().__init__("ExpiredToken", action, first)

    def __call__(self, action: str) -> str | None:
        return self.code if super().__call__(action) or self.calls >= self.first else None


def test_who_may_not_deploy_is_told_what_is_needed(aws: str, one: Path) -> None:
    refusal = Refusal("AccessDenied", "CreateChangeSet")
    with refused(aws, refusal), pytest.raises(RemoteError, match="AccessDenied") as caught:
        target().apply(wanted(NAME, one))
    assert "lamella iam-policy" in (caught.value.hint or "")
    assert everything(NAME) == []


def test_missing_credentials_and_profiles_are_said(monkeypatch: pytest.MonkeyPatch, one: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RemoteError, match="no credentials") as caught:
        target().apply(wanted(NAME, one))
    assert "aws configure" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="gone"):
        target(profile="gone")
