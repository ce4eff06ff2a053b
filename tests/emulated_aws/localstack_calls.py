"""Who called what in LocalStack, a line of JSON each: what no policy is asked about there can be asked afterwards."""

import json
from pathlib import Path
from threading import Lock

from localstack.aws.handlers import run_custom_response_handlers

_LONGEST = 2_000  # of a text: templates and packages say nothing about who may call


class Calls:
    """Writes calls into a file (a handler of responses)."""

    def __init__(self, path: Path) -> None:
        self._file, self._lock = path.open("a", encoding="utf-8"), Lock()

    def __call__(self, _chain, context, response):
        """Write a call down, also one from service to service."""
        if context.operation is None:
            return
        signed = context.request.headers.get("Authorization", "").partition("Credential=")[2]
        line = {
            "key": signed.partition("/")[0],
            "service": context.service.service_name,
            "operation": context.operation.name,
            "parameters": _plain(context.service_request or {}),
            "answer": _plain(context.service_response) if context.operation.name == "AssumeRole" else {},
            "status": response.status_code,
        }
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def record(path: Path) -> None:
    """Write down every call from now on."""
    run_custom_response_handlers.append(Calls(path))


def _plain(value):
    """A value of a request or an answer as far as JSON has it, without its streams and long texts."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, str):
        return value[:_LONGEST]
    return value if isinstance(value, int | float | bool | None) else None
