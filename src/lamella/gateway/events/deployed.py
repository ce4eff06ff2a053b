"""What answers the requests that events make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lamella.targets.addresses import read_address
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
"""Finds a deployment by its address, as `NAME[.MODEL]@STAGE`. Raises `NotDeployedError` if there is none."""


class Target(Protocol):
    """The part of a target that is needed here."""

    def find(self, name: str, *, stage: str = DEFAULT_STAGE) -> Deployment:
        """What is deployed under a name."""
        ...

    def infer(
        self,
        name: str,
        inputs: Mapping[str, object],
        *,
        stage: str = DEFAULT_STAGE,
        model: str | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Send one request."""
        ...

    def url_of(self, name: str, *, stage: str = DEFAULT_STAGE) -> str:
        """Where its functions can be invoked with the AWS Lambda API."""
        ...


def on_target(target: Target, key: str, *, used: Callable[[str], None] | None = None) -> Deployed:
    """A deployment of a target, or one model of it.

    Args:
        target: Where it is.
        key: Its address.
        used: Is told the address whenever there is a request.
    """
    to = read_address(key)

    def infer(inputs: Mapping[str, Array], request_id: str) -> Mapping[str, Array]:
        if used is not None:
            used(key)
        answer = target.infer(to.name, inputs, stage=to.stage, model=to.model, request_id=request_id)
        return answer.outputs

    return Deployed(lambda: target.find(to.name, stage=to.stage).model(to.model).inputs, infer)


def on_endpoint(endpoint: Endpoint, *, model: str | None = None) -> Deployed:
    """A deployment of this process, as `lamella.deploy` gives it, or one of its models."""

    def infer(inputs: Mapping[str, Array], request_id: str) -> Mapping[str, Array]:
        return endpoint.infer_with_timeline(inputs, model=model, request_id=request_id).outputs

    return Deployed(lambda: endpoint.deployment.model(model).inputs, infer)


def full_key(key: str) -> str:
    """`NAME[.MODEL][@STAGE]` with its stage."""
    return str(read_address(key))
