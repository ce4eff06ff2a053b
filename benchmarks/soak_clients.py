"""The callers of `soak.py`: those who ask and check, and those who disconnect, send garbage, or send slowly."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
from aiohttp import ClientSession
from onnx import TensorProto, helper, numpy_helper

from lamella.runtime.protocol import HEADER_LENGTH
from lamella.wire import decode_parts, encode

WIDTH = 64
PATH = "/v2/models/soak/infer"
_GARBAGE = (
    b"",
    b"{",
    b'{"inputs": 7}',
    b'{"inputs": [{"name": "x", "shape": [1e400], "datatype": "FP32", "data": []}]}',
    b'{"inputs": [{"name": "x", "shape": [9223372036854775807], "datatype": "FP32", "data": [1]}]}',
    b'{"inputs": [], "parameters": {"priority": 1' + b"0" * 400 + b"}}",
    b"[" * 100_000,
    os.urandom(4096),
)


@cache
def weights(seed: int) -> list[np.ndarray]:
    """Of one of the two models that take turns."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5 for _ in range(4)]


def make_model(path: Path, seed: int) -> None:
    """Four dense layers with ReLU, in a file that takes the place of what was there in one step."""
    layers = weights(seed)
    nodes, value = [], "x"
    for index in range(len(layers)):
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [f"m{index}"]))
        value = "y" if index == len(layers) - 1 else f"r{index}"
        nodes.append(helper.make_node("Relu", [f"m{index}"], [value]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in "xy")
    named = [numpy_helper.from_array(layer, f"w{index}") for index, layer in enumerate(layers)]
    model = helper.make_model(
        helper.make_graph(nodes, "soak", [x], [y], named), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    partial = path.with_suffix(".partial")
    onnx.save(model, partial)
    partial.replace(path)


def _expected(x: np.ndarray, version: int) -> np.ndarray:
    """Odd versions are made with seed 1, even ones with 0."""
    for layer in weights(version % 2):
        x = np.maximum(x @ layer, 0)
    return x


@dataclass
class Callers:
    """Everybody who uses the server at once.

    Attributes:
        url: The server's.
        model: The file that is replaced before the model is loaded again.
        counts: What happened, by name.
        wrong: Answers and statuses that should not be.
    """

    url: str
    model: Path
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    async def run(self, stop: asyncio.Event, *, askers: int) -> None:
        """Call until it is time to stop."""
        kinds: list[tuple[int, Callable[[ClientSession], Awaitable[None]]]] = [
            (askers, self._ask),
            (4, self._leave),
            (2, self._send_garbage),
            (4, self._send_slowly),
            (1, self._reload),
        ]
        async with ClientSession(self.url) as session, asyncio.TaskGroup() as tasks:
            for number, call in kinds:
                for _ in range(number):
                    tasks.create_task(self._repeated(call, session, stop))

    async def _repeated(
        self, call: Callable[[ClientSession], Awaitable[None]], session: ClientSession, stop: asyncio.Event
    ) -> None:
        while not stop.is_set():
            try:
                await call(session)
            except Exception as error:  # noqa: BLE001  # a finding, which must not end the others
                self.wrong.append(f"{call.__name__}: {type(error).__name__}: {error}"[:300])
                await asyncio.sleep(0.1)

    def _request(self) -> tuple[np.ndarray, bytes, dict[str, str]]:
        rows = self._random.choice((1, 1, 1, 2, 5, 200))
        x = np.random.default_rng(self._random.getrandbits(32)).standard_normal((rows, WIDTH), np.float32)
        frame = encode({"x": x})
        header = json.dumps({**json.loads(frame.header), "parameters": {"binary_data_output": True}}).encode()
        return x, b"".join((header, *frame.buffers)), {HEADER_LENGTH: str(len(header))}

    async def _ask(self, session: ClientSession) -> None:
        x, body, headers = self._request()
        async with session.post(PATH, data=body, headers=headers) as response:
            found = await response.read()
        self._check(x, response.status, response.headers.get(HEADER_LENGTH), found)

    def _check(self, x: np.ndarray, status: int, length: str | None, found: bytes) -> None:
        self.counts[f"status {status}"] += 1
        if status == 429:
            return
        if status != 200 or length is None:
            self.wrong.append(f"status {status}: {found[:200]!r}")
            return
        view = memoryview(found)
        end = int(length)
        version = int(json.loads(found[:end])["model_version"])
        y = decode_parts(view[:end], view[end:])["y"]
        wanted = _expected(x, version)
        if y.shape != wanted.shape or not np.allclose(y, wanted, rtol=1e-3, atol=1e-4):
            self.wrong.append(f"version {version} gave a wrong answer to {len(x)} rows")

    async def _leave(self, session: ClientSession) -> None:
        """Go away in the middle of the head, of the body, or before the answer."""
        _, body, headers = self._request()
        sent = self._head(len(body), headers) + body
        _reader, writer = await self._connected()
        writer.write(sent[: self._random.choice((10, len(sent) // 2, len(sent)))])
        with suppress(ConnectionError):  # the server may be quicker
            await writer.drain()
        await asyncio.sleep(self._random.choice((0, 0.005, 0.05)))
        writer.transport.abort()
        self.counts["left"] += 1

    async def _send_garbage(self, session: ClientSession) -> None:
        body = self._random.choice(_GARBAGE)
        async with session.post(PATH, data=body) as response:
            said = await response.json()
        self.counts["garbage"] += 1
        if response.status != 400 or not said["hint"]:
            self.wrong.append(f"garbage {body[:40]!r}: status {response.status}")
        await asyncio.sleep(0.02)

    async def _send_slowly(self, session: ClientSession) -> None:
        x, body, headers = self._request()
        reader, writer = await self._connected()
        try:
            writer.write(self._head(len(body), headers))
            for part in range(10):
                writer.write(body[part * len(body) // 10 : (part + 1) * len(body) // 10])
                await writer.drain()
                await asyncio.sleep(0.1)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
            given = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            found = await reader.readexactly(int(given["content-length"]))
        finally:
            writer.close()
        self.counts["sent slowly"] += 1
        self._check(x, int(head[0].split()[1]), given.get(HEADER_LENGTH.lower()), found)

    async def _reload(self, session: ClientSession) -> None:
        """Put the other model in the place of this one; versions count from 1."""
        self.counts["reloads"] += 1
        await asyncio.to_thread(make_model, self.model, (self.counts["reloads"] + 1) % 2)
        async with session.post("/v2/repository/models/soak/load") as response:
            if response.status != 200:
                self.wrong.append(f"reload: {await response.text()}")
        await asyncio.sleep(1)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        place = urlsplit(self.url)
        return await asyncio.open_connection(place.hostname, place.port)

    def _head(self, length: int, headers: dict[str, str]) -> bytes:
        lines = [f"POST {PATH} HTTP/1.1", f"Host: {urlsplit(self.url).netloc}", f"Content-Length: {length}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()
