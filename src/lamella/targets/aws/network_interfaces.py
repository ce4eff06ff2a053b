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
from lamella.targets.aws.stacks import Progress

LONGEST_S = 45 * 60
"""How long they are waited for: AWS says 20 minutes, users have seen twice that."""

_LOOK = 10  # polls: nothing changes for minutes


def await_interfaces(
    account: Account,
    networks: Sequence[str],
    *,
    told: Callable[[Progress], None],
    poll_s: float,
    longest_s: float = LONGEST_S,
) -> bool:
    """Wait until nothing has a network interface in networks any more.

    Args:
        account: Whose they are.
        networks: Ids of networks.
        told: Called whenever there are fewer.
        poll_s: A tenth of how often AWS is asked.
        longest_s: When to give up.

    Returns:
        Whether there were any: if not, what could not be deleted has another reason.

    Raises:
        RemoteError: They are still there, or AWS does not say.
    """
    until, before = time.monotonic() + longest_s, 0
    while count := _count(account, networks):
        if count != before:
            said = f"{count} of functions are left"
            told(Progress(networks[0], "AWS::EC2::NetworkInterface", "DELETE_AWAITED", said))
        if time.monotonic() >= until:
            raise RemoteError(
                f"{count} network interfaces of functions are still in {', '.join(networks)}",
                hint="AWS Lambda removes them, and until then they cost nothing: delete it again in an hour",
            )
        before = count
        time.sleep(_LOOK * poll_s)
    return before > 0


def _count(account: Account, networks: Sequence[str]) -> int:
    filters = [{"Name": "vpc-id", "Values": list(networks)}]
    found = account.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=filters)
    return sum(1 for _ in found)
