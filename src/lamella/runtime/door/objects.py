"""Objects as requests: a queue says which have appeared, and each is answered by another object.

Nothing is lost: what cannot be answered is reported as failed, comes again, and goes to the queue's dead letters in the
end.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html (partial batch responses)
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote_plus

from lamella.errors import InputError, LamellaError, StoreError, UsageError, one_line
from lamella.runtime import json_fields as fields
from lamella.runtime.door.runner import Runner
from lamella.runtime.forms import SUFFIXES, Form, key_with, written
from lamella.runtime.inputs import MOST_BYTES, read_inputs
from lamella.runtime.payload import encode_error
from lamella.stores.base import Store

_AT_THE_SAME_TIME = 8
_MEMORY = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"
_SHARE = 8  # of an object in memory: itself, its arrays, their frame in base64, and the event around it
_log = logging.getLogger("lamella.door")


@dataclass(frozen=True, slots=True)
class ObjectPlaces:
    """Where objects come from, and where answers go.

    Attributes:
        inputs: What keys of requests begin with. With several models, a model's name and a slash come next.
        results: What keys of answers begin with.
        form: How answers are written.
    """

    inputs: str
    results: str
    form: Form = "json"


@dataclass(frozen=True, slots=True)
class _Object:
    bucket: str
    key: str
    size: int
    etag: str


class Objects:
    """Answers objects.

    Args:
        runners: By name: what answers for each model.
        store: The bucket.
        places: Where in it.
        parallel: How many to answer at the same time.
    """

    def __init__(
        self, runners: Mapping[str, Runner], store: Store, places: ObjectPlaces, *, parallel: int = _AT_THE_SAME_TIME
    ) -> None:
        self._runners, self._store, self._places, self._parallel = runners, store, places, parallel

    def answer(self, records: Sequence[object], *, timeout_s: float) -> dict[str, object]:
        """Answer the messages of a queue; returns which of them must come again."""
        attempt = partial(self._attempt, timeout_s=timeout_s)
        if len(records) == 1 or self._parallel == 1:
            failed = [attempt(record) for record in records]
        else:
            with ThreadPoolExecutor(self._parallel) as pool:
                failed = list(pool.map(attempt, records))
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed if name is not None]}

    def _attempt(self, record: object, *, timeout_s: float) -> str | None:
        """The id of a message whose objects could not all be answered."""
        message = fields.members(record)
        name = fields.text(message["messageId"])
        try:
            for found in _objects(fields.text(message["body"])):
                self._answer(found, timeout_s)
        except LamellaError as error:
            _log.error("message %s: %s", name, encode_error(error))
            return name
        except Exception:  # noqa: BLE001 - a defect must not answer for the other messages of the batch
            _log.exception("message %s: a defect", name)
            return name
        return None

    def _answer(self, found: _Object, timeout_s: float) -> None:
        if not found.key.startswith(self._places.inputs) or found.key.startswith(self._places.results):
            raise InputError(
                f"`{found.key}` is no request: those begin with `{self._places.inputs}`", hint="see the notification"
            )
        runner, key = self._runner_of(found.key.removeprefix(self._places.inputs))
        content = self._content(found)
        if content is None:
            return
        ran = runner.infer(read_inputs(found.key, content, runner.model.inputs), timeout_s=timeout_s)
        head = {
            "model_name": runner.model.name,
            "id": ran.request_id,
            "parameters": {"source": found.bucket, "key": found.key, "etag": found.etag},
        }
        result = written(runner.fetched(ran).outputs, self._places.form, head=head)
        self._store.put(key_with(f"{self._places.results}{key}", SUFFIXES[self._places.form]), result)

    def _runner_of(self, key: str) -> tuple[Runner, str]:
        if len(self._runners) == 1:
            return next(iter(self._runners.values())), key
        name, slash, _ = key.partition("/")
        if not slash or name not in self._runners:
            names = ", ".join(f"`{self._places.inputs}{name}/`" for name in self._runners)
            raise InputError(f"`{key}` says no model", hint=f"put objects under one of {names}")
        return self._runners[name], key

    def _content(self, found: _Object) -> bytes | None:
        """The object; None where it was deleted before its turn came."""
        most = _most_bytes()
        if found.size > most:
            raise InputError(
                f"`{found.key}` is {found.size:,} bytes long, above the limit of {most:,}",
                hint="give less at a time, or the door more memory",
            )
        try:
            return self._store.get(found.key)
        except StoreError:
            if any(entry.key == found.key for entry in self._store.list(found.key)):
                raise
            _log.warning("`%s` was deleted before it was answered", one_line(found.key))
            return None


def read_object_places(text: str) -> ObjectPlaces:
    """What `LAMELLA_EVENTS` says.

    Raises:
        UsageError: It is no such JSON.
    """
    try:
        given = fields.members(json.loads(text))
        form = given.get("form", "json")
        known: Form | None = next((known for known in SUFFIXES if known == form), None)
        if known is None:
            raise ValueError(f"`{form}` is no form")
        return ObjectPlaces(fields.text(given["inputs"]), fields.text(given["results"]), known)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"`LAMELLA_EVENTS` is no JSON of places: {error!r}", hint="deploy again") from error


def _objects(body: str) -> Iterator[_Object]:
    """The objects that a notification tells of; one that S3 sends to try the queue tells of none."""
    try:
        content = fields.members(json.loads(body))
        if content.get("Event") == "s3:TestEvent":
            return
        for record in fields.objects(content["Records"]):
            if not str(record.get("eventName", "ObjectCreated")).removeprefix("s3:").startswith("ObjectCreated"):
                continue
            place = fields.members(record["s3"])
            bucket, entry = fields.members(place["bucket"]), fields.members(place["object"])
            key, etag = unquote_plus(fields.text(entry["key"])), str(entry.get("eTag") or "")
            yield _Object(fields.text(bucket["name"]), key, fields.size(entry.get("size", 0)), etag)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"a message is no notification of S3: {error!r}", hint="let S3 alone write to the queue"
        ) from error


def _most_bytes() -> int:
    memory = os.environ.get(_MEMORY)
    return min(MOST_BYTES, (int(memory) << 20) // _SHARE) if memory else MOST_BYTES
