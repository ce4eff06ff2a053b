"""What is deployed in an account: what stacks say of themselves, and the records in their buckets."""

from __future__ import annotations

from collections.abc import Mapping

from lamella.errors import LamellaError, UsageError
from lamella.targets.aws.account import Account
from lamella.targets.aws.bucket import DeploymentBucket
from lamella.targets.aws.history import known
from lamella.targets.aws.naming import Names
from lamella.targets.aws.record import KEY, Record, read_record
from lamella.targets.aws.stacks import Stacks
from lamella.targets.base import NotDeployedError, key_of

TAG, STAGE_TAG = "lamella:deployment", "lamella:stage"


class Deployed:
    """What is deployed in an account and region. Changes nothing.

    Args:
        account: Whose it is.
        stacks: Where it is.
    """

    def __init__(self, account: Account, stacks: Stacks) -> None:
        self._account, self._stacks = account, stacks

    def names(self, name: str, stage: str) -> Names:
        """What its things are called."""
        return Names(name, stage, self._account.region, self._account.number)

    def found(self, names: Names) -> tuple[Record, dict[str, str]]:
        """What is deployed, and what its stack says.

        Raises:
            NotDeployedError: Nothing is.
        """
        outputs = self.outputs(names, or_nothing=True)
        record = None if outputs is None else self.record(names, outputs)
        if record is None or outputs is None:
            raise self.nothing(names)
        return record, outputs

    def read(self, names: Names) -> Record | None:
        """What is deployed; None where nothing is."""
        outputs = self.outputs(names)
        return None if outputs is None else self.record(names, outputs)

    def outputs(self, names: Names, *, or_nothing: bool = False) -> dict[str, str] | None:
        """What the deployment's stack says; None where there is none.

        Raises:
            UsageError: The stack of this name is another deployment's, unless that counts as none.
        """
        stack = self._stacks.find(names.stack)
        if stack is None:
            return None
        name, stage = stack.tags.get(TAG), stack.tags.get(STAGE_TAG)
        if (name, stage) == (names.name, names.stage):
            return stack.outputs
        if or_nothing or (stack.outputs is None and name is None):  # with no tags yet, it was never begun
            return None
        whose = f"`{key_of(name, stage)}`" if name and stage else "somebody else"
        raise UsageError(f"the stack `{names.stack}` is there already, and {whose} made it", hint="choose another name")

    def record(self, names: Names, outputs: Mapping[str, str]) -> Record | None:
        """What is deployed: the stack itself says which version is live; None where it was never finished."""
        if "Release" not in outputs:
            return None
        bucket = DeploymentBucket(self._account, outputs["Bucket"])
        text = bucket.read(KEY)
        if text is None:
            raise LamellaError(
                f"the stack `{names.stack}` has lost its record `s3://{bucket.name}/{KEY}`", hint="delete it"
            )
        return known(read_record(text, f"s3://{bucket.name}/{KEY}"), int(outputs["Release"]))

    def nothing(self, names: Names) -> NotDeployedError:
        """That nothing is deployed."""
        where = f"in `{names.region}` of account {names.account}"
        return NotDeployedError(
            f"nothing is deployed as `{key_of(names.name, names.stage)}` {where}",
            hint="`lamella status --target aws` lists what is; see the region, and the credentials",
        )

    def arns(self, names: Names, record: Record) -> dict[str, str]:
        """ARN of the version of each function, by the function's name in the deployment."""
        known, release = self.versions(names), record.release
        return {
            function.name: known[release.function(function.model, function.slice).version_id]
            for function in record.deployment.version.functions
        }

    def versions(self, names: Names) -> dict[str, str]:
        """ARN of every published version in the stack, by its logical id."""
        found = self._stacks.resources(names.stack)
        return {each.logical: each.physical for each in found if each.kind == "AWS::Lambda::Version"}
