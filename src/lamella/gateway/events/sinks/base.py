"""What a sink is: where the result of an object goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lamella.errors import LamellaError
from lamella.tensors import Array


class FinalError(LamellaError):
    """A failure that no further attempt will change."""

    exit_status = 1


@dataclass(frozen=True)
class Result:
    """What an object gave.

    Attributes:
        deployment: What answered, as `NAME@STAGE`.
        source: URI of the store that the object lies in.
        key: Its key there.
        etag: Which content of it; of a bucket with the time of writing.
        request_id: The same at every attempt, as long as key and content are.
        outputs: An array for each output, by name.
    """

    deployment: str
    source: str
    key: str
    etag: str
    request_id: str
    outputs: Mapping[str, Array]

    @property
    def head(self) -> dict[str, object]:
        """What is said beside the outputs where they are written as JSON."""
        return {
            "model_name": self.deployment.partition("@")[0],
            "id": self.request_id,
            "parameters": {"deployment": self.deployment, "source": self.source, "key": self.key, "etag": self.etag},
        }


class Sink(Protocol):
    """Takes results. Thread-safe; the same result may come more than once, and leaves the same behind."""

    def deliver(self, result: Result) -> None:
        """Take a result.

        Raises:
            FinalError: It will never be taken.
            LamellaError: It could not be taken now.
        """
        ...
