"""Names in requests: `app`, `app.bert` for one of several models, `app.bert@prod` of another stage."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamella.errors import UsageError
from lamella.targets.base import DEFAULT_STAGE, NotDeployedError, key_of

LONGEST_NAME = 32


@dataclass(frozen=True)
class Address:
    """Where a request goes.

    Attributes:
        name: The deployment's name.
        model: The model's name in it; None where there is one.
        stage: The deployment's stage.
    """

    name: str
    model: str | None
    stage: str

    @property
    def key(self) -> str:
        """Name and stage of the deployment, as files have it."""
        return key_of(self.name, self.stage)

    def __str__(self) -> str:
        """With its stage, whichever it is."""
        return key_of(self.name if self.model is None else f"{self.name}.{self.model}", self.stage)


def read_address(text: str, *, stage: str | None = None) -> Address:
    """An address of `NAME[.MODEL][@STAGE]`. That names are possible ones is not checked.

    Args:
        text: The address.
        stage: The stage where `text` has none; None: the default one.

    Raises:
        NotDeployedError: It has no name.
    """
    place, _, named = text.partition("@")
    name, mark, model = place.partition(".")
    if not name:
        raise NotDeployedError("a deployment has a name", hint="see `lamella status`")
    return Address(name, model if mark else None, named or stage or DEFAULT_STAGE)


def read_deployment(text: str, *, stage: str | None = None) -> Address:
    """An address of `NAME[@STAGE]`, for what is done to a deployment as a whole.

    Raises:
        NotDeployedError: It has no name.
        UsageError: It names a model.
    """
    found = read_address(text, stage=stage)
    if found.model is not None:
        raise UsageError(
            f"`{found}` is one model, and its deployment is changed as a whole", hint=f"name `{found.key}` alone"
        )
    return found


def safe_name(text: str) -> str:
    """A text as a name: `BERT base` becomes `bert-base`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].strip("-") or "model"
