"""Functions of a local platform as a chain invokes them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from lamella.errors import UsageError
from lamella.runtime.answered import PASSING_ERRORS, THROTTLED
from lamella.targets.local.platform import LocalPlatform
from lamella.workflow.invoking import Answered

_CLOSED = "ServiceException"
"""AWS's name for the service's own failure."""


class LocalInvoker:
    """Invokes one version of each function, whatever the alias says meanwhile.

    Args:
        platform: Where the functions are.
        versions: The version of each function, by its name.
    """

    def __init__(self, platform: LocalPlatform, versions: Mapping[str, str]) -> None:
        self._platform, self._versions = platform, dict(versions)

    def invoke(self, function: str, payload: bytes, *, request_id: str) -> Answered:
        """Run a function once and wait for its answer."""
        try:
            found = self._platform.invoke(function, payload, qualifier=self._versions[function], request_id=request_id)
        except UsageError as closed:  # in the middle of this request, which is no mistake of who sent it
            return Answered(b"", error_type=_CLOSED, error_message=str(closed))
        report = found.report
        return Answered(
            payload=found.payload,
            error_type=found.error_type,
            error_message=found.error_message,
            retriable=found.status == THROTTLED or found.status >= 500 or found.error_type in PASSING_ERRORS,
            throttled=found.status == THROTTLED,
            cold_start=report is not None and report.cold_start,
            init_ms=None if report is None else report.init_ms,
            billed_ms=None if report is None else report.billed_ms,
            max_memory_mb=None if report is None else report.max_memory_mb,
        )

    def start(self, function: str) -> Future[Any]:
        """Start an instance without a request."""
        return self._platform.start(function, qualifier=self._versions[function])
