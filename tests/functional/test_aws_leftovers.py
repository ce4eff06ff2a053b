"""Asking AWS what is left: with moto's services in the place of AWS's."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lamella.targets.aws.account import Account
from lamella.targets.aws.leftovers import leftovers
from lamella.targets.aws.stacks import Resource

moto = pytest.importorskip("moto", reason="moto is not installed")
REGION = "eu-central-1"
TRUST = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "x"}, "Action": "sts:AssumeRole"}]}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with moto.mock_aws():
        yield Account(REGION)


def make(account: Account) -> dict[str, tuple[str, tuple[str, str, dict[str, Any]]]]:
    """One of each that is asked for, by its type: its physical id, and what deletes it."""
    account.call("s3", "create_bucket", Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    account.call("logs", "create_log_group", logGroupName="/l")
    role = account.call("iam", "create_role", RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    code = {"ZipFile": b"PK\5\6" + bytes(18)}
    account.call("lambda", "create_function", FunctionName="f", Role=role, Runtime="python3.13", Handler="a", Code=code)
    states = json.dumps({"StartAt": "a", "States": {"a": {"Type": "Succeed"}}})
    machine = account.call("stepfunctions", "create_state_machine", name="m", definition=states, roleArn=role)
    api = account.call("apigatewayv2", "create_api", Name="a", ProtocolType="HTTP")["ApiId"]
    schedule = {"ScheduleExpression": "rate(5 minutes)", "FlexibleTimeWindow": {"Mode": "OFF"}}
    account.call("scheduler", "create_schedule", Name="s", Target={"Arn": role, "RoleArn": role}, **schedule)
    arn = machine["stateMachineArn"]
    return {
        "AWS::ApiGatewayV2::Api": (api, ("apigatewayv2", "delete_api", {"ApiId": api})),
        "AWS::IAM::Role": ("r", ("iam", "delete_role", {"RoleName": "r"})),
        "AWS::Lambda::Function": ("f", ("lambda", "delete_function", {"FunctionName": "f"})),
        "AWS::Logs::LogGroup": ("/l", ("logs", "delete_log_group", {"logGroupName": "/l"})),
        "AWS::S3::Bucket": ("bucket", ("s3", "delete_bucket", {"Bucket": "bucket"})),
        "AWS::Scheduler::Schedule": ("s", ("scheduler", "delete_schedule", {"Name": "s"})),
        "AWS::StepFunctions::StateMachine": (arn, ("stepfunctions", "delete_state_machine", {"stateMachineArn": arn})),
    }


def test_whatever_is_left_is_named_and_what_is_gone_is_not(account: Account) -> None:
    made = make(account)
    resources = [Resource("Own", kind, physical) for kind, (physical, _) in made.items()]
    names = [f"{kind} {physical}" for kind, (physical, _) in made.items()]
    while True:
        assert leftovers(account, resources) == names
        if not names:
            return
        service, operation, given = made[names.pop(0).split()[0]][1]
        account.call(service, operation, **given)
