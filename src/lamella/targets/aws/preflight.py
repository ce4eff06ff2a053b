"""What the account must allow, asked before anything is made."""

from __future__ import annotations

from lamella.errors import PlanError
from lamella.targets.aws.account import Account
from lamella.targets.aws.network import SUBNETS
from lamella.targets.aws.release import Release
from lamella.targets.aws.repository import ecr_login
from lamella.targets.aws.settings import Settings

UNRESERVED = 100
"""Of an account's concurrency, so much must stay for functions that reserve none.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""

NETWORKS_QUOTA, NETWORKS_DEFAULT = "L-F678F1CE", 5
"""How many networks an account may have in a region, as Service Quotas calls it, and unless AWS was asked for more.

https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html
"""


def check_images(account: Account) -> None:
    """Refuse images of somebody who may not push any.

    Raises:
        RemoteError: AWS gives no password for the account's registry.
    """
    ecr_login(account)


def check_quotas(account: Account, settings: Settings, release: Release, *, reserved: int = 0) -> None:
    """Refuse what the account's quotas do not allow.

    Args:
        account: Whose quotas.
        settings: How it is set up.
        release: What is to be deployed.
        reserved: Concurrency that this deployment has reserved already.

    Raises:
        PlanError: The account allows too little concurrency.
        RemoteError: AWS does not say.
    """
    if settings.concurrency is None:
        return
    limits = account.call("lambda", "get_account_settings")["AccountLimit"]
    free = int(limits.get("UnreservedConcurrentExecutions", limits["ConcurrentExecutions"])) + reserved - UNRESERVED
    has_loader = settings.mount == "efs"  # which reserves one
    wanted = settings.concurrency * len(release.functions) + has_loader
    if wanted > free:
        raise PlanError(
            f"{len(release.functions)} functions with {settings.concurrency} instances each"
            f"{' and the loader' if has_loader else ''} reserve {wanted}, and of the "
            f"{limits['ConcurrentExecutions']} in {account.region} this account can reserve {max(0, free)}",
            hint="reserve less (`--concurrency`), or none (`--concurrency none`), or ask AWS for a higher quota",
        )


def check_network(account: Account) -> None:
    """Refuse a network of its own where the account has no room for one, or the region too few zones.

    https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html

    Args:
        account: Whose quotas.

    Raises:
        PlanError: There is no room.
        RemoteError: AWS does not say.
    """
    there = [{"Name": "state", "Values": ["available"]}]
    zones = account.call("ec2", "describe_availability_zones", Filters=there)["AvailabilityZones"]
    if len(zones) < len(SUBNETS):
        raise PlanError(
            f"{account.region} has {len(zones)} availability zones for this account, and a file system needs "
            f"{len(SUBNETS)}",
            hint="choose another region, or deliver the model in the `package` or through the `object-store`",
        )
    asked = {"ServiceCode": "vpc", "QuotaCode": NETWORKS_QUOTA}
    found = account.try_call("service-quotas", "get_service_quota", "NoSuchResourceException", **asked)
    most = NETWORKS_DEFAULT if found is None else int(found["Quota"]["Value"])
    count = sum(1 for _ in account.pages("ec2", "describe_vpcs", "Vpcs"))
    if count >= most:
        raise PlanError(
            f"a file system needs a network (VPC): {account.region} has {count} of the {most} of this account already",
            hint="delete one, or ask AWS for a higher quota (Service Quotas, `VPCs per Region`), or deliver by "
            "`package` or `object-store`",
        )
