"""What users must be allowed: actions that exist, on Lamella's own names, each with its reason, within IAM's limit."""

import fnmatch
import json
from importlib.resources import files
from typing import Any, get_args

import pytest
from tests.aws_stacks import DELIVERIES, DOORS, chain, settings, stack

from lamella.targets.aws.iam_policies import LONGEST, Purpose, compact, iam_policies, needed

SERVICES = json.loads(files("cfnlint.data.AdditionalSpecs").joinpath("Policies.json").read_text())
# Which service makes a resource, and an action that whoever deploys cannot do without.
MAKES = {
    "ApiGatewayV2": "apigateway:POST",
    "Budgets": "budgets:ModifyBudget",
    "EC2": "ec2:CreateVpc",
    "ECR": "ecr:CreateRepository",
    "EFS": "elasticfilesystem:CreateFileSystem",
    "IAM": "iam:CreateRole",
    "Lambda": "lambda:CreateFunction",
    "Logs": "logs:CreateLogGroup",
    "S3": "s3:CreateBucket",
    "S3Files": "s3files:CreateFileSystem",
    "SQS": "sqs:CreateQueue",
    "Scheduler": "scheduler:CreateSchedule",
    "StepFunctions": "states:CreateStateMachine",
}


@pytest.mark.parametrize("purpose", get_args(Purpose))
def test_every_action_exists_and_has_a_reason(purpose: Purpose) -> None:
    known = {name.lower(): {str(action).lower() for action in entry["Actions"]} for name, entry in SERVICES.items()}
    for allowed in needed(purpose):
        assert allowed.reason
        for action in allowed.actions:
            service, _, name = action.partition(":")
            assert fnmatch.filter(known[service], name.lower()), action


@pytest.mark.parametrize("purpose", get_args(Purpose))
def test_policies_stay_within_the_limit_and_allow_no_service_whole(purpose: Purpose) -> None:
    for policy in iam_policies(purpose, region="ap-southeast-2", account="123456789012"):
        assert len(compact(policy)) <= LONGEST
        for entry in policy["Statement"]:  # type: ignore[attr-defined]
            assert not any(action.endswith(":*") for action in entry["Action"])


def test_whatever_changes_something_is_bound_to_lamellas_names_or_to_cloudformation() -> None:
    changing = ("Create", "Delete", "Put", "Update", "Attach", "Pass", "Modify", "Add", "Remove")
    free = {
        "QueueReaders",
        "LogDeliveries",
        "Apis",
        "FileSystems",
        "Networks",
        "ServiceRoles",
    }  # their names hold no `lamella`
    for allowed in needed("deploy"):
        changes = any(action.partition(":")[2].startswith(changing) for action in allowed.actions)
        if changes and allowed.sid not in free:
            assert all("lamella" in place for place in allowed.resources), allowed.sid
        if allowed.sid in ("QueueReaders", "FileSystems", "Networks", "ServiceRoles"):
            assert allowed.condition


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_who_deploys_may_make_every_kind_of_resource_of_a_template(delivery: str) -> None:
    actions = {action for allowed in needed("deploy") for action in allowed.actions}
    found: dict[str, Any] = stack(settings(**DELIVERIES[delivery], **DOORS), chain(3))
    for entry in found["Resources"].values():
        assert MAKES[entry["Type"].split("::")[1]] in actions


def test_a_policy_can_be_for_one_account_and_region() -> None:
    text = json.dumps(iam_policies("deploy", partition="aws-cn", region="cn-north-1", account="123456789012"))
    assert "arn:aws-cn:lambda:cn-north-1:123456789012:function:lamella-*" in text
    assert "{" not in text.replace('{"', "").replace("{}", "")
