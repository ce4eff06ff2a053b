"""What a function is asked to be, and whether the platform has such functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lamella.errors import UsageError
from lamella.platforms.base import MB, Limits

Runtime = Literal["lamella", "awslambdaric"]

LEAST_TEMPORARY_MB = 512
ENVIRONMENT_BYTES = 4096
"""All variables together. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HANDLER = re.compile(r"[^\s\0]{1,128}")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+")

RESERVED_VARIABLES = frozenset(
    {
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_HANDLER",
    }
)
"""What the platform sets itself. AWS reserves the names of its credentials and region too; here nobody else gives them.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""


@dataclass(frozen=True)
class Mount:
    """A folder of this machine that a function sees beside its package.

    Attributes:
        source: The folder.
        path: Where the function sees it. Without namespaces it can only be seen where it is.
        writable: Whether the function may write to it.
    """

    source: Path
    path: str
    writable: bool = False


@dataclass(frozen=True)
class FunctionSpec:
    """A function as it is asked for.

    Attributes:
        name: Letters, digits, `-` and `_`, at most 64.
        folder: The unpacked package. Nothing is written to it.
        memory_mb: Its memory, and with it its share of the processors.
        timeout_s: The longest that one request may take.
        handler: What to call: `module.function`.
        environment: Variables beyond those that the platform sets.
        temporary_mb: Size of its `/tmp`.
        reserved_concurrency: Requests at the same time that are kept for it, and the most that it gets; 0 stops it;
            None lets it share with all others.
        runtime: What runs the handler: Lamella's runtime client, or AWS's.
        mounts: Folders beyond its package.
    """

    name: str
    folder: Path
    memory_mb: int
    timeout_s: float
    handler: str = "lamella.runtime.handler.handle"
    environment: Mapping[str, str] = field(default_factory=dict)
    temporary_mb: int = LEAST_TEMPORARY_MB
    reserved_concurrency: int | None = None
    runtime: Runtime = "lamella"
    mounts: tuple[Mount, ...] = ()


def check_spec(spec: FunctionSpec, limits: Limits) -> None:
    """Refuse a function that the platform would refuse.

    Raises:
        UsageError: A value is malformed or outside the limits.
    """
    if not _NAME.fullmatch(spec.name):
        raise UsageError(f"`{spec.name}` is no function name", hint="use letters, digits, `-` and `_`, at most 64")
    if not _HANDLER.fullmatch(spec.handler):
        raise UsageError(f"`{spec.handler}` is no handler of `{spec.name}`", hint="give `module.function`")
    if not spec.folder.is_dir():
        raise UsageError(f"the package of `{spec.name}` is no folder: {spec.folder}")
    _check_sizes(spec, limits)
    _check_environment(spec)
    for mount in spec.mounts:
        if not mount.source.is_dir():
            raise UsageError(f"what `{spec.name}` mounts is no folder: {mount.source}")
        if not re.fullmatch(r"(/[^/\0]+)+", mount.path) or "/../" in f"{mount.path}/":
            raise UsageError(
                f"`{spec.name}` cannot mount at `{mount.path}`", hint="give an absolute path, as /mnt/data"
            )


def _check_sizes(spec: FunctionSpec, limits: Limits) -> None:
    if spec.memory_mb not in limits.memory_sizes(spec.memory_mb)[:1]:
        raise UsageError(
            f"`{spec.name}` cannot have {spec.memory_mb} MB of memory",
            hint=f"the platform has {limits.memory_min_mb} to {limits.memory_max_mb} MB",
        )
    longest = limits.timeout_s
    if not spec.timeout_s > 0 or (longest is not None and spec.timeout_s > longest):
        raise UsageError(
            f"`{spec.name}` cannot have {spec.timeout_s:g} s for a request", hint=f"the longest is {longest} s"
        )
    most = limits.temporary_storage_bytes
    if spec.temporary_mb < 1 or (most is not None and spec.temporary_mb * MB > most):
        raise UsageError(f"`{spec.name}` cannot have {spec.temporary_mb} MB of temporary storage")
    if spec.reserved_concurrency is not None and spec.reserved_concurrency < 0:
        raise UsageError(f"`{spec.name}` cannot reserve {spec.reserved_concurrency} requests")


def _check_environment(spec: FunctionSpec) -> None:
    for name, value in spec.environment.items():
        if name in RESERVED_VARIABLES:
            raise UsageError(
                f"`{name}` is set by the platform", hint=f"leave it out of the environment of `{spec.name}`"
            )
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise UsageError(f"`{name}` is no environment variable for `{spec.name}`")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in spec.environment.items())
    if size > ENVIRONMENT_BYTES:
        raise UsageError(
            f"the environment of `{spec.name}` takes {size} bytes",
            hint=f"a function has {ENVIRONMENT_BYTES} bytes for it",
        )
