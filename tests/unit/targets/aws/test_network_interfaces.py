"""Networks that outlive their functions: CloudFormation's documented answers while AWS Lambda still has interfaces."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from lamella.errors import RemoteError
from lamella.targets.aws.account import Account
from lamella.targets.aws.network_interfaces import delete_stack
from lamella.targets.aws.stacks import Progress, Stacks


class Lingering:
    """An account in which some looks pass before interfaces are gone; until then the network cannot be deleted.

    The reason is as CloudFormation gives it.
    """

    def __init__(self, *interfaces: int, blocked: bool = True) -> None:
        self.interfaces, self.blocked, self.deleted, self.status = list(interfaces), blocked, 0, "UPDATE_COMPLETE"

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        assert (service, operation) == ("cloudformation", "delete_stack")
        self.deleted += 1
        self.status = "DELETE_FAILED" if self.blocked else "DELETE_COMPLETE"
        return {}

    def try_call(self, service: str, operation: str, *codes: str, **parameters: Any) -> dict[str, Any]:
        if operation == "describe_stacks":
            return {"Stacks": [{"StackId": "arn:stack", "StackName": "s", "StackStatus": self.status}]}
        event = {
            "EventId": "1",
            "LogicalResourceId": "FunctionsGroup",
            "ResourceType": "AWS::EC2::SecurityGroup",
            "ResourceStatus": "DELETE_FAILED",
            "ResourceStatusReason": "resource sg-0 has a dependent object",
        }
        return {"StackEvents": [event] if self.deleted else []}

    def pages(self, service: str, operation: str, entries: str, **parameters: Any) -> Iterator[Any]:
        assert parameters["Filters"] == [{"Name": "vpc-id", "Values": ["vpc-0"]}]
        count = self.interfaces.pop(0) if self.interfaces else 0
        self.blocked = count > 0
        return iter([{}] * count)


def delete(account: Lingering, told: list[Progress], *, longest_s: float = 60) -> None:
    known = cast(Account, account)
    delete_stack(known, Stacks(known, poll_s=0), "s", ["vpc-0"], told=told.append, poll_s=0, longest_s=longest_s)


def test_a_network_is_deleted_once_its_interfaces_are_gone() -> None:
    account, told = Lingering(3, 3, 1), list[Progress]()
    delete(account, told)
    assert (account.deleted, account.status) == (2, "DELETE_COMPLETE")
    assert [event.reason[:1] for event in told] == ["3", "1"]


def test_interfaces_that_stay_are_said_after_a_while() -> None:
    account = Lingering(*[2] * 99)
    with pytest.raises(RemoteError, match="2 network interfaces of functions are still in vpc-0") as caught:
        delete(account, [], longest_s=0)
    assert "delete it again in an hour" in (caught.value.hint or "")
    assert account.deleted == 1


def test_another_reason_is_not_waited_for() -> None:
    account = Lingering()
    with pytest.raises(RemoteError, match=r"FunctionsGroup .*has a dependent object"):
        delete(account, [])
    assert account.deleted == 1
