"""What is left of a deployment after it was deleted: asked of AWS, not assumed."""

from __future__ import annotations

from collections.abc import Iterator

from lamella.targets.aws.account import Account
from lamella.targets.aws.naming import Names

_GONE = ("404", "NoSuchBucket", "NotFound", "ResourceNotFoundException")


def leftovers(account: Account, names: Names) -> list[str]:
    """ARNs, or names, of what still exists under this deployment's names and tags.

    Tags are read from the tagging service, which tells of some resources for a while after they are gone: only those
    that their own services still know count.

    Raises:
        RemoteError: AWS does not say.
    """
    return sorted(
        {*_logs(account, names), *_functions(account, names), *_bucket(account, names), *_machines(account, names)}
    )


def log_groups(account: Account, names: Names) -> list[str]:
    """Names of the logs of this deployment."""
    places = (f"/aws/lambda/{names.stack}-", f"/aws/vendedlogs/states/{names.stack}")
    return [
        str(group["logGroupName"])
        for place in places
        for group in account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=place)
    ]


def _logs(account: Account, names: Names) -> Iterator[str]:
    yield from log_groups(account, names)


def _functions(account: Account, names: Names) -> Iterator[str]:
    for function in account.pages("lambda", "list_functions", "Functions"):
        found = account.try_call("lambda", "list_tags", *_GONE, Resource=function["FunctionArn"])
        tags = {} if found is None else found.get("Tags", {})
        if tags.get("lamella:deployment") == names.name and tags.get("lamella:stage") == names.stage:
            yield str(function["FunctionArn"])


def _machines(account: Account, names: Names) -> Iterator[str]:
    for machine in account.pages("stepfunctions", "list_state_machines", "stateMachines"):
        if str(machine["name"]).startswith(f"{names.stack}-"):
            yield str(machine["stateMachineArn"])


def _bucket(account: Account, names: Names) -> Iterator[str]:
    if account.try_call("s3", "head_bucket", *_GONE, Bucket=str(names.bucket)) is not None:
        yield f"s3://{names.bucket}"
