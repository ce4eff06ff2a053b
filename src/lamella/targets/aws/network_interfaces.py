"""Network interfaces of functions: AWS Lambda removes them some time after the functions, and a network waits for that.

CloudFormation waits for them, too, but not for as long as AWS Lambda sometimes takes: then deleting the network fails,
and the stack is `DELETE_FAILED` until it is deleted again.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-lambda-function-vpcconfig.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lamella.errors import RemoteError
from lamella.targets.aws.account import Account
from lamella.targets.aws.stacks import Progress, Stacks

LONGEST_S = 45 * 60
"""How long they are waited for: AWS says 20 minutes, users have seen twice that."""

_LOOK = 10  # polls: nothing changes for minutes


def delete_stack(
    account: Account,
    stacks: Stacks,
    name: str,
    networks: Sequence[str],
    *,
    told: Callable[[Progress], None],
    poll_s: float,
    longest_s: float = LONGEST_S,
) -> None:
    """Delete a stack; where network interfaces in its networks prevent that, again once they are gone.

    Args:
        account: Whose it is.
        stacks: Where it is.
        name: Its name.
        networks: Ids of networks in it.
        told: Called whenever there are fewer interfaces.
        poll_s: A tenth of how often AWS is asked for them.
        longest_s: When to give up.

    Raises:
        RemoteError: A resource cannot be deleted, or interfaces are still there; the text names it.
    """
    try:
        stacks.delete(name)
    except RemoteError:
        if not networks or not _awaited(account, networks, told, _LOOK * poll_s, time.monotonic() + longest_s):
            raise
        stacks.delete(name)


def _awaited(
    account: Account, networks: Sequence[str], told: Callable[[Progress], None], wait_s: float, until: float
) -> bool:
    """Wait until networks have no interfaces; whether they had any, or there is another reason for the failure."""
    before = 0
    while count := _count(account, networks):
        if count != before:
            said = f"{count} of functions are left, which AWS Lambda removes within an hour"
            told(Progress(networks[0], "AWS::EC2::NetworkInterface", "DELETE_AWAITED", said))
        if time.monotonic() >= until:
            raise RemoteError(
                f"{count} network interfaces of functions are still in {', '.join(networks)}",
                hint="AWS Lambda removes them, and until then they cost nothing: delete it again in an hour",
            )
        before = count
        time.sleep(wait_s)
    return before > 0


def _count(account: Account, networks: Sequence[str]) -> int:
    filters = [{"Name": "vpc-id", "Values": list(networks)}]
    found = account.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=filters)
    return sum(1 for _ in found)
