"""The load: requests of a file, sent by so many clients or at random times, in a process of its own.

    python serving_client.py JOB.json REQUESTS.pickle > RESULT.pickle

One client for all servers: plain HTTP/1.1 over connections that stay open, on uvloop. Answers are read in full and must
say 200. In the open loop requests are due at random times (Poisson), and latency counts from when one was due; its loop
is `select`, whose timers are exact to microseconds.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import random
import re
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict, cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CONNECTIONS = 64
_POLL_S = 0.01


class Job(TypedDict):
    """What is to be done: `first` waits for a server, `answers` collects them, `closed` and `open` measure."""

    kind: str
    port: int
    clients: int
    seconds: float
    rate: float
    seed: int


class Load(TypedDict):
    """What came of it: latencies in seconds, and over how long they were collected."""

    latencies: list[float]
    seconds: float


class _Connection(asyncio.Protocol):
    """Sends a request, and gives the answer's head and body."""

    def __init__(self) -> None:
        self._received, self._end, self._body = bytearray(), 0, 0
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> asyncio.Future[tuple[bytes, bytes]]:
        """The answer to a request."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._end:
            self._body = self._received.find(b"\r\n\r\n") + 4
            if self._body < 4:
                return
            length = _LENGTH.search(self._received, 0, self._body)
            self._end = self._body + int(length[1]) if length else -1
        chunked_end = self._end < 0 and self._received.endswith(b"0\r\n\r\n")
        if chunked_end or 0 < self._end <= len(self._received):
            head, body = bytes(self._received[: self._body]), bytes(self._received[self._body :])
            self._received, self._end = bytearray(), 0
            self._done(head, body)

    def _done(self, head: bytes, body: bytes) -> None:
        assert self._answer is not None
        if not head.startswith(b"HTTP/1.1 200"):
            self._answer.set_exception(RuntimeError(f"{head[:40]!r} {body[:300]!r}"))
        else:
            self._answer.set_result((head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))


async def _connected(port: int, number: int) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(_Connection, "127.0.0.1", port))[1] for _ in range(number)]


async def closed(job: Job, requests: Sequence[bytes]) -> Load:
    """Each client asks again as soon as it has its answer."""
    connections, latencies = await _connected(job["port"], job["clients"]), []
    began = time.perf_counter()
    end = began + job["seconds"]

    async def client(connection: _Connection, start: int) -> None:
        index, now = start, time.perf_counter()
        while now < end:
            asked = now
            await connection.ask(requests[index % len(requests)])
            index, now = index + 1, time.perf_counter()
            latencies.append(now - asked)

    await asyncio.gather(*(client(connection, 7 * index) for index, connection in enumerate(connections)))
    return Load(latencies=latencies, seconds=time.perf_counter() - began)


async def opened(job: Job, requests: Sequence[bytes]) -> Load:
    """Requests are due at random times; one that finds no free connection waits, and that counts."""
    chance = random.Random(job["seed"])
    free, latencies = deque(await _connected(job["port"], _CONNECTIONS)), []
    waiting: deque[tuple[float, bytes]] = deque()
    tasks: set[asyncio.Task[None]] = set()

    async def ask(connection: _Connection, due: float, request: bytes) -> None:
        await connection.ask(request)
        latencies.append(time.perf_counter() - due)
        if waiting:
            await ask(connection, *waiting.popleft())
        else:
            free.append(connection)

    began = due = time.perf_counter()
    index = 0
    while (due := due + chance.expovariate(job["rate"])) < began + job["seconds"]:
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        request, index = requests[index % len(requests)], index + 1
        if free:
            task = asyncio.ensure_future(ask(free.popleft(), due, request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            waiting.append((due, request))
    await asyncio.gather(*tasks)
    return Load(latencies=latencies, seconds=time.perf_counter() - began)


async def answers(job: Job, requests: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The answer to each request, all asked at once."""
    connections = await _connected(job["port"], len(requests))
    return await asyncio.gather(*(c.ask(request) for c, request in zip(connections, requests, strict=True)))


async def first(job: Job, requests: Sequence[bytes]) -> float:
    """When the first answer came, on the system's monotonic clock."""
    end = time.monotonic() + job["seconds"]
    error: Exception | None = None
    while time.monotonic() < end:
        try:
            (connection,) = await _connected(job["port"], 1)
            await asyncio.wait_for(connection.ask(requests[0]), 10)
        except (OSError, RuntimeError, TimeoutError) as one:
            error = one
            await asyncio.sleep(_POLL_S)
        else:
            return time.monotonic()
    raise TimeoutError(f"no answer: {error}")


def _exact_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


_KINDS: dict[str, Callable[[Job, Sequence[bytes]], object]] = {
    "closed": closed,
    "open": opened,
    "answers": answers,
    "first": first,
}


def main() -> None:
    """Do the job, and write what came of it."""
    job: Job = json.loads(Path(sys.argv[1]).read_text())
    requests: list[bytes] = pickle.loads(Path(sys.argv[2]).read_bytes())  # noqa: S301 - written by `serving_servers`
    loop = _exact_loop if job["kind"] == "open" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        sys.stdout.buffer.write(pickle.dumps(runner.run(_KINDS[job["kind"]](job, requests))))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
