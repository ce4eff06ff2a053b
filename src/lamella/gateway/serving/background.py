"""A model server in a thread of this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Thread
from types import TracebackType

from lamella.gateway.serving.models import sources_of
from lamella.gateway.serving.server import Listening, Server, use_fast_loop
from lamella.gateway.serving.settings import Settings


def serve(
    *models: str | Path, settings: Settings | None = None, listening: Listening | None = None
) -> BackgroundServer:
    """Serve models over the Open Inference Protocol, until the server is closed.

    Example:
        ```python
        with lamella.serve("bert.onnx") as server:
            print(server.url)
        ```

    Args:
        models: Files and slices directories, or `NAME=PATH`; a model is called as its file's stem otherwise.
        settings: How they are served.
        listening: Where and how the server listens; by default on loopback, on a free port.

    Raises:
        LamellaError: A model cannot be loaded, or there is no such address.
    """
    given = sources_of([str(model) for model in models], settings or Settings())
    return BackgroundServer(Server(given, listening or Listening(port=0)))


class BackgroundServer:
    """A server that runs in a thread. To be closed, or used in a `with` statement.

    Attributes:
        url: Where it answers.

    Args:
        server: The server; it is started.
    """

    def __init__(self, server: Server) -> None:
        self._server, self._loop = server, use_fast_loop()()
        self._thread = Thread(target=self._loop.run_forever, name="lamella-serve", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(server.start(), self._loop).result()
        except BaseException:
            self.close()
            raise
        self.url = server.url

    def close(self) -> None:
        """Answer what has been taken, then end. Another call does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> BackgroundServer:
        """The server itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
