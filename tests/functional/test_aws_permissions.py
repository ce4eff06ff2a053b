"""Whether the printed policies and the roles of functions suffice for what is called on AWS, and allow no more.

LocalStack lets everybody do everything, and writes down who did what. Here IAM's question is asked afterwards.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from tests import models
from tests.emulated_aws.permissions import Call, asked_of_registry, needed
from tests.emulated_aws.policies import Asked, Document, allows, matches
from tests.emulated_aws.resource_types import permissions
from tests.emulated_aws.server import ACCOUNT, CALLS, REGION, REGISTRY_PROGRAMS
from tests.functional.aws import X, client, keys, remove_all, sliced, target, wanted
from tests.functional.registries import need
from tests.functional.test_aws_doors import Deployed, awaited, body
from tests.functional.test_aws_images import OF_AWS, written_base
from tests.functional.test_aws_resource_types import resources

from lamella.targets.aws.iam_policies import Purpose, iam_policies
from lamella.targets.aws.iam_policies import needed as needed_by
from lamella.targets.aws.settings import ObjectEvents

NAME = "allowed"
DEPLOYER, RUNNER, NOBODY = "deployer", "runner", "test"
LARGE = np.random.default_rng(0).standard_normal((60_000, 32), np.float32)
Lived = TypeVar("Lived")
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
    "iam:CreateServiceLinkedRole": "LocalStack's services need no roles of their own",
    "lambda:GetAccountSettings": "LocalStack's account has no concurrency to reserve",
    "lambda:InvokeFunctionUrl": "LocalStack's URLs are open",
    "logs:*LogDeliver*": "LocalStack has no logs of workflows",
    "logs:*ResourcePolic*": "likewise",
    "logs:DescribeLogGroups": "likewise",
    "s3:AbortMultipartUpload": "no upload breaks off here",
    "xray:*": "LocalStack has no X-Ray",
}
"""What nothing here does, and why AWS still wants it."""

MOUNTS = {"FileSystems", "SeeFileSystems", "Networks", "SeeNetworks"}
OTHERS = {"image": {"Images", "ImageLogin"}, "efs": MOUNTS, "s3-files": MOUNTS}
"""What deliveries need that not every machine can try, and which statements are for them."""

NETWORK = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
}
"""What AWS Lambda does as a function's role. https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html"""

UNSEEN_OF_MOUNTS = UNSEEN | {
    "*:ClientMount": "mounting is no call; without this nothing is mounted here",
    "*:ClientWrite": "nor is writing; without this it is mounted to be read",
    "ec2:*": "functions are in no network here",
    "s3:GetObjectVersion": "S3 Files is a folder here, and nothing is read beside it",
}


@dataclass(frozen=True)
class Cycle:
    """What was called in a deployment's life, by whom, and what roles there were.

    Attributes:
        calls: In order.
        roles: Policies of each role, by name.
        pushed: What was asked of the registry of images.
        outputs: Of the stack.
    """

    calls: list[Call]
    roles: dict[str, list[Document]]
    pushed: list[Asked] = field(default_factory=list)
    outputs: Mapping[str, str] = field(default_factory=dict)

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
    for number, (workflow, delivery, slices) in enumerate(CYCLES):
        directory = sliced(source, folder / str(number), slices)
        roles, calls, _ = recorded(localstack_folder, lambda: live(aws, directory, workflow, delivery))  # noqa: B023
        found.append(Cycle(calls, roles))
    return found


@pytest.fixture(scope="module", params=list(OTHERS))
def other(
    request: pytest.FixtureRequest, aws: str, localstack_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Cycle]:
    """A delivery, and the life of a deployment with it."""
    del aws
    kind, folder = str(request.param), tmp_path_factory.mktemp("other")
    if kind == "image":
        need(*REGISTRY_PROGRAMS)
        chosen = {"delivery": "image", "base_image": str(written_base(folder / "base", OF_AWS))}
    elif os.geteuid() != 0:
        pytest.skip("only root may mount a file system for a function")
    else:
        chosen = {"delivery": "mount", "mount": kind}
    made = [
        sliced(models.mlp(folder / f"{layers}.onnx", layers=layers), folder / str(layers), 1) for layers in (2, 3, 4)
    ]
    (roles, outputs), calls, log = recorded(localstack_folder, lambda: short(made, chosen))
    return kind, Cycle(calls, roles, asked_of_registry(log), outputs)


def recorded(folder: Path, lived: Callable[[], Lived]) -> tuple[Lived, list[Call], str]:
    """What a life gives back, what was called meanwhile, and what LocalStack and its registry have logged."""
    with (folder / CALLS).open(encoding="utf-8") as file, (folder / "log").open(errors="replace") as log:
        file.seek(0, os.SEEK_END)
        log.seek(0, os.SEEK_END)
        try:
            found = lived()
        finally:
            remove_all()
        return found, [Call(**json.loads(line)) for line in file], log.read()


def short(made: list[Path], chosen: dict[str, Any]) -> tuple[dict[str, list[Document]], Mapping[str, str]]:
    """Versions, of which one is kept; requests; the end. Returns the policies of roles, and what the stack says."""
    delivery = chosen["delivery"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lamella.targets.aws.history.VERSIONS_KEPT", 1)
        patch.setenv("AWS_ACCESS_KEY_ID", DEPLOYER)
        for directory in made:
            target(**chosen).apply(wanted(NAME, directory, delivery=delivery))
        patch.setenv("AWS_ACCESS_KEY_ID", RUNNER)
        for inputs in ({"x": X}, {"x": LARGE}):
            target().infer(NAME, inputs)
        patch.setenv("AWS_ACCESS_KEY_ID", NOBODY)
        found = policies_of_roles(), dict(target().outputs(NAME))
        patch.setenv("AWS_ACCESS_KEY_ID", DEPLOYER)
        target().delete(NAME)
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
        runner.reports(NAME)  # what is in the logs by now is another test's
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
    elsewhere = set().union(*OTHERS.values())
    granted = {action for allowed in needed_by("deploy") if allowed.sid not in elsewhere for action in allowed.actions}
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


def test_other_deliveries_need_no_more_than_is_printed(other: tuple[str, Cycle]) -> None:
    kind, cycle = other
    done = [*cycle.of(DEPLOYER), *cycle.of_cloudformation(), *cycle.pushed]
    first = {"image": "ecr:PutImage", "efs": "elasticfilesystem:CreateFileSystem", "s3-files": "ec2:CreateVpc"}
    assert first[kind] in {each.action for each in done}
    assert refused(printed("deploy"), done) == []
    assert refused(printed("run"), cycle.of(RUNNER)) == []


def test_nothing_is_printed_that_other_deliveries_do_not_need(other: tuple[str, Cycle]) -> None:
    kind, cycle = other
    done = {each.action for each in [*cycle.of(DEPLOYER), *cycle.pushed]}
    called = set().union(*permissions({kind for kind, _ in resources()}).values())
    granted = {action for allowed in needed_by("deploy") if allowed.sid in OTHERS[kind] for action in allowed.actions}
    assert granted
    assert unused(granted, done | called, UNSEEN) == []


def test_functions_of_other_deliveries_may_do_what_they_do_and_no_more(other: tuple[str, Cycle]) -> None:
    kind, cycle = other
    done = cycle.of_roles()
    assert any("-slice-0" in role for role, _ in done)
    assert sorted({f"{role}: {asked}" for role, asked in done if not allows(cycle.roles[role], asked)}) == []
    excused = UNSEEN if kind == "image" else UNSEEN_OF_MOUNTS
    for role, policies in cycle.roles.items():
        if "-mount-" not in role:  # S3 Files' own, which it is that LocalStack lacks
            its = {asked.action for other, asked in done if other == role}
            assert unused(actions(policies), its, excused) == [], role


def test_functions_may_enter_their_network_and_mount_their_file_system_and_their_code_may_not(
    other: tuple[str, Cycle],
) -> None:
    kind, cycle = other
    entering = {role: NETWORK & actions(policies) for role, policies in cycle.roles.items() if "-mount-" not in role}
    assert set(map(frozenset, entering.values())) == {frozenset() if kind == "image" else frozenset(NETWORK)}
    service = "elasticfilesystem" if kind == "efs" else "s3files"
    system = f"arn:aws:{service}:{REGION}:{ACCOUNT}:file-system/{cycle.outputs.get('FileSystem')}"
    for role in () if kind == "image" else entering:
        policies, function = cycle.roles[role], role.removesuffix(f"-{REGION}")
        own = {"lambda:SourceFunctionArn": (f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}",)}
        assert refused(policies, [Asked(action) for action in NETWORK]) == []
        assert len(refused(policies, [Asked(action, "*", own) for action in NETWORK])) == len(NETWORK)
        assert not allows(policies, Asked(f"{service}:ClientMount", system)), "only through the access point"
        (mount,) = (entry for each in policies for entry in each["Statement"] if entry.get("Sid") == "Mount")
        through = {key: (value,) for key, value in mount["Condition"]["StringEquals"].items()}
        assert through.keys() == {f"{service}:AccessPointArn"}
        assert allows(policies, Asked(f"{service}:ClientMount", system, through))
        writes = allows(policies, Asked(f"{service}:ClientWrite", system, through))
        assert writes == ("-loader-" in role)
