"""Results as the inputs of another deployment, whose own outputs go on from there."""

from __future__ import annotations

from dataclasses import replace

from lamella.gateway.events.deployed import Find
from lamella.gateway.events.sinks.base import Result, Sink
from lamella.runtime.inputs import passed_on


class DeploymentSink:
    """Asks another deployment, and hands its result on.

    Args:
        key: Its name and stage.
        find: Finds it, anew for each result.
        then: Where its outputs go.
    """

    def __init__(self, key: str, find: Find, then: Sink) -> None:
        self._key, self._find, self._then = key, find, then

    def deliver(self, result: Result) -> None:
        """Ask the other deployment."""
        deployed = self._find(self._key)
        outputs = deployed.infer(passed_on(result.outputs, deployed.inputs()), result.request_id)
        self._then.deliver(replace(result, deployment=self._key, outputs=outputs))
