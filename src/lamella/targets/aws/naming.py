"""Names on AWS: of the stack and of everything in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

PREFIX = "lamella"
"""What all names begin with, so that a policy can say what Lamella may touch."""

LONGEST_FUNCTION = 64
"""https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html"""

LONGEST_BUCKET = 63
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

LONGEST_STATE_MACHINE = 80
"""https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateStateMachine.html"""

LONGEST_ROLE = 64
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""

LONGEST_SCHEDULE = 64
"""https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html"""

_LONGEST_PLACE = len("-123456789012-ap-southeast-2")
_DIGITS = 8

Value: TypeAlias = str | dict[str, object]
"""A text, or a CloudFormation function that gives one."""


@dataclass(frozen=True)
class Names:
    """The names of one deployment.

    Attributes:
        name: The deployment's.
        stage: Its stage.
        region: Where it is.
        account: Whose it is: twelve digits; None where that is not known yet, as in an export.
    """

    name: str
    stage: str
    region: str
    account: str | None = None

    @property
    def base(self) -> str:
        """Name and stage in one word."""
        return f"{self.name}-{self.stage}"

    @property
    def stack(self) -> str:
        """The stack: at most 73 of the 128 characters that there may be."""
        return f"{PREFIX}-{self.base}"

    @property
    def bucket(self) -> Value:
        """The bucket. Its name must be unique among everybody's: it ends with a digest of account and region.

        Where the account is not known, the name holds account and region themselves.
        """
        if self.account is None:
            place = "-${AWS::AccountId}-${AWS::Region}"
            return {"Fn::Sub": shortened(self.stack, LONGEST_BUCKET - _LONGEST_PLACE) + place}
        digest = _digest(self.account, self.region, self.stack)
        return f"{shortened(self.stack, LONGEST_BUCKET - 1 - len(digest))}-{digest}"

    @property
    def repository(self) -> str:
        """The repository of images: lower case, with slashes.

        https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html
        """
        return f"{PREFIX}/{self.base}"

    @property
    def door(self) -> str:
        """The function that answers the world."""
        return self.function(f"{self.base}-door")

    @property
    def loader(self) -> str:
        """The function that copies files to the file system."""
        return self.function(f"{self.base}-loader")

    def function(self, own: str) -> str:
        """A function, from its name in the deployment (`bert-dev-slice-0`)."""
        return shortened(f"{PREFIX}-{own}", LONGEST_FUNCTION)

    def state_machine(self, model: str) -> str:
        """The workflow of a model."""
        return shortened(f"{self.stack}-{model}", LONGEST_STATE_MACHINE)

    def role(self, own: str) -> str:
        """The role of something with a name of its own: names of roles are one account's in all regions."""
        return shortened(f"{own}-{self.region}", LONGEST_ROLE)

    def part(self, what: str, *, longest: int = LONGEST_ROLE) -> str:
        """Something else of the stack, such as a queue."""
        return shortened(f"{self.stack}-{what}", longest)

    def tags(self, own: dict[str, str]) -> dict[str, str]:
        """The tags of everything, with the user's own. By these a deployment is found again, and its cost."""
        return {**own, "lamella:deployment": self.name, "lamella:stage": self.stage}


def shortened(text: str, longest: int) -> str:
    """A name that is no longer than allowed: the end of a longer one gives way to a digest of all of it."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - _DIGITS - 1].rstrip('-')}-{_digest(text)}"


def logical_id(kind: str, *name: str) -> str:
    """The name of a resource within a template: letters and digits, and never the same for two names.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/resources-section-structure.html
    """
    text = "-".join(name)
    words = "".join(word.capitalize() for word in re.split(r"[^A-Za-z0-9]+", text))
    return f"{kind}{words[:64]}{_digest(text)[:6]}"


def _digest(*texts: str) -> str:
    return sha256("\0".join(texts).encode()).hexdigest()[:_DIGITS]
