"""What goes wrong on AWS: each a clear error, with nothing lost and nothing left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest
from tests import models
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


class _Refusing(BaseHTTPRequestHandler):
    code, calls, times = "", 0, 0

    def do_POST(self) -> None:
        cls = type(self)
        cls.calls += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        refused = cls.calls <= cls.times
        body = f"<ErrorResponse><Error><Code>{cls.code}</Code><Message>no</Message></Error></ErrorResponse>"
        if not refused:
            body = (
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>"
                "</GetCallerIdentityResult></GetCallerIdentityResponse>"
            )
        self.send_response(400 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def refusing(code: str, times: int, patch: pytest.MonkeyPatch) -> Iterator[type[_Refusing]]:
    """A server in the place of AWS that refuses the first calls."""
    handler = type("Refusing", (_Refusing,), {"code": code, "times": times})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield handler
        server.shutdown()
        thread.join()


def test_what_is_throttled_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing("Throttling", 2, monkeypatch) as server:
        assert Account(REGION).number == "123456789012"
        assert server.calls == 3


def test_expired_credentials_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing("ExpiredToken", 99, monkeypatch) as server:
        with pytest.raises(RemoteError, match="ExpiredToken") as caught:
            target().status()
        assert "have expired" in (caught.value.hint or "")
        assert server.calls == 1


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
