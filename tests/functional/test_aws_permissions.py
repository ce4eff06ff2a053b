"""Whether the printed policies and the roles of functions suffice for what is called on AWS, and allow no more.

LocalStack lets everybody do everything, and writes down who did what. Here IAM's question is asked afterwards.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.emulated_aws.permissions import Call, needed
from tests.emulated_aws.policies import Asked, Document, allows, matches
from tests.emulated_aws.resource_types import permissions
from tests.emulated_aws.server import ACCOUNT, CALLS, REGION
from tests.functional.aws import X, client, keys, remove_all, sliced, target, wanted
from tests.functional.test_aws_doors import Deployed, awaited, body
from tests.functional.test_aws_resource_types import resources

from lamella.targets.aws.iam_policies import Purpose, iam_policies
from lamella.targets.aws.iam_policies import needed as needed_by
from lamella.targets.aws.settings import ObjectEvents

NAME = "allowed"
DEPLOYER, RUNNER, NOBODY = "deployer", "runner", "test"
LARGE = np.random.default_rng(0).standard_normal((60_000, 32), np.float32)
CYCLES = [
    ("express", "package", 2),
    ("standard", "package", 2),
    ("direct", "object-store", 2),
    ("express", "package", 1),
]
NOT_CLOUDFORMATION = {"CreateLogStream", "Invoke", "ListObjectsV2"}
"""Of what LocalStack's services do on their own account: writing logs, doors, looking into buckets."""

UNSEEN = {
    "cloudformation:ContinueUpdateRollback": "no update fails twice here",
    "cloudformation:DeleteChangeSet": "no change set is empty here",
    "execute-api:Invoke": "LocalStack has no HTTP APIs",
    "lambda:GetAccountSettings": "LocalStack's account has no concurrency to reserve",
    "lambda:InvokeFunctionUrl": "LocalStack's URLs are open",
    "logs:*LogDeliver*": "LocalStack has no logs of workflows",
    "logs:*ResourcePolic*": "likewise",
    "logs:DescribeLogGroups": "likewise",
    "s3:AbortMultipartUpload": "no upload breaks off here",
    "xray:*": "LocalStack has no X-Ray",
}
"""What nothing here does, and why AWS still wants it."""

ELSEWHERE = {"Images", "ImageLogin", "FileSystems", "Networks", "SeeNetworks", "ServiceRoles"}
"""What is for file systems and images, which LocalStack has not."""


@dataclass(frozen=True)
class Cycle:
    """What was called in a deployment's life, by whom, and what roles there were.

    Attributes:
        calls: In order.
        roles: Policies of each role, by name.
    """

    calls: list[Call]
    roles: dict[str, list[Document]]

    def of(self, key: str) -> list[Asked]:
        return [asked for call in self.calls if call.key == key for asked in needed(call)]

    def of_cloudformation(self) -> list[Asked]:
        """What it did in the name of who deployed."""
        via = {"aws:CalledVia": ("cloudformation.amazonaws.com",)}
        return [
            Asked(asked.action, asked.resource, {**asked.context, **via})
            for call in self.calls
            if call.key == ACCOUNT and call.service not in ("cloudwatch", "events")
            if call.operation not in NOT_CLOUDFORMATION
            for asked in needed(call)
        ]

    def of_roles(self) -> list[tuple[str, Asked]]:
        """What functions and workflows did. That a log group is there already is no reason to be allowed to make it."""
        names = {
            call.answer["Credentials"]["AccessKeyId"]: call.parameters["RoleArn"].rpartition("/")[2]
            for call in self.calls
            if call.operation == "AssumeRole"
        }
        return [
            (names[call.key], asked)
            for call in self.calls
            if call.key in names and call.operation != "CreateLogGroup"
            for asked in needed(call)
        ]


@pytest.fixture(scope="module")
def cycles(aws: str, localstack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Cycle]:
    found, folder = [], tmp_path_factory.mktemp("allowed")
    source = models.mlp(folder / "model.onnx")
    with (localstack_folder / CALLS).open(encoding="utf-8") as file:
        file.seek(0, os.SEEK_END)
        for number, (workflow, delivery, slices) in enumerate(CYCLES):
            directory = sliced(source, folder / str(number), slices)
            try:
                roles = live(aws, directory, workflow, delivery)
            finally:
                remove_all()
            found.append(Cycle([Call(**json.loads(line)) for line in file], roles))
    return found


def live(server: str, directory: Path, workflow: str, delivery: str) -> dict[str, list[Document]]:
    """Every verb and every door, with the credentials of those who would use them; returns the policies of roles."""
    chosen: dict[str, Any] = {
        "workflow": workflow,
        "function_url": True,
        "asynchronous": True,
        "s3_events": ObjectEvents(batch_size=4),
        "keep_warm_minutes": 5,
    }
    asked = wanted(NAME, directory, delivery=delivery)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", DEPLOYER)
        deployer = target(**chosen)
        deployer.preview(asked)
        deployer.apply(asked)
        deployer.apply(wanted(NAME, directory, delivery=delivery, memory_mb=2048))
        deployer.rollback(NAME)
        deployer.set_alias(NAME, "larger", to=2)
        patch.setenv("AWS_ACCESS_KEY_ID", RUNNER)
        runner = target()
        assert [found.live for found in runner.status()] == [1]
        for inputs in ({"x": X}, {"x": LARGE}):
            runner.infer(NAME, inputs)
            runner.infer(NAME, inputs, version="larger")
        runner.infer(NAME, {"x": X}, slice=0)
        patch.setenv("AWS_ACCESS_KEY_ID", NOBODY)
        through_doors(Deployed(directory, dict(target().outputs(NAME)), server))
        roles = policies_of_roles()
        patch.setenv("AWS_ACCESS_KEY_ID", DEPLOYER)
        deployer = target(**chosen)
        assert list(deployer.logs(NAME))
        deployer.delete(NAME)
    return roles


def through_doors(deployed: Deployed) -> None:
    path, bucket = "/v2/models/model/infer", deployed.outputs["Bucket"]
    assert deployed.ask("POST", path, body(X))[0] == 200
    status, taken = deployed.ask("POST", path, body(X), Prefer="respond-async")
    assert status == 202
    place = f"/v2/requests/{taken['id']}"
    awaited(lambda: deployed.ask("GET", place) if deployed.ask("GET", place)[0] != 202 else None)
    assert deployed.ask("GET", f"/v2/requests/{'0' * 32}")[0] == 404
    client("s3").put_object(Bucket=bucket, Key="inbox/x.json", Body=body(X))
    awaited(lambda: keys(bucket, "outbox/") or None)


def policies_of_roles() -> dict[str, list[Document]]:
    iam, found = client("iam"), {}
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"]
        if name.startswith(f"lamella-{NAME}-"):
            inside = iam.list_role_policies(RoleName=name)["PolicyNames"]
            found[name] = [iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in inside]
    return found


def printed(purpose: Purpose) -> list[Document]:
    return list(iam_policies(purpose, region=REGION, account=ACCOUNT))


def refused(policies: list[Document], wanted: list[Asked]) -> list[str]:
    return sorted({str(asked) for asked in wanted if not allows(policies, asked)})


def actions(policies: list[Document]) -> set[str]:
    return {action for policy in policies for entry in policy["Statement"] for action in _listed(entry["Action"])}


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def unused(granted: set[str], done: set[str], excused: Mapping[str, str]) -> list[str]:
    """Actions that are granted, and that neither somebody did nor somebody excused."""
    return sorted(
        action
        for action in granted
        if not any(matches(action.lower(), each.lower()) for each in done)
        and not any(matches(pattern, action) for pattern in excused)
    )


def of_everybody(cycles: list[Cycle], key: str) -> list[Asked]:
    return [asked for cycle in cycles for asked in cycle.of(key)]


def test_who_sends_requests_may_do_what_that_takes(cycles: list[Cycle]) -> None:
    done = of_everybody(cycles, RUNNER)
    assert {"states:StartSyncExecution", "lambda:InvokeFunction", "s3:DeleteObject"} <= {each.action for each in done}
    assert refused(printed("run"), done) == []


def test_who_sends_requests_may_do_nothing_else(cycles: list[Cycle]) -> None:
    done = {each.action for each in of_everybody(cycles, RUNNER)}
    assert unused(actions(printed("run")), done, UNSEEN) == []


def test_who_deploys_may_do_what_that_takes(cycles: list[Cycle]) -> None:
    done = [*of_everybody(cycles, DEPLOYER), *(asked for cycle in cycles for asked in cycle.of_cloudformation())]
    assert {"iam:PassRole", "lambda:CreateFunction", "sqs:CreateQueue"} <= {each.action for each in done}
    assert refused(printed("deploy"), done) == []


def test_who_deploys_may_do_nothing_else(cycles: list[Cycle]) -> None:
    done = {each.action for key in (DEPLOYER, RUNNER) for each in of_everybody(cycles, key)}
    called = set().union(*permissions({kind for kind, _ in resources()}).values())
    granted = {action for allowed in needed_by("deploy") if allowed.sid not in ELSEWHERE for action in allowed.actions}
    assert unused(granted, done | called, UNSEEN) == []


def test_every_function_and_workflow_may_do_what_it_does(cycles: list[Cycle]) -> None:
    for cycle in cycles:
        done = cycle.of_roles()
        assert any("-slice-0" in role for role, _ in done)
        assert sorted({f"{role}: {asked}" for role, asked in done if not allows(cycle.roles[role], asked)}) == []


def test_no_function_or_workflow_may_do_more(cycles: list[Cycle]) -> None:
    for cycle in cycles:
        for role, policies in cycle.roles.items():
            if "-warmth-" in role:  # LocalStack's schedules start nothing
                assert actions(policies) == {"lambda:InvokeFunction"}
                continue
            done = {asked.action for other, asked in cycle.of_roles() if other == role}
            assert unused(actions(policies), done, UNSEEN) == [], role
