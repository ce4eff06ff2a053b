"""Requests and answers as one sequence of bytes, to be kept until somebody asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """A request or an answer: what an HTTP message would carry.

    Attributes:
        head: Small values, such as a status and a header's length.
        body: The bytes.
    """

    head: Mapping[str, object]
    body: bytes

    def to_bytes(self) -> bytes:
        """As one file has it."""
        return json.dumps(dict(self.head)).encode() + b"\n" + self.body


def read_message(content: bytes) -> Message:
    """The inverse of `Message.to_bytes`."""
    head, _, body = content.partition(b"\n")
    return Message(json.loads(head), body)
