"""What answers the requests that events make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lamella.targets.base import DEFAULT_STAGE, Deployment
from lamella.tensors import Array, TensorSpec
from lamella.workflow.request import Answer

if TYPE_CHECKING:
    from lamella.targets import Endpoint


@dataclass(frozen=True)
class Deployed:
    """A deployment, whatever it is deployed on.

    Attributes:
        inputs: Says what a request must give; asked anew each time, since a deployment may change.
        infer: Answers a request: arrays by name, and the request's id.
    """

    inputs: Callable[[], Sequence[TensorSpec]]
    infer: Callable[[Mapping[str, Array], str], Mapping[str, Array]]


Find = Callable[[str], Deployed]
"""Finds a deployment by its name, as `NAME@STAGE`. Raises `NotDeployedError` if there is none."""


class Target(Protocol):
    """The part of a target that is needed here."""

    def find(self, name: str, *, stage: str = DEFAULT_STAGE) -> Deployment:
        """What is deployed under a name."""
        ...

    def infer(
        self, name: str, inputs: Mapping[str, object], *, stage: str = DEFAULT_STAGE, request_id: str | None = None
    ) -> Answer:
        """Send one request."""
        ...

    def url_of(self, name: str, *, stage: str = DEFAULT_STAGE) -> str:
        """Where its functions can be invoked with the AWS Lambda API."""
        ...


def on_target(target: Target, key: str, *, used: Callable[[str], None] | None = None) -> Deployed:
    """A deployment of a target.

    Args:
        target: Where it is.
        key: Its name and stage.
        used: Is told the key whenever there is a request.
    """
    name, stage = name_and_stage(key)

    def infer(inputs: Mapping[str, Array], request_id: str) -> Mapping[str, Array]:
        if used is not None:
            used(key)
        return target.infer(name, inputs, stage=stage, request_id=request_id).outputs

    return Deployed(lambda: target.find(name, stage=stage).version.workflow.inputs, infer)


def on_endpoint(endpoint: Endpoint) -> Deployed:
    """A deployment of this process, as `lamella.deploy` gives it."""

    def infer(inputs: Mapping[str, Array], request_id: str) -> Mapping[str, Array]:
        return endpoint.infer_with_timeline(inputs, request_id=request_id).outputs

    return Deployed(lambda: endpoint.inputs, infer)


def name_and_stage(key: str) -> tuple[str, str]:
    """Name and stage of `NAME[@STAGE]`."""
    name, _, stage = key.partition("@")
    return name, stage or DEFAULT_STAGE


def full_key(key: str) -> str:
    """`NAME[@STAGE]` with its stage."""
    return "@".join(name_and_stage(key))
