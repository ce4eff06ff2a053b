"""Stacks in states that no emulator brings about: what CloudFormation is asked, by its recorded answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from lamella.errors import RemoteError
from lamella.targets.aws.stacks import Progress, Stacks


class Scripted:
    """An account that gives one status of a stack after the other.

    The fields are those of https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html.
    """

    def __init__(self, *statuses: str, events: tuple[tuple[str, str, str], ...] = ()) -> None:
        self.statuses, self.events, self.called = list(statuses), events, []

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        self.called.append(operation)
        if operation == "continue_update_rollback":
            self.statuses.pop(0)
        return {}

    def try_call(self, service: str, operation: str, *codes: str, **parameters: Any) -> dict[str, Any]:
        if operation == "describe_stack_events":
            found = enumerate(self.events if "continue_update_rollback" in self.called else ())
            return {
                "StackEvents": [
                    {
                        "EventId": str(index),
                        "LogicalResourceId": name,
                        "ResourceStatus": status,
                        "ResourceStatusReason": why,
                    }
                    for index, (name, status, why) in found
                ]
            }
        status = self.statuses[0]
        if len(self.statuses) > 1 and status.endswith("_IN_PROGRESS"):
            self.statuses.pop(0)
        return {"Stacks": [{"StackId": "arn:stack", "StackName": "s", "StackStatus": status}]}

    def pages(self, *_: str, **__: Any) -> Iterator[Any]:
        return iter(())


class Failing:
    """An account in which there is no stack, and in which none can be made."""

    def __init__(self, *events: tuple[str, str, str]) -> None:
        self.events, self.called, self.status = events, [], "DELETE_COMPLETE"

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        self.called.append(operation)
        self.status = {"execute_change_set": "ROLLBACK_COMPLETE", "delete_stack": "DELETE_COMPLETE"}.get(
            operation, self.status
        )
        return {"Id": "arn:change", "StackId": "arn:stack", "Status": "CREATE_COMPLETE"}

    def try_call(self, service: str, operation: str, *codes: str, **parameters: Any) -> dict[str, Any]:
        if operation == "describe_stacks":
            return {"Stacks": [{"StackId": "arn:stack", "StackName": "s", "StackStatus": self.status}]}
        return {
            "StackEvents": [
                {
                    "EventId": name,
                    "LogicalResourceId": name,
                    "ResourceType": f"AWS::Lambda::{name}",
                    "ResourceStatus": status,
                    "ResourceStatusReason": why,
                }
                for name, status, why in reversed(self.events)
            ]
        }


def test_an_update_that_could_not_be_taken_back_is_taken_back_again() -> None:
    account, told = Scripted("UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"), []
    Stacks(account, told=told.append, poll_s=0).settle("s")  # type: ignore[arg-type]
    assert account.called == ["continue_update_rollback"]
    assert account.statuses == ["UPDATE_ROLLBACK_COMPLETE"]


def test_one_that_can_never_be_taken_back_is_named() -> None:
    events = (("Alias", "UPDATE_FAILED", "no such version"),)
    account = Scripted("UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", events=events)
    told: list[Progress] = []
    with pytest.raises(RemoteError, match=r"could not be changed back: Alias .*no such version"):
        Stacks(account, told=told.append, poll_s=0).settle("s")  # type: ignore[arg-type]
    assert [event.status for event in told] == ["UPDATE_FAILED"]


def test_what_an_earlier_run_began_is_waited_for() -> None:
    account = Scripted("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE")
    Stacks(account, poll_s=0).settle("s")  # type: ignore[arg-type]
    assert account.called == []
    assert account.statuses == ["UPDATE_COMPLETE"]


RESERVED = (
    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
    "minimum value of [100]. (Service: Lambda, Status Code: 400)"
)  # https://repost.aws/knowledge-center/lambda-concurrency-limit-increase
MEMORY = (
    "Resource handler returned message: \"'MemorySize' value failed to satisfy constraint: Member must have value less "
    'than or equal to 3008 (Service: Lambda, Status Code: 400)"'
)  # https://github.com/awslabs/genai-bedrock-agent-chatbot/issues/4


@pytest.mark.parametrize(
    ("reason", "way_out"),
    [
        ("lamella-bert-dev-slice-0 already exists in stack arn:aws:cloudformation:eu-central-1", "choose another name"),
        ("lamella-bert-dev-01234567 already exists", "choose another name"),
        (RESERVED, "--concurrency"),
        (MEMORY, "3,008 MB"),
        ("Code storage limit exceeded. (Service: Lambda, HandlerErrorCode: ServiceLimitExceeded)", "Service Quotas"),
        ("User: arn:aws:iam::123456789012:user/me is not authorized to perform: iam:CreateRole", "iam-policy"),
        ("Rate exceeded (Service: Lambda, Status Code: 429)", "run it again"),
        ("Internal Failure", "what was there before"),
    ],
)
def test_a_resource_that_fails_comes_with_a_way_out(reason: str, way_out: str) -> None:
    account = Failing(("Function", "CREATE_FAILED", reason), ("Role", "CREATE_FAILED", "Resource creation cancelled"))
    with pytest.raises(RemoteError) as caught:
        Stacks(account, poll_s=0).apply("s", "{}", tags={})  # type: ignore[arg-type]
    assert str(caught.value) == f"the stack `s` could not be made: Function (AWS::Lambda::Function): {reason}"
    assert way_out in (caught.value.hint or "")
    assert account.called[-1] == "delete_stack"
