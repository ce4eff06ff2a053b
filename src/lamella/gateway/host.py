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
from lamella.gateway.faults import defect, fault, status_of
from lamella.gateway.jobs import Jobs
from lamella.gateway.views import change_view, deployment_view, wanted_of
from lamella.runtime.message import Message
from lamella.runtime.protocol import metadata, read_request, write_response
from lamella.targets.addresses import read_address, read_deployment
from lamella.targets.base import Deployment, key_of
from lamella.targets.changes import changes
from lamella.targets.local.tail import LogTail
from lamella.targets.local.target import LocalTarget
from lamella.workflow.chain import is_request_id

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
        except Exception as error:  # noqa: BLE001  # a caller gets JSON whatever happens; the log has the traceback
            _log.exception("`%s` cannot be answered", model)
            return Message({"status": 500}, json.dumps(defect(error)).encode())
        finally:
            self._leave()

    def _infer(self, model: str, version: str | None, body: bytes, header_length: str | None) -> Message:
        address, deployment = read_address(model), self.find(model, version)
        request = read_request(body, header_length)
        self._triggers.used(str(address))
        answer = self._target.infer(
            address.name,
            request.inputs,
            stage=address.stage,
            model=address.model,
            version=None if version is None else deployment.live,
            slice=request.slice,
            request_id=request.request_id if is_request_id(request.request_id or "") else None,
        )
        timeline = {"timeline": [asdict(run) for run in answer.timeline], "latency_ms": answer.latency_ms}
        response = write_response(
            request,
            answer.outputs,
            model=deployment.address(deployment.model(address.model).name),
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
        """The deployment of a model by its name in URLs, as if the version that is asked for were the live one.

        Raises:
            NotDeployedError: There is none, or not in this version, or not this model.
            UsageError: It holds several models, and none is named.
        """
        address = read_address(model)
        found = self._target.find(address.name, stage=address.stage)
        if version is not None:
            found = found.at(version)
        found.model(address.model)
        return found

    def metadata(self, model: str, version: str | None) -> Json:
        """What the protocol tells of a model."""
        found, name = self.find(model, version), read_address(model).model
        asked = found.model(name)
        versions = [str(number) for number in found.versions_of(name)]
        return metadata(found.address(asked.name), versions, asked.inputs, asked.outputs)

    def models(self) -> list[str]:
        """The name in URLs of every model of every deployment."""
        return [one.address(model.name) for one in self._target.status() for model in one.version.models]

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
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this is no deployment: {error!r}", hint="use the same version of Lamella") from error
        finally:
            self._leave()

    def rollback(self, deployment: str, body: bytes = b"") -> Json:
        """Let the version before the live one answer again, or the one that a JSON object names: `{"to": 2}`."""
        address = read_deployment(deployment)
        try:
            to = None if not body else json.loads(body)["to"]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this names no version: {error!r}", hint='send `{"to": NUMBER}`, or nothing') from error
        if to is not None and (not isinstance(to, int) or isinstance(to, bool)):
            raise UsageError(f"`{to}` is no version", hint="give its number")
        return self._view(self._target.rollback(address.name, stage=address.stage, to=to))

    def set_alias(self, deployment: str, alias: str, body: bytes) -> Json:
        """Let a name stand for the version that a JSON object names: `{"to": 2}`; or, with null, for none any more."""
        address = read_deployment(deployment)
        try:
            to = json.loads(body)["to"]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this names no version: {error!r}", hint='send `{"to": NUMBER}`') from error
        if to is not None and (not isinstance(to, int | str) or isinstance(to, bool)):
            raise UsageError(f"`{to}` is no version", hint="give its number")
        return self._view(self._target.set_alias(address.name, alias, to=to, stage=address.stage))

    def delete(self, deployment: str, jobs: Jobs) -> Json:
        """End a deployment, and forget its results; says whether the service ends with it, too."""
        address = read_deployment(deployment)
        self._triggers.stop(self._target.find(address.name, stage=address.stage).key)
        self._target.delete(address.name, stage=address.stage)
        jobs.forget(lambda head: read_address(str(head["model"])).key == address.key)
        with self._lock:
            self._last_use_s = -math.inf  # if this was the last one, nobody waits for the service any more
        return {"deleted": address.key, "service_ends": self.is_idle(0.0)}

    def triggers(self, model: str) -> Json:
        """What makes requests for a deployment, or one model of it, by itself, and how that goes."""
        return {"triggers": self._triggers.of(model)}

    def add_trigger(self, model: str, body: bytes) -> Json:
        """Add what a JSON object describes."""
        try:
            content = json.loads(body)
        except ValueError as error:
            raise UsageError(f"this is no trigger: {error}", hint="use the same version of Lamella") from error
        return self._triggers.add(replace(from_json(content), deployment=model))

    def remove_trigger(self, model: str, name: str) -> Json:
        """End one, and forget what it has done."""
        self._triggers.remove(model, name)
        return {"removed": name}

    def failed(self, model: str, name: str) -> Json:
        """What a trigger has given up."""
        return {"failed": self._triggers.failed(model, name)}

    def retry(self, model: str, name: str, body: bytes) -> Json:
        """Put back what a trigger has given up: the `keys` of a JSON object, or everything where they are null."""
        try:
            keys = json.loads(body)["keys"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"this names no keys: {error!r}", hint='send `{"keys": null}`, or a list') from error
        if keys is not None and not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
            raise UsageError("`keys` is no list of texts", hint='send `{"keys": null}`, or a list')
        return {"objects": self._triggers.retry(model, name, keys)}

    def tail(self, model: str, part: str | None) -> LogTail:
        """The logs of a deployment's functions, of one model's, or of one slice's."""
        address = read_address(model)
        slice = _number(part, "slice")
        return self._target.tail(address.name, stage=address.stage, model=address.model, slice=slice)

    def reports(self, model: str, part: str | None, since_ms: str | None, until_ms: str | None) -> Json:
        """What the logs say that a deployment's functions did, of one model's, or one slice's, in a span of time."""
        address = read_address(model)
        found = self._target.reports(
            address.name,
            stage=address.stage,
            model=address.model,
            slice=_number(part, "slice"),
            since_ms=_number(since_ms, "time") or 0,
            until_ms=_number(until_ms, "time"),
        )
        return asdict(found)

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


def _number(text: str | None, what: str) -> int | None:
    if text is not None and not (text.isascii() and text.isdecimal()):
        raise UsageError(f"`{text}` is no {what}", hint="give a number")
    return None if text is None else int(text)
