"""Taking a deployment's stack away, with all that is in it."""

from __future__ import annotations

from collections.abc import Callable

from lamella.targets.aws.account import Account
from lamella.targets.aws.bucket import DeploymentBucket
from lamella.targets.aws.naming import Names
from lamella.targets.aws.network_interfaces import delete_stack
from lamella.targets.aws.stacks import Progress, Resource, Stacks


def remove(
    account: Account, stacks: Stacks, names: Names, *, told: Callable[[Progress], None], poll_s: float
) -> list[Resource]:
    """Delete a stack with all that is in it; returns what that was. What CloudFormation did not make stays."""
    resources = stacks.resources(names.stack)
    for resource in resources:
        if resource.kind == "AWS::S3::Bucket":
            DeploymentBucket(account, resource.physical).empty()
    networks = [resource.physical for resource in resources if resource.kind == "AWS::EC2::VPC"]
    delete_stack(account, stacks, names.stack, networks, told=told, poll_s=poll_s)
    for resource in resources:
        if resource.kind == "AWS::Logs::LogGroup":  # a function may have written while it was being deleted
            missing, group = "ResourceNotFoundException", resource.physical
            account.try_call("logs", "delete_log_group", missing, logGroupName=group)
    return resources
