"""CloudFormation stacks: made and changed by change sets, with progress, and deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from lamella.errors import RemoteError
from lamella.targets.aws.account import Account

INLINE_BYTES = 51_200
"""Longest template in a call; a longer one is read from a bucket.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
"""

_MISSING = ("ValidationError", "StackNotFoundException")
_USELESS = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS", "CREATE_FAILED", "DELETE_FAILED"}
"""Of a stack that never was, and that cannot be changed: it is deleted first."""

_NOT_THERE = {"CREATE_FAILED", "DELETE_COMPLETE"}
"""Of a resource: what could not be made may be somebody else's, under the same name."""

_PENDING = {"CREATE_PENDING", "CREATE_IN_PROGRESS"}  # of a change set
_UNCHANGED = ("didn't contain changes", "No updates are to be performed", "no changes")
_COMPLETE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
_SHOWN = 3  # of the failures
_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]


@dataclass(frozen=True)
class Progress:
    """What happens to one resource.

    Attributes:
        resource: Its logical id.
        kind: Its type: `AWS::Lambda::Function`.
        status: As CloudFormation says it: `CREATE_COMPLETE`.
        reason: Why, where it says that.
    """

    resource: str
    kind: str
    status: str
    reason: str


@dataclass(frozen=True)
class Stack:
    """What a stack says of itself.

    Attributes:
        tags: Its tags.
        outputs: Its outputs; None where it was never complete, or is on its way out.
    """

    tags: dict[str, str]
    outputs: dict[str, str] | None


@dataclass(frozen=True)
class Resource:
    """Something in a stack.

    Attributes:
        logical: Its name in the template.
        kind: Its type: `AWS::S3::Bucket`.
        physical: Its name or ARN on AWS.
    """

    logical: str
    kind: str
    physical: str


class Stacks:
    """The stacks of an account and region.

    Args:
        account: Whose they are.
        told: Called with each thing that happens while a stack changes.
        poll_s: How often CloudFormation is asked.
    """

    def __init__(
        self, account: Account, *, told: Callable[[Progress], None] | None = None, poll_s: float = 2.0
    ) -> None:
        self._account, self._told, self._poll_s = account, told or (lambda _: None), poll_s

    def find(self, name: str) -> Stack | None:
        """A stack in whatever state; None where there is none."""
        found = self._find(name)
        return None if found is None else Stack(_tags(found), _outputs(found))

    def resources(self, name: str) -> list[Resource]:
        """What is in a stack: only what CloudFormation itself has made, and has not deleted."""
        if self._find(name) is None:
            return []
        found = self._account.pages("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=name)
        return [
            Resource(str(entry["LogicalResourceId"]), str(entry["ResourceType"]), str(entry["PhysicalResourceId"]))
            for entry in found
            if entry.get("PhysicalResourceId") and entry["ResourceStatus"] not in _NOT_THERE
        ]

    def settle(self, name: str) -> None:
        """Wait for what an earlier run has begun, and end what it left half-changed.

        Raises:
            RemoteError: A stack can be neither changed nor changed back; the text names the resource.
        """
        self._settled(name)

    def named(self, tags: Mapping[str, str | None]) -> Iterator[tuple[str, dict[str, str]]]:
        """Name and tags of the stacks that have these tags, with any value where None is given."""
        for found in self._account.pages("cloudformation", "describe_stacks", "Stacks"):
            own = _tags(found)
            there = found["StackStatus"] != "DELETE_COMPLETE"
            if there and all(key in own and value in (None, own[key]) for key, value in tags.items()):
                yield str(found["StackName"]), own

    def apply(
        self, name: str, template: str, *, tags: Mapping[str, str], place: Callable[[str], str] | None = None
    ) -> dict[str, str]:
        """Make a stack, or change it to be as the template says; returns its outputs.

        What an earlier run has begun is waited for, and what it left half-made is deleted first. A stack that cannot be
        made is deleted again, and one that cannot be changed is as it was before.

        Args:
            name: Its name.
            template: JSON.
            tags: Of the stack and of everything in it.
            place: Puts a template that is too long for a call somewhere, and returns its URL.

        Raises:
            RemoteError: It cannot be made or changed; the text names the resource and AWS's reason.
        """
        found = self._settled(name)
        if found is not None and found["StackStatus"] in _USELESS:
            self.delete(name)
            found = None
        body = {"TemplateBody": template}
        if len(template.encode()) > INLINE_BYTES:
            if place is None:
                raise RemoteError(f"the template of `{name}` is too long", hint="deploy fewer models together")
            body = {"TemplateURL": place(template)}
        seen = set() if found is None else {event["EventId"] for event in self._events(str(found["StackId"]))}
        stack = self._change(name, body, tags, is_new=found is None)
        if stack is not None:
            self._follow(stack, set(seen))
            self._check(name, stack, seen, is_new=found is None)
        made = self.find(name)
        if made is None or made.outputs is None:
            raise RemoteError(f"the stack `{name}` is gone", hint="deploy it again")
        return made.outputs

    def delete(self, name: str) -> None:
        """Delete a stack and wait for it; nothing happens where there is none.

        Raises:
            RemoteError: A resource cannot be deleted; the text names it.
        """
        found = self._settled(name)
        if found is None:
            return
        stack = str(found["StackId"])
        seen = {event["EventId"] for event in self._events(stack)}
        self._account.call("cloudformation", "delete_stack", StackName=stack)
        if self._follow(stack, set(seen)) != "DELETE_COMPLETE":
            raise self._failure(name, stack, seen, "could not be deleted")

    def _change(self, name: str, body: Mapping[str, str], tags: Mapping[str, str], *, is_new: bool) -> str | None:
        """Make a change set and begin it; returns the stack's id, or None where nothing changes."""
        made = self._account.call(
            "cloudformation",
            "create_change_set",
            StackName=name,
            ChangeSetName=f"lamella-{token_hex(6)}",
            ChangeSetType="CREATE" if is_new else "UPDATE",
            Capabilities=_CAPABILITIES,
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            **({"OnStackFailure": "DELETE"} if is_new else {}),
            **body,
        )
        stack = str(made["StackId"])
        change = {"ChangeSetName": made["Id"], "StackName": stack}  # rights to a change set are those to its stack
        while (found := self._account.call("cloudformation", "describe_change_set", **change))["Status"] in _PENDING:
            time.sleep(self._poll_s)
        if found["Status"] != "FAILED":
            self._account.call("cloudformation", "execute_change_set", **change)
            return stack
        reason = str(found.get("StatusReason", ""))
        self._account.call("cloudformation", "delete_change_set", **change)
        if any(text in reason for text in _UNCHANGED):
            return None
        if is_new:
            self.delete(name)
        raise RemoteError(f"CloudFormation refuses the stack `{name}`: {reason}", hint="nothing has changed")

    def _check(self, name: str, stack: str, seen: Set[str], *, is_new: bool) -> None:
        """Refuse a stack that is not as it was wanted; one that was to be new is gone then."""
        found = self._find(stack)
        if found is not None and found["StackStatus"] in _COMPLETE:
            return
        failure = self._failure(name, stack, seen, "could not be made" if is_new else "could not be changed")
        if is_new:
            self.delete(name)
        raise failure

    def _failure(self, name: str, stack: str, seen: Set[str], what: str) -> RemoteError:
        """What went wrong first: what fails later is mostly cancelled because of it."""
        events = [_progress(event) for event in reversed(self._events(stack, seen))]
        failed = [event for event in events if event.status.endswith("_FAILED") and _is_cause(event)]
        said = "; ".join(f"{event.resource} ({event.kind}): {event.reason}" for event in failed[:_SHOWN])
        return RemoteError(f"the stack `{name}` {what}{': ' if said else ''}{said}", hint=_way_out(failed))

    def _settled(self, name: str) -> dict[str, Any] | None:
        """A stack once nothing changes in it, which an earlier run may have begun; None where there is none."""
        found = self._find(name)
        if found is None:
            return None
        stack = str(found["StackId"])
        seen = {event["EventId"] for event in self._events(stack)}
        if _changes(found):
            self._follow(stack, set(seen))
            found = self._find(name)
        if found is not None and found["StackStatus"] == "UPDATE_ROLLBACK_FAILED":
            self._account.call("cloudformation", "continue_update_rollback", StackName=stack)
            if self._follow(stack, set(seen)) != "UPDATE_ROLLBACK_COMPLETE":
                raise self._failure(name, stack, seen, "could not be changed back")
            found = self._find(name)
        return found

    def _follow(self, stack: str, seen: set[str]) -> str:
        """Tell what happens that is not in `seen`, until nothing does; returns the last status."""
        while True:
            found = self._find(stack, deleted=True)
            for event in reversed(self._events(stack, seen)):
                seen.add(event["EventId"])
                self._told(_progress(event))
            if found is None:
                return "DELETE_COMPLETE"
            if not _changes(found):
                return str(found["StackStatus"])
            time.sleep(self._poll_s)

    def _events(self, stack: str, seen: Set[str] | None = None) -> list[Any]:
        """What happened in a stack that was not seen, the newest first; with None, the last that did."""
        given: dict[str, str] = {"StackName": stack}
        found: list[Any] = []
        while True:
            page = self._account.try_call("cloudformation", "describe_stack_events", *_MISSING, **given)
            if page is None:
                return found
            for event in page["StackEvents"]:
                if seen is not None and event["EventId"] in seen:
                    return found
                found.append(event)
            if seen is None or not page.get("NextToken"):
                return found
            given["NextToken"] = page["NextToken"]

    def _find(self, stack: str, *, deleted: bool = False) -> dict[str, Any] | None:
        found = self._account.try_call("cloudformation", "describe_stacks", *_MISSING, StackName=stack)
        stacks = [] if found is None else found["Stacks"]
        return next((each for each in stacks if deleted or each["StackStatus"] != "DELETE_COMPLETE"), None)


def _changes(stack: Mapping[str, Any]) -> bool:
    """Whether it is on its way to another state. A new one under review waits for somebody."""
    status = str(stack["StackStatus"])
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def _outputs(stack: Mapping[str, Any]) -> dict[str, str] | None:
    if stack["StackStatus"] in _USELESS or stack["StackStatus"].startswith("DELETE"):
        return None
    return {entry["OutputKey"]: entry["OutputValue"] for entry in stack.get("Outputs", ())}


def _tags(stack: Mapping[str, Any]) -> dict[str, str]:
    return {entry["Key"]: entry["Value"] for entry in stack.get("Tags", ())}


def _is_cause(event: Progress) -> bool:
    """Whether a failure is one of its own: not cancelled because of another, and not that of the whole stack."""
    return bool(event.reason) and "cancelled" not in event.reason


def _progress(event: Mapping[str, Any]) -> Progress:
    return Progress(
        str(event["LogicalResourceId"]),
        str(event.get("ResourceType", "")),
        str(event["ResourceStatus"]),
        str(event.get("ResourceStatusReason", "")),
    )


def _way_out(failed: Sequence[Progress]) -> str:
    """What to do about the first failure, by what CloudFormation says of it."""
    said = failed[0].reason.lower() if failed else ""
    if "already exist" in said or "alreadyexists" in said or "not available" in said:
        return (
            "something of that name is there already, perhaps of a deployment that was not deleted; choose another name"
        )
    if "memorysize" in said:  # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html (new accounts)
        return "a new account may give a function 3,008 MB: ask for less (`--memory`, more slices), or AWS for more"
    if "limit" in said or "quota" in said or "unreserved" in said:
        return "ask AWS for a higher quota (Service Quotas), or for less: `--concurrency`, `--memory`"
    if "not authorized" in said or "accessdenied" in said or "access denied" in said:
        return "`lamella iam-policy` prints what deploying must be allowed"
    if "rate exceeded" in said or "throttl" in said:
        return "AWS takes no more calls for a moment: run it again"
    return "what was there before is there still; the reason is AWS's own"
