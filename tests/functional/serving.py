"""A model server as users start it, and plain HTTP to it."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np

from lamella.runtime.protocol import HEADER_LENGTH
from lamella.wire import decode_parts, encode


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that runs."""

    process: subprocess.Popen[str]
    url: str
    grpc_address: str | None = None

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        context: ssl.SSLContext | None = None,
    ) -> Answer:
        request = Request(f"{self.url}{path}", data=body, method=method, headers=dict(headers or {}))
        try:
            with urlopen(request, timeout=60, context=context) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def infer(self, model: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Ask with binary tensors, for binary tensors."""
        answer = self.ask("POST", f"/v2/models/{model}/infer", *binary(inputs))
        assert answer.status == 200, answer.body
        length = int(answer.headers[HEADER_LENGTH])
        view = memoryview(answer.body)
        return decode_parts(view[:length], view[length:])

    def stop(self) -> str:
        """End it as a user would; returns what it said on stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, said
        return said


def binary(inputs: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request."""
    frame = encode(inputs)
    header = {**json.loads(frame.header), "parameters": {"binary_data_output": True}}
    text = json.dumps(header).encode()
    return b"".join((text, *frame.buffers)), {HEADER_LENGTH: str(len(text))}


@contextmanager
def serving(*arguments: str | Path, **variables: str) -> Iterator[Running]:
    """`lamella serve` on a free port."""
    command = [sys.executable, "-m", "lamella", "serve", *map(str, arguments), "--port", "0", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAMELLA_")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**environment, **variables}
    ) as process:
        try:
            assert process.stdout is not None
            lines = list(takewhile(lambda line: line != "}\n", process.stdout))
            if process.poll() is not None:
                raise AssertionError(process.communicate(timeout=60)[1])
            told = json.loads("".join((*lines, "}")))
            yield Running(process, told["url"], told["grpc_address"])
        finally:
            process.kill()
