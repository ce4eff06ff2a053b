"""What the account must allow, asked before anything is made."""

from __future__ import annotations

from lamella.errors import PlanError
from lamella.targets.aws.account import Account
from lamella.targets.aws.release import Release
from lamella.targets.aws.repository import ecr_login
from lamella.targets.aws.settings import Settings

UNRESERVED = 100
"""Of an account's concurrency, so much must stay for functions that reserve none.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
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
    wanted = settings.concurrency * len(release.functions)
    if wanted > free:
        raise PlanError(
            f"{len(release.functions)} functions with {settings.concurrency} instances each reserve {wanted}, and of "
            f"the {limits['ConcurrentExecutions']} in {account.region} this account can reserve {max(0, free)}",
            hint="reserve less (`--concurrency`), or none (`--concurrency none`), or ask AWS for a higher quota",
        )
