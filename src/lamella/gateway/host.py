"""What the service does for its callers, without a transport: requests, deployments, and asynchronous requests."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from lamella.errors import LamellaError, UsageError
from lamella.gateway.events.trigger import from_json
from lamella.gateway.events.triggers import Triggers
from lamella.gateway.faults import fault, status_of
from lamella.gateway.jobs import Jobs
from lamella.gateway.views import change_view, deployment_view, wanted_of
from lamella.runtime.message import Message
from lamella.runtime.protocol import metadata, read_request, write_response
from lamella.targets.base import DEFAULT_STAGE, Deployment, NotDeployedError, key_of
from lamella.targets.changes import changes
from lamella.targets.local.tail import LogTail
from lamella.targets.local.target import LocalTarget

Json = dict[str, Any]
_log = logging.getLogger("lamella.service")


class Host:
    """The deployments of a home folder, and their requests. Thread-safe; every method may take its time.

    Attributes:
        url: Of the service, once that is known.

    Args:
        target: Where the deployments are.
        triggers: What makes requests by itself.
        token_file: Where the token is that callers must send.
    """

    def __init__(self, target: LocalTarget, triggers: Triggers, token_file: Path) -> None:
        self._target, self._triggers, self._token_file = target, triggers, token_file
        self.url = ""
        self._lock, self._busy, self._last_use_s = Lock(), 0, monotonic()

    def infer(self, model: str, version: str | None, body: bytes, header_length: str | None) -> Message:
        """Answer an infer request; errors are answers, too."""
        self._enter()
        try:
            return self._infer(model, version, body, header_length)
        except LamellaError as error:
            return Message({"status": status_of(error)}, json.dumps(fault(error)).encode())
        except Exception:  # noqa: BLE001  # a caller gets JSON whatever happens; the log has the traceback
            _log.exception("a defect while `%s` was asked", model)
            content = {"error": "the service has a defect", "hint": "see its log: `service/service.log`"}
            return Message({"status": 500}, json.dumps(content).encode())
        finally:
            self._leave()

    def _infer(self, model: str, version: str | None, body: bytes, header_length: str | None) -> Message:
        name, stage = split(model)
        deployment = self.find(model, version)
        request = read_request(body, header_length)
        self._triggers.used(deployment.key)
        answer = self._target.infer(
            name,
            request.inputs,
            stage=stage,
            version=None if version is None else deployment.live,
            slice=request.slice,
            request_id=request.request_id,
        )
        timeline = {"timeline": [asdict(run) for run in answer.timeline], "latency_ms": answer.latency_ms}
        response = write_response(
            request,
            answer.outputs,
            model=deployment.name,
            version=str(deployment.live),
            request_id=answer.request_id,
            parameters=timeline if request.wants_timeline else None,
        )
        return Message({"status": 200, "header_length": response.header_length}, response.body)

    def run(self, job: Message) -> Message:
        """Answer an asynchronous request."""
        version, length = (job.head.get(name) for name in ("version", "header_length"))
        return self.infer(
            str(job.head["model"]),
            None if version is None else str(version),
            job.body,
            None if length is None else str(length),
        )

    def find(self, model: str, version: str | None = None) -> Deployment:
        """A deployment by its name in URLs, as if the version that is asked for were the live one.

        Raises:
            NotDeployedError: There is none.
        """
        name, stage = split(model)
        found = self._target.find(name, stage=stage)
        if version is None:
            return found
        known = [str(kept.number) for kept in found.versions]
        if version not in known:
            raise NotDeployedError(f"`{found.key}` has no version {version}", hint=f"there is {', '.join(known)}")
        return replace(found, live=int(version))

    def metadata(self, model: str, version: str | None) -> Json:
        """What the protocol tells of a model."""
        found = self.find(model, version)
        versions, workflow = [str(kept.number) for kept in found.versions], found.version.workflow
        return metadata(found.name, versions, workflow.inputs, workflow.outputs)

    def status(self) -> Json:
        """Every deployment."""
        return {"deployments": [self._view(deployment) for deployment in self._target.status()]}

    def deploy(self, body: bytes) -> Json:
        """Deploy what a JSON object describes."""
        self._enter()
        try:
            wanted = wanted_of(json.loads(body))
            before = next((one for one in self._target.status() if one.key == key_of(wanted.name, wanted.stage)), None)
            deployed = self._target.apply(wanted)
            made = [change_view(change) for change in changes(before, deployed.version.functions)]
            return {**self._view(deployed), "changes": made}
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this is no deployment: {error!r}", hint="use the same version of Lamella") from error
        finally:
            self._leave()

    def rollback(self, model: str) -> Json:
        """Let the version before the live one answer again."""
        name, stage = split(model)
        return self._view(self._target.rollback(name, stage=stage))

    def delete(self, model: str, jobs: Jobs) -> Json:
        """End a deployment, and forget its results."""
        name, stage = split(model)
        self._triggers.stop(self.find(model).key)
        self._target.delete(name, stage=stage)
        jobs.forget(lambda head: split(str(head["model"])) == (name, stage))
        with self._lock:
            self._last_use_s = -math.inf  # if this was the last one, nobody waits for the service any more
        return {"deleted": f"{name}@{stage}"}

    def triggers(self, model: str) -> Json:
        """What makes requests for a deployment by itself, and how that goes."""
        return {"triggers": self._triggers.of(self.find(model).key)}

    def add_trigger(self, model: str, body: bytes) -> Json:
        """Add what a JSON object describes."""
        try:
            content = json.loads(body)
        except ValueError as error:
            raise UsageError(f"this is no trigger: {error}", hint="use the same version of Lamella") from error
        return self._triggers.add(replace(from_json(content), deployment=self.find(model).key))

    def remove_trigger(self, model: str, name: str) -> Json:
        """End one, and forget what it has done."""
        self._triggers.remove(self.find(model).key, name)
        return {"removed": name}

    def tail(self, model: str, part: str | None) -> LogTail:
        """The logs of a deployment's functions, or of one slice's."""
        name, stage = split(model)
        if part is not None and not part.isdecimal():
            raise UsageError(f"`{part}` is no slice", hint="give its index")
        return self._target.tail(name, stage=stage, slice=None if part is None else int(part))

    def _view(self, deployment: Deployment) -> Json:
        view = deployment_view(
            deployment,
            url=self.url,
            functions_url=self._target.url_of(deployment.name, stage=deployment.stage),
            token_file=str(self._token_file),
        )
        view["front_doors"] += self._triggers.doors(deployment.key)
        return view

    def restore(self) -> dict[str, LamellaError]:
        """Let everything that is deployed answer again, and every trigger go on; returns what cannot."""
        return {**self._target.restore(), **self._triggers.start()}

    def is_idle(self, for_s: float) -> bool:
        """Whether there is no deployment, and nothing has happened for so many seconds."""
        with self._lock:
            if self._busy or monotonic() - self._last_use_s < for_s:
                return False
        return self._target.is_empty()

    def _enter(self) -> None:
        with self._lock:
            self._busy += 1

    def _leave(self) -> None:
        with self._lock:
            self._busy -= 1
            self._last_use_s = monotonic()

    def close(self) -> None:
        """Stop every trigger and function. They go on at the next start."""
        self._triggers.close()
        self._target.close()


def split(model: str) -> tuple[str, str]:
    """Name and stage: `bert@prod`, or `bert` for the default stage."""
    name, _, stage = model.partition("@")
    if not name:
        raise NotDeployedError("a deployment has a name", hint="see `lamella status`")
    return name, stage or DEFAULT_STAGE
