"""The door: what kind of event one is, and who answers it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol

from lamella.errors import InputError, LamellaError, UsageError
from lamella.runtime import json_fields as fields
from lamella.runtime.calling import AwsCaller, Caller
from lamella.runtime.door import later, warmth
from lamella.runtime.door.http import HttpAnswer, HttpRequest, is_http, json_answer, read_http, refusal, write_http
from lamella.runtime.door.runner import InProcess, Runner
from lamella.runtime.door.serving import Serving, UnknownPathError, WrongMethodError
from lamella.runtime.frames import Payload
from lamella.runtime.models import Model, read_models
from lamella.runtime.payload import is_ping
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.running import LONGEST_S, REQUESTS, Place, Running, read_places
from lamella.stores.base import Store

if TYPE_CHECKING:
    from lamella.runtime.door.objects import Objects
    from lamella.runtime.slice_function import SliceFunction

STORE_VARIABLE, WORKFLOW_VARIABLE = "LAMELLA_STORE", "LAMELLA_WORKFLOW"
NAME_VARIABLE, EVENTS_VARIABLE = "LAMELLA_NAME", "LAMELLA_EVENTS"
VERSION_VARIABLE = "AWS_LAMBDA_FUNCTION_VERSION"

UPLOAD_EXPIRES_S = 900
_MOST_INLINE_BYTES = 4_000_000
_RESERVED_S = 1.0  # of the time that is left: to write an answer
_log = logging.getLogger("lamella.door")


class Context(Protocol):
    """What an invocation may know of itself."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until it is stopped."""
        ...


class Door:
    """Answers the events of one function.

    Args:
        folder: The package's root.
        slice_function: The only slice, where this function runs it as well.

    Raises:
        SlicesError: The package is incomplete or damaged.
        UsageError: The function's environment lacks something.
    """

    def __init__(self, folder: Path, slice_function: SliceFunction | None = None) -> None:
        self._models, self._slice = read_models(folder), slice_function
        self._store_uri, self._name = os.environ.get(STORE_VARIABLE), os.environ.get(NAME_VARIABLE)
        self._referenced = ReferencedTensors(self._store_uri)
        self._caller: Caller = AwsCaller()
        places = read_places(os.environ.get(WORKFLOW_VARIABLE, "{}"))
        self._runners = {name: self._runner(model, places.get(name)) for name, model in self._models.items()}
        version = os.environ.get(VERSION_VARIABLE, "$LATEST")
        self._serving = Serving(self._runners, self._store_uri, version)

    def answer(self, event: Mapping[str, object], context: Context | None) -> object:
        """Answer an event.

        Raises:
            LamellaError: It is none of those that a door answers, or an error that nobody else is told of.
        """
        if is_http(event):
            return self._http(event, _left_s(context))
        kind = event.get("lamella")
        if "Records" in event:
            return self._objects().answer(fields.items(event["Records"]), timeout_s=_left_s(context))
        if kind == "ping":
            return {"lamella": "pong"}
        if kind == warmth.EVENT:
            others = [name for name in self._models if isinstance(self._runners[name], Running)]
            return warmth.ping([self._models[name] for name in others], self._caller)
        if kind == later.EVENT:
            self._later().answer(fields.text(event.get("id")), timeout_s=_left_s(context))
            return {}
        raise InputError("this is no event of a door", hint="send HTTP, S3's notifications through SQS, or a ping")

    def takes(self, event: Payload) -> bool:
        """Whether an event is the door's rather than the slice's, where one function is both."""
        if not isinstance(event, Mapping) or is_ping(event):
            return False
        return is_http(event) or "Records" in event or "lamella" in event

    def _http(self, event: Mapping[str, object], left_s: float) -> dict[str, object]:
        try:
            return write_http(self._answered(read_http(event), left_s))
        except LamellaError as error:
            return write_http(refusal(error, 404 if isinstance(error, UnknownPathError) else None))

    def _answered(self, request: HttpRequest, left_s: float) -> HttpAnswer:
        try:
            return self._routed(request, left_s)
        except WrongMethodError as error:
            return refusal(error, 405)
        except LamellaError:
            raise
        except Exception:  # noqa: BLE001 - a caller gets JSON whatever happens; the log has the traceback
            _log.exception("a defect while answering %s %s", request.method, request.path)
            content = {"error": "the door has a defect", "hint": "see the function's log"}
            return json_answer(content, 500)

    def _routed(self, request: HttpRequest, left_s: float) -> HttpAnswer:
        parts = [part for part in request.path.split("/") if part]
        match request.method, parts:
            case "POST", ["v2", "models", name, *versions, "infer"] if len(versions) in (0, 2):
                self._serving.check(name, parts[1:])
                if "respond-async" in _preferences(request):
                    return self._later().take(name, request)
                return self._serving.infer(name, request, timeout_s=left_s)
            case "GET", ["v2", "requests", job]:
                return self._later().result(job)
            case "POST", ["lamella", "uploads"]:
                return self._upload()
            case "GET", ["v2", *rest]:
                return self._serving.get(rest)
            case _, ["v2", *_] | ["lamella", "uploads"]:
                raise WrongMethodError(f"`{request.path}` does not take {request.method}", hint="GET, or POST to infer")
        raise UnknownPathError(f"there is nothing at `{request.path}`", hint="see the Open Inference Protocol at `/v2`")

    def _upload(self) -> HttpAnswer:
        """A place for an input that is too large for a request, and a URL to put it there."""
        from lamella.stores.presigned import presigned

        uri = self._place_uri(f"{REQUESTS}uploads/{token_hex(16)}")
        url = presigned("PUT", uri, expires_s=UPLOAD_EXPIRES_S)
        if url is None:
            raise UsageError("this deployment's store takes no uploads", hint="deploy with a bucket")
        return json_answer({"uri": uri, "url": url, "method": "PUT", "expires_s": UPLOAD_EXPIRES_S}, 201)

    def _place_uri(self, key: str) -> str:
        place, mark, options = self._required_store().partition("?")
        return f"{place.rstrip('/')}/{key}{mark}{options}"

    def _runner(self, model: Model, place: Place | None) -> Runner:
        if self._slice is not None and (place is None or place.kind == "single"):
            most = place.inline_bytes if place else _MOST_INLINE_BYTES
            return InProcess(model, self._slice, self._referenced, self._store_uri, most)
        if place is None:
            raise UsageError(f"`{WORKFLOW_VARIABLE}` has no workflow of `{model.name}`", hint="deploy again")
        return Running(model, place, self._caller, self._required_store(), self._referenced)

    def _store(self) -> Store:
        """Opened when it is needed: most requests need none."""
        return self._referenced.store(self._required_store())

    def _required_store(self) -> str:
        if self._store_uri is None:
            raise UsageError(f"the door has no store: `{STORE_VARIABLE}` is not set", hint="deploy again")
        return self._store_uri

    def _later(self) -> later.Later:
        if self._name is None:
            raise UsageError("nothing is answered later here", hint="deploy with asynchronous requests")
        return later.Later(self._serving, self._store(), self._caller, self._name)

    def _objects(self) -> Objects:
        from lamella.runtime.door.objects import Objects, read_object_places

        places = os.environ.get(EVENTS_VARIABLE)
        if places is None:
            raise UsageError("no objects are answered here", hint="deploy with events of a bucket")
        parallel = {"parallel": 1} if self._slice is not None else {}
        return Objects(self._runners, self._store(), read_object_places(places), **parallel)


def _left_s(context: Context | None) -> float:
    if context is None:
        return LONGEST_S
    return max(0.1, context.get_remaining_time_in_millis() / 1000 - _RESERVED_S)


def _preferences(request: HttpRequest) -> list[str]:
    return [value.strip().lower() for value in request.headers.get("prefer", "").split(",")]
