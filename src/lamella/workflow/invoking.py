"""What can run a slice somewhere else: the one thing that a chain needs of a target."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

from lamella.runtime.answered import Answered

__all__ = ["Answered", "Invoker"]


class Invoker(Protocol):
    """Runs functions."""

    def invoke(self, function: str, payload: bytes, *, request_id: str) -> Answered:
        """Run a function once and wait for its answer. Thread-safe; errors of the function are no exceptions."""
        ...

    def start(self, function: str) -> Future[Any]:
        """Start an instance of a function without a request; the future ends when it is ready."""
        ...
