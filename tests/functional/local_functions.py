"""Small functions for tests of the local platform."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

from lamella.platforms import load_platform
from lamella.targets.local.invocation import Invocation
from lamella.targets.local.platform import FunctionSpec, LocalPlatform

LIMITS = load_platform("aws-lambda").limits
Make = Callable[..., str]

ECHO = """
    import os

    answered = 0

    def handle(event, context):
        global answered
        answered += 1
        return {"event": event, "answered": answered, "id": context.aws_request_id}
"""

_NUMBERS = count(1)


def write_package(folder: Path, source: str) -> Path:
    """A package with one module, `app`."""
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(dedent(source))
    return folder


def create(platform: LocalPlatform, folder: Path, source: str, **settings: Any) -> str:
    """A function of that source; its name."""
    number = next(_NUMBERS)
    name = settings.pop("name", f"function-{os.getpid()}-{number}")
    package = write_package(folder / f"package-{number}", source)
    values = {"memory_mb": 512, "timeout_s": 20.0, "handler": "app.handle", **settings}
    platform.create(FunctionSpec(name, package, **values))
    return str(name)


def answer(invocation: Invocation) -> Any:
    """What the function has answered."""
    assert (invocation.status, invocation.function_error) == (200, None), invocation
    return json.loads(invocation.payload)


def error(invocation: Invocation) -> tuple[str, str]:
    """Kind and message of a function's error."""
    assert (invocation.status, invocation.function_error) == (200, "Unhandled"), invocation
    content = json.loads(invocation.payload)
    assert content["errorType"] == invocation.error_type
    return content["errorType"], content["errorMessage"]
