"""`lamella iam-policy`: what a user of AWS must be allowed, and why."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from lamella.cli import output
from lamella.cli.options import Json


def iam_policy(
    purpose: Annotated[
        Literal["deploy", "run"],
        typer.Argument(metavar="deploy|run", help="To deploy with Lamella, or only to send requests."),
    ],
    *,
    region: Annotated[
        str, typer.Option("--region", help="Where; in all regions by default.", show_default=False)
    ] = "*",
    account: Annotated[
        str, typer.Option("--account", metavar="ID", help="The account's twelve digits.", show_default=False)
    ] = "*",
    partition: Annotated[
        Literal["aws", "aws-cn", "aws-us-gov"], typer.Option("--partition", help="Which AWS.")
    ] = "aws",
    reasons: Annotated[bool, typer.Option("--reasons", help="Say what each action is for, instead.")] = False,
    part: Annotated[
        int | None,
        typer.Option("--part", metavar="N", min=1, help="Only the Nth policy, where one may not hold everything."),
    ] = None,
    json: Json = False,
) -> None:
    """Print the least that AWS must allow a user, as IAM policies. Speaks to no AWS.

    A managed policy may have 6,144 characters, so deploying takes several: `--part 1 > deploy-1.json`, and so on.
    """
    from json import dumps

    from lamella.errors import UsageError
    from lamella.targets.aws.checks import check_region
    from lamella.targets.aws.iam_policies import iam_policies, needed

    if account != "*" and not re.fullmatch(r"\d{12}", account):
        raise UsageError(
            f"`{account}` is no account of AWS", hint="give its twelve digits: `aws sts get-caller-identity`"
        )
    if region != "*":
        check_region(region)
    found = iam_policies(purpose, partition=partition, region=region, account=account)
    if part is not None and part > len(found):
        raise UsageError(f"there is no part {part}", hint=f"`{purpose}` has {len(found)}")
    chosen = found if part is None else [found[part - 1]]
    listed = [(allowed.sid, allowed.reason, ", ".join(allowed.actions)) for allowed in needed(purpose)]
    if json:
        why = [{"sid": sid, "reason": reason} for sid, reason, _ in listed]
        output.json_object("lamella.iam-policy/1", {"purpose": purpose, "policies": chosen, "reasons": why})
    elif reasons:
        output.table(["statement", "needed to", "actions"], listed)
    else:
        for policy in chosen:
            for text in dumps(policy, indent=2).splitlines():
                output.line(text)
