"""Templates: least privilege, no open doors, and versions that outlive the release that replaced them."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.aws_stacks import DELIVERIES, DOORS, NAMES, chain, of_type, release, settings, side_by_side, stack

from lamella.errors import UsageError
from lamella.packaging.door import HANDLER
from lamella.targets.aws.checks import check_kept
from lamella.targets.aws.naming import Names
from lamella.targets.aws.release import Release
from lamella.targets.aws.settings import DEFAULT_CONCURRENCY, Budget, HttpApi, ObjectEvents, Settings
from lamella.targets.aws.template import foundation, published, template

ALL = [
    pytest.param(
        {**delivery, "workflow": workflow, **doors}, slices, id=f"{name}-{workflow}-{'doors' if doors else 'no'}"
    )
    for name, delivery in DELIVERIES.items()
    for workflow, slices in (("express", 3), ("standard", 3), ("direct", 3), ("single", 1))
    for doors in ({}, DOORS)
    if not (workflow == "direct" and "mount" in delivery)
]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def needed_by(entry: Any) -> set[str]:
    """Logical ids that a resource refers to."""
    found: set[str] = set()
    for key, value in walk(entry):
        if key == "Ref":
            found.add(value)
        elif key == "Fn::GetAtt":
            found.add(value[0])
        elif key == "Fn::Sub":
            found.update(name.split(".")[0] for name in re.findall(r"\$\{([^}]+)\}", value))
    return {name for name in found if not name.startswith("AWS::")} | set(entry.get("DependsOn", []))


def statements(found: dict[str, Any], role: str) -> list[dict[str, Any]]:
    policies = found["Resources"][role]["Properties"].get("Policies", [])
    return [entry for policy in policies for entry in policy["PolicyDocument"]["Statement"]]


def role_of(found: dict[str, Any], function: str) -> str:
    return str(found["Resources"][function]["Properties"]["Role"]["Fn::GetAtt"][0])


def function_of(found: dict[str, Any], name: str) -> str:
    return next(
        key for key, entry in of_type(found, "Lambda::Function").items() if entry["FunctionName"].endswith(name)
    )


def two_releases(chosen: Settings, **more: Any) -> tuple[Release, Release]:
    first = published(NAMES, chosen, release(chosen, chain(3)))
    second = published(NAMES, chosen, release(chosen, chain(2), number=2, digest="1" * 64, **more))
    return first, second


@pytest.mark.parametrize(("chosen", "slices"), ALL)
def test_references_resolve_and_never_go_in_circles(chosen: dict[str, Any], slices: int) -> None:
    found = stack(settings(**chosen), chain(slices))
    needs = {name: needed_by(entry) for name, entry in found["Resources"].items()}
    assert set().union(*needs.values(), needed_by(found["Outputs"])) <= set(needs)
    while needs:
        ready = {name for name, others in needs.items() if not others}
        assert ready, needs
        needs = {name: others - ready for name, others in needs.items() if name not in ready}


@pytest.mark.parametrize("workflow", ["express", "standard", "direct"])
@pytest.mark.parametrize(("first", "second"), [(1, 3), (3, 1), (2, 3), (1, 1)])
@pytest.mark.parametrize(("before", "after"), [({}, DOORS), (DOORS, {}), (DOORS, DOORS)])
def test_references_resolve_whichever_release_is_live(
    workflow: str, first: int, second: int, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Also where only one of them has doors, or only one has a workflow."""
    old, new = settings(workflow=workflow, **before), settings(workflow=workflow, **after)
    kept = [
        published(NAMES, old, release(old, chain(first))),
        published(NAMES, new, release(new, chain(second), number=2, digest="1" * 64)),
    ]
    for live, doors in ((1, before and after), (2, after)):
        found = template(NAMES, new, kept, live=live)
        needs = set().union(*map(needed_by, found["Resources"].values()), needed_by(found["Outputs"]))
        assert needs <= found["Resources"].keys()
        assert bool(of_type(found, "Lambda::Url")) is bool(of_type(found, "Lambda::EventSourceMapping")) is bool(doors)


@pytest.mark.parametrize(("chosen", "slices"), ALL)
def test_nothing_is_open_to_everybody(chosen: dict[str, Any], slices: int) -> None:
    found = stack(settings(**chosen), chain(slices))
    for name, entry in found["Resources"].items():
        for key, value in walk(entry["Properties"]):
            if key == "Statement":
                for one in value:
                    assert (
                        one["Effect"] == "Deny"
                        or one.get("Principal", "") not in ("*", {"AWS": "*"})
                        or (one["Condition"] == {"StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}})
                    ), name
                    actions = one["Action"] if isinstance(one["Action"], list) else [one["Action"]]
                    assert one["Effect"] == "Deny" or not {"*", "s3:*", "lambda:*"} & set(actions), name
    assert all(url["AuthType"] == "AWS_IAM" for url in of_type(found, "Lambda::Url").values())
    assert all(
        route["AuthorizationType"] in ("AWS_IAM", "JWT") for route in of_type(found, "ApiGatewayV2::Route").values()
    )
    assert all(all(b["PublicAccessBlockConfiguration"].values()) for b in of_type(found, "S3::Bucket").values())
    assert not of_type(found, "EC2::InternetGateway")
    assert not of_type(found, "EC2::NatGateway")


@pytest.mark.parametrize(("chosen", "slices"), ALL)
def test_everything_that_can_be_tagged_is(chosen: dict[str, Any], slices: int) -> None:
    found = stack(settings(**chosen, tags={"team": "vision"}), chain(slices))
    kinds = (
        "S3::Bucket",
        "Lambda::Function",
        "IAM::Role",
        "Logs::LogGroup",
        "SQS::Queue",
        "StepFunctions::StateMachine",
    )
    for kind in (*kinds, "EC2::VPC", "EC2::Subnet", "ECR::Repository"):
        for name, entry in of_type(found, kind).items():
            tags = {tag["Key"]: tag["Value"] for tag in entry["Tags"]}
            assert tags == {"team": "vision", "lamella:deployment": "bert", "lamella:stage": "dev"}, name


@pytest.mark.parametrize(("chosen", "slices"), ALL)
def test_every_function_is_capped_and_its_log_ends(chosen: dict[str, Any], slices: int) -> None:
    """Also where nobody chose a cap, or a time to keep logs."""
    found = stack(settings(**chosen), chain(slices))
    for name, entry in of_type(found, "Lambda::Function").items():
        assert entry["ReservedConcurrentExecutions"] in (1, DEFAULT_CONCURRENCY), name
        assert entry["LoggingConfig"]["LogGroup"]["Ref"] in of_type(found, "Logs::LogGroup")
    assert {entry["RetentionInDays"] for entry in of_type(found, "Logs::LogGroup").values()} == {14}


@pytest.mark.parametrize(("chosen", "slices"), ALL)
def test_the_bucket_is_private_and_encrypted_and_what_passes_ends(chosen: dict[str, Any], slices: int) -> None:
    found = stack(settings(**chosen), chain(slices))
    [bucket] = of_type(found, "S3::Bucket").values()
    [encryption] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    ends = {rule.get("Prefix"): rule.get("ExpirationInDays") for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert (ends["requests/"], ends["results/"]) == (1, 1)
    [policy] = of_type(found, "S3::BucketPolicy").values()
    [tls] = [entry for entry in policy["PolicyDocument"]["Statement"] if entry["Sid"] == "TlsOnly"]
    assert (tls["Effect"], tls["Action"], tls["Principal"]) == ("Deny", "s3:*", "*")
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_a_budget_tells_of_what_was_spent_and_of_what_will_be() -> None:
    [found] = of_type(stack(settings(budget=Budget(20, "me@example.com")), chain(1)), "Budgets::Budget").values()
    assert found["Budget"]["BudgetLimit"] == {"Amount": 20, "Unit": "USD"}
    assert found["Budget"]["CostFilters"] == {"TagKeyValue": ["user:lamella:deployment$bert"]}
    notices = [entry["Notification"] for entry in found["NotificationsWithSubscribers"]]
    assert [(each["NotificationType"], each["Threshold"]) for each in notices] == [("ACTUAL", 80), ("FORECASTED", 100)]


def test_a_slice_reads_its_own_weights_and_no_others() -> None:
    found = stack(settings(delivery="object-store"), chain(3))
    for index in range(3):
        [weights] = [
            s for s in statements(found, role_of(found, function_of(found, f"slice-{index}"))) if s["Sid"] == "Weights"
        ]
        assert weights["Action"] == ["s3:GetObject"]
        assert weights["Resource"] == [{"Fn::Sub": f"${{Bucket.Arn}}/weights/{index}{'0' * 63}"}]


def test_a_slice_may_write_logs_and_values_and_nothing_else() -> None:
    found = stack(settings(), chain(2))
    sids = [entry["Sid"] for entry in statements(found, role_of(found, function_of(found, "slice-0")))]
    assert sids == ["Log", "Values"]


def test_a_slice_invokes_the_next_one_only_where_it_must() -> None:
    found = stack(settings(workflow="direct"), chain(3))
    first, last = (statements(found, role_of(found, function_of(found, f"slice-{index}"))) for index in (0, 2))
    [invokes] = [entry for entry in first if entry["Sid"] == "Next"]
    assert [text["Fn::Sub"].rpartition(":function:")[2] for text in invokes["Resource"]] == [
        "lamella-bert-dev-bert-slice-1:*"
    ]
    assert "Next" not in {entry["Sid"] for entry in last}


def test_functions_on_a_mount_read_it_and_only_the_loader_writes() -> None:
    found = stack(settings(delivery="mount", mount="efs"), chain(2))
    readers = statements(found, role_of(found, function_of(found, "slice-0")))
    writer = statements(found, "LoaderRole")
    [read], [write] = ([entry for entry in some if entry["Sid"] == "Mount"] for some in (readers, writer))
    assert read["Action"] == ["elasticfilesystem:ClientMount"]
    assert write["Action"] == ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    assert found["Resources"][function_of(found, "slice-0")]["DependsOn"] == ["MountTargetA", "MountTargetB"]


def test_a_file_system_stays_and_versions_keep_what_they_had() -> None:
    """Version 1 is in a package, 2 on the mount, 3 in a package again: functions leave the network, versions do not."""
    packaged, on_mount = settings(), settings(delivery="mount", mount="efs")
    first = published(NAMES, packaged, release(packaged, chain(1)))
    second = published(NAMES, on_mount, release(on_mount, chain(1), number=2))
    third = published(NAMES, packaged, release(packaged, chain(1), number=3, digest="3" * 64))
    between = template(NAMES, on_mount, [first, second], live=2)
    after = template(NAMES, packaged, [first, second, third], live=3, mount="efs")
    loader = of_type(after, "Lambda::Function")["Loader"]
    for found, is_mounted in ((after, False), (between, True)):
        [slice_] = [entry for name, entry in of_type(found, "Lambda::Function").items() if name != "Loader"]
        assert ("VpcConfig" in slice_, "FileSystemConfigs" in slice_) == (is_mounted, is_mounted)
    assert "VpcConfig" in loader
    assert set(of_type(after, "Lambda::Version")) == {each.functions[0].version for each in (first, second, third)}
    sids = {entry["Sid"] for entry in statements(after, role_of(after, function_of(after, "slice-0")))}
    assert {"Mount", "Network"} <= sids, "version 2 can still be asked"
    gone = template(NAMES, packaged, [third], live=3, mount="efs")
    assert of_type(gone, "EFS::FileSystem").keys() == {"FileSystem"}
    assert gone["Outputs"].keys() == between["Outputs"].keys()


def test_a_file_system_that_cannot_be_mounted_at_once_is_tried_again() -> None:
    for delivery, is_tried in (({"delivery": "mount", "mount": "efs"}, True), ({}, False)):
        [machine] = of_type(stack(settings(**delivery), chain(2)), "StepFunctions::StateMachine").values()
        assert ("Lambda.EFSMountTimeoutException" in machine["DefinitionString"]["Fn::Sub"]) == is_tried


def test_the_door_may_start_this_deployments_workflows_only() -> None:
    found = stack(settings(**DOORS), chain(2))
    allowed = {entry["Sid"]: entry for entry in statements(found, role_of(found, function_of(found, "door")))}
    assert allowed["Express"]["Action"] == ["states:StartSyncExecution"]
    assert [text["Fn::Sub"].rpartition(":")[2] for text in allowed["Express"]["Resource"]] == ["lamella-bert-dev-bert"]
    assert "Next" not in allowed


@pytest.mark.parametrize("workflow", ["express", "standard", "direct"])
def test_a_release_keeps_its_versions_when_another_follows(workflow: Any) -> None:
    chosen = settings(workflow=workflow)
    first, second = two_releases(chosen)
    before = template(NAMES, chosen, [first], live=1)
    after = template(NAMES, chosen, [first, second], live=2)
    old, new = (of_type(found, "Lambda::Version") for found in (before, after))
    assert {name: new[name] for name in old} == old, "a version that is there must not be touched"
    assert len(new) == len(old) + 2
    assert len(of_type(after, "Lambda::Function")) == 3, "a slice that only the old release has stays"
    assert len(of_type(after, "Lambda::Alias")) == 2


@pytest.mark.parametrize("workflow", ["express", "standard"])
def test_rollback_moves_aliases_and_workflows_and_publishes_nothing(workflow: Any) -> None:
    chosen = settings(workflow=workflow)
    first, second = two_releases(chosen)
    forth, back = (template(NAMES, chosen, [first, second], live=number) for number in (2, 1))
    for kind in ("Lambda::Function", "Lambda::Version"):
        assert of_type(forth, kind) == of_type(back, kind)
    pointed = [alias["FunctionVersion"]["Fn::GetAtt"][0] for alias in of_type(back, "Lambda::Alias").values()]
    assert sorted(pointed) == sorted(function.version_id for function in first.functions)
    [machine] = of_type(back, "StepFunctions::StateMachine").values()
    named = set(re.findall(r"\$\{(Version\w+)\}", machine["DefinitionString"]["Fn::Sub"]))
    assert named == {function.version_id for function in first.functions}


def test_a_version_is_another_exactly_where_aws_would_publish_another() -> None:
    chosen = settings()
    [version, *_] = (function.version for function in published(NAMES, chosen, release(chosen, chain(2))).functions)

    def again(changed: Settings, **more: Any) -> str | None:
        return published(NAMES, changed, release(changed, chain(2), **more)).functions[0].version

    assert (
        again(chosen) == again(replace(chosen, tags={"team": "x"})) == again(replace(chosen, concurrency=3)) == version
    )
    assert again(chosen, memory_mb=2048) != version
    assert again(chosen, digest="1" * 64) != version
    assert again(replace(chosen, tracing=True)) != version


def test_with_direct_a_changed_last_slice_changes_all_before_it() -> None:
    chosen = settings(workflow="direct")
    before = published(NAMES, chosen, release(chosen, chain(3)))
    wanted = release(chosen, chain(3))
    last = replace(wanted.functions[2], memory_mb=4096)
    after = published(NAMES, chosen, wanted.with_function(last))
    assert all(old.version != new.version for old, new in zip(before.functions, after.functions, strict=True))


def test_a_kept_version_id_is_never_computed_anew() -> None:
    chosen = settings()
    kept = release(chosen, chain(1))
    kept = kept.with_function(replace(kept.functions[0], version="VersionOfAnEarlierLamella"))
    assert published(NAMES, chosen, kept) == kept


def test_provisioned_instances_are_where_requests_go_and_of_the_live_version_only() -> None:
    chosen = settings(provisioned_concurrency=2)
    first, second = two_releases(chosen)
    found = template(NAMES, chosen, [first, second], live=2)
    ready = {name for name, alias in of_type(found, "Lambda::Alias").items() if "ProvisionedConcurrencyConfig" in alias}
    [machine] = of_type(found, "StepFunctions::StateMachine").values()
    assert ready == set(re.findall(r"\$\{(Pinned\w+)\}", machine["DefinitionString"]["Fn::Sub"]))
    assert len(ready) == 2
    single = stack(settings(provisioned_concurrency=2), chain(1))
    [alias] = of_type(single, "Lambda::Alias").values()
    assert alias["Name"] == "live"
    assert alias["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": 2}


def test_a_repository_stays_as_long_as_a_kept_release_needs_it() -> None:
    image, package = settings(delivery="image"), settings()
    first = published(NAMES, image, release(image, chain(1, "old")))
    second = published(NAMES, package, release(package, chain(1, "new"), number=2))
    assert "Repository" in template(NAMES, package, [first, second], live=2)["Resources"]
    assert "Repository" not in template(NAMES, package, [second], live=2)["Resources"]


@pytest.mark.parametrize(
    ("slices", "more", "image"), [(1, {"handler": HANDLER}, {"Command": [HANDLER]}), (2, {}, None)]
)
def test_an_image_names_the_handler_of_a_slice_and_the_function_that_of_a_door(
    slices: int, more: dict[str, Any], image: Any
) -> None:
    found = stack(settings(delivery="image", function_url=True), chain(slices), **more)
    function = found["Resources"][function_of(found, "slice-0")]["Properties"]
    assert (function["PackageType"], function.get("ImageConfig")) == ("Image", image)
    assert "Handler" not in function


def test_a_function_does_not_turn_from_a_package_into_an_image() -> None:
    first = release(settings(), chain(1))
    check_kept([first, release(settings(), chain(1), number=2, digest="1" * 64)])
    with pytest.raises(UsageError, match="cannot become an image"):
        check_kept([first, release(settings(delivery="image"), chain(1), number=2)])


def test_a_queue_hides_what_is_worked_on_for_six_timeouts() -> None:
    found = stack(settings(s3_events=ObjectEvents(50, 20, "in/", "out/")), chain(2))
    [reader] = of_type(found, "Lambda::EventSourceMapping").values()
    assert reader["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert (reader["BatchSize"], reader["MaximumBatchingWindowInSeconds"]) == (50, 20)
    door = found["Resources"][function_of(found, "door")]["Properties"]
    assert found["Resources"]["Queue"]["Properties"]["VisibilityTimeout"] == 6 * door["Timeout"] + 20
    assert json.loads(door["Environment"]["Variables"]["LAMELLA_EVENTS"]) == {"inputs": "in/", "results": "out/"}


def test_an_api_with_tokens_checks_issuer_and_audience() -> None:
    found = stack(settings(http_api=HttpApi("jwt", "https://issuer.example", ("me", "you"))), chain(2))
    [authorizer] = of_type(found, "ApiGatewayV2::Authorizer").values()
    assert authorizer["JwtConfiguration"] == {"Issuer": "https://issuer.example", "Audience": ["me", "you"]}
    for route in of_type(found, "ApiGatewayV2::Route").values():
        assert (route["AuthorizationType"], route["AuthorizerId"]) == ("JWT", {"Ref": "HttpApiAuthorizer"})


def test_the_door_knows_how_each_model_is_started() -> None:
    chosen = settings(function_url=True)
    found = stack(chosen, side_by_side("first"), chain(1, "second"))
    variables = found["Resources"][function_of(found, "door")]["Properties"]["Environment"]["Variables"]
    known = json.loads(variables["LAMELLA_WORKFLOW"]["Fn::Sub"])
    assert {name: entry["kind"] for name, entry in known.items()} == {"first": "express", "second": "single"}
    machine = known["first"]["arn"].rpartition(":")[2]
    assert machine in {entry["StateMachineName"] for entry in of_type(found, "StepFunctions::StateMachine").values()}
    assert known["second"]["arn"].removeprefix("${").removesuffix("}") in of_type(found, "Lambda::Alias")
    assert all(entry["inline_bytes"] > 0 for entry in known.values())


@pytest.mark.parametrize("slices", [1, 2])
def test_what_answers_later_needs_no_way_in_from_outside(slices: int) -> None:
    found = stack(settings(asynchronous=True), chain(slices))
    for kind in ("Lambda::Url", "ApiGatewayV2::Api", "Lambda::Permission", "SQS::Queue"):
        assert of_type(found, kind) == {}
    variables = [each["Environment"]["Variables"] for each in of_type(found, "Lambda::Function").values()]
    assert sum("LAMELLA_NAME" in each for each in variables) == 1
    assert "Door" in found["Outputs"]
    rules = next(iter(of_type(found, "S3::Bucket").values()))["LifecycleConfiguration"]["Rules"]
    assert {"requests/", "results/"} <= {rule.get("Prefix") for rule in rules}


def test_a_single_slice_that_is_the_door_names_itself() -> None:
    found = stack(settings(function_url=True), chain(1))
    [function] = of_type(found, "Lambda::Function").values()
    known = json.loads(function["Environment"]["Variables"]["LAMELLA_WORKFLOW"])
    assert known["bert"]["arn"] == function["FunctionName"]


def test_the_foundation_is_a_part_of_the_whole() -> None:
    for delivery in DELIVERIES.values():
        chosen = settings(**delivery)
        base, whole = foundation(NAMES, chosen), stack(chosen, chain(2))
        assert base["Resources"].items() <= whole["Resources"].items()
        assert base["Outputs"].items() <= whole["Outputs"].items()


def test_an_account_that_can_reserve_nothing_reserves_nothing() -> None:
    found = stack(settings(concurrency=None, delivery="mount", mount="efs"), chain(2))
    assert all("ReservedConcurrentExecutions" not in entry for entry in of_type(found, "Lambda::Function").values())
    capped = stack(settings(concurrency=7), chain(2))
    assert all(entry["ReservedConcurrentExecutions"] == 7 for entry in of_type(capped, "Lambda::Function").values())


def test_a_template_without_an_account_names_its_bucket_by_functions() -> None:
    names = Names("bert", "dev", "eu-central-1")
    chosen = settings(**DOORS)
    found = template(names, chosen, [published(names, chosen, release(chosen, chain(2)))], live=1)
    assert "${AWS::AccountId}" in found["Resources"]["Bucket"]["Properties"]["BucketName"]["Fn::Sub"]
    assert "123456789012" not in json.dumps(found)
