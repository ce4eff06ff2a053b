"""A gRPC server in an event loop of its own, for clients that block."""

import asyncio
from threading import Thread
from types import TracebackType
from typing import Any

from lamella.gateway.grpc import start


class ServerInThread:
    """Listens on any port while it is entered.

    Args:
        plane: A data plane that is its repository, too.
        settings: As `start` takes them.
    """

    def __init__(self, plane: Any, **settings: Any) -> None:
        self._plane, self._settings = plane, settings
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)

    def __enter__(self) -> "ServerInThread":
        self._thread.start()
        starting = start(self._plane, self._plane, host="127.0.0.1", port=0, **self._settings)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(5), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    @property
    def port(self) -> int:
        return self._server.port
