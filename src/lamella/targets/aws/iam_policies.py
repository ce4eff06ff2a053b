"""What a user of AWS must be allowed: to deploy with Lamella, or only to send requests. Each action has its reason.

The data is in `iam_policies.toml`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from lamella.targets.aws.intrinsics import Json, policy

Purpose = Literal["deploy", "run"]

LONGEST = 6144
"""Characters of a managed policy, spaces aside: what deploying needs may come as several policies.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
"""


@dataclass(frozen=True)
class Allowed:
    """Actions that are needed for one purpose.

    Attributes:
        sid: What the statement is called.
        reason: Why they are needed.
        actions: With the service in front.
        resources: Patterns of ARNs, with `{partition}`, `{region}` and `{account}` in them.
        condition: When they are allowed; None: always.
    """

    sid: str
    reason: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: Mapping[str, object] | None = None

    def statement(self, *, partition: str, region: str, account: str) -> Json:
        """It as a statement of a policy."""
        resources = [pattern.format(partition=partition, region=region, account=account) for pattern in self.resources]
        found: Json = {"Sid": self.sid, "Effect": "Allow", "Action": list(self.actions), "Resource": resources}
        return found if self.condition is None else {**found, "Condition": dict(self.condition)}


def needed(purpose: Purpose) -> tuple[Allowed, ...]:
    """What somebody must be allowed; who deploys also sends requests."""
    known = _known()
    return known["run"] if purpose == "run" else (*known["run"], *known["deploy"])


def iam_policies(purpose: Purpose, *, partition: str = "aws", region: str = "*", account: str = "*") -> list[Json]:
    """The same as policies for IAM: as few as its limit allows, each below it.

    Args:
        purpose: What the user wants to do.
        partition: Of AWS: `aws`, `aws-cn`, `aws-us-gov`.
        region: Where; any by default.
        account: Whose resources; any by default, which a policy of an account means anyway.
    """
    policies: list[list[Json]] = [[]]
    for allowed in needed(purpose):
        found = allowed.statement(partition=partition, region=region, account=account)
        if len(compact(policy([*policies[-1], found]))) > LONGEST:
            policies.append([])
        policies[-1].append(found)
    return [policy(statements) for statements in policies]


def compact(found: Json) -> str:
    """A policy in as few characters as it can be written."""
    return json.dumps(found, separators=(",", ":"))


@cache
def _known() -> dict[Purpose, tuple[Allowed, ...]]:
    content = tomllib.loads(files(__package__).joinpath("iam_policies.toml").read_text(encoding="utf-8"))
    return {purpose: tuple(_allowed(entry) for entry in content[purpose]) for purpose in get_args(Purpose)}


def _allowed(entry: Mapping[str, Any]) -> Allowed:
    return Allowed(
        entry["sid"], entry["reason"], tuple(entry["actions"]), tuple(entry["resources"]), entry.get("condition")
    )
