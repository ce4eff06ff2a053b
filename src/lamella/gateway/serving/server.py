"""The model server: it loads models, listens, and ends when it is told to, with every request answered."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING

from lamella.errors import MissingDependencyError, UsageError
from lamella.gateway import grpc
from lamella.gateway.serving.application import Application
from lamella.gateway.serving.later import LaterAnswers
from lamella.gateway.serving.models import Models
from lamella.gateway.serving.settings import Settings, is_loopback

if TYPE_CHECKING:
    from aiohttp import web

    from lamella.gateway.grpc.server import GrpcServer

LOOPBACK = "127.0.0.1"
PORT = 8000
MOST_BODY_BYTES = 256 << 20
_GRACE_S = 30.0
_log = logging.getLogger("lamella.serve")


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how a server listens.

    Attributes:
        host: The address.
        port: The port of HTTP; 0: any that is free.
        grpc_port: The port of gRPC; 0: any that is free; None: no gRPC.
        tokens: Callers must send one of them; none: everybody who reaches it may ask.
        certificate: Of TLS: a file in PEM; None: plain HTTP.
        key: The certificate's key: a file in PEM.
        most_body_bytes: Largest body of a request.
        results: Where requests that are answered later are kept; None: they are lost when the server ends.
    """

    host: str = LOOPBACK
    port: int = PORT
    tokens: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    most_body_bytes: int = MOST_BODY_BYTES
    results: Path | None = None
    grpc_port: int | None = None

    @property
    def is_open_to_others(self) -> bool:
        """Whether other machines may ask, and need no token for it."""
        return not is_loopback(self.host) and not self.tokens

    def context(self) -> ssl.SSLContext | None:
        """TLS, where it is wanted.

        Raises:
            UsageError: Certificate or key cannot be used.
        """
        if self.certificate is None:
            if self.key is not None:
                raise UsageError("a TLS key without its certificate", hint="give `--tls-certificate` too")
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"`{self.certificate}` cannot be used: {error}", hint="give a certificate and its key, both in PEM"
            ) from error
        return context


class Server:
    """A model server. Used in an event loop.

    Args:
        sources: Path and settings of each model, by name.
        listening: Where and how it listens.

    Attributes:
        models: The models.
        url: Where it answers, once it has started.
        grpc_address: Where it answers over gRPC, `HOST:PORT`; empty where it does not.
    """

    def __init__(self, sources: Mapping[str, tuple[Path, Settings]], listening: Listening) -> None:
        self.models = Models(sources)
        self._names, self._listening = list(sources), listening
        self._runner: web.AppRunner | None = None
        self._application: Application | None = None
        self._later: LaterAnswers | None = None
        self._scratch: TemporaryDirectory[str] | None = None
        self._grpc: GrpcServer | None = None
        self.url = self.grpc_address = ""

    async def start(self) -> None:
        """Load every model, then listen.

        Raises:
            LamellaError: A model cannot be loaded, or there is no such address, or its port is taken.
        """
        web = _web()
        context = self._listening.context()
        for name in self._names:
            await self.models.load(name)
        self._later = LaterAnswers(self.models, self._results())
        self._application = Application(
            self.models,
            self._later,
            tokens=self._listening.tokens,
            most_body_bytes=self._listening.most_body_bytes,
            is_local=is_loopback(self._listening.host),
        )
        self._runner = web.AppRunner(
            self._application.make(),
            access_log=None,
            shutdown_timeout=_GRACE_S,
            handle_signals=False,
            handler_cancellation=True,
        )
        await self._runner.setup()
        host, port = self._listening.host, self._listening.port
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=context).start()
        except OSError as error:
            raise UsageError(
                f"the server cannot listen on {host}, port {port}: {(error.strerror or str(error)).lower()}",
                hint="give another `--host` or `--port`; `--port 0` takes one that is free",
            ) from error
        bound = self._runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if context else 'http'}://{shown}:{bound}"
        if self._listening.grpc_port is not None:
            self._grpc = await self._started_grpc(self._application, self._listening.grpc_port)
            self.grpc_address = f"{shown}:{self._grpc.port}"

    async def _started_grpc(self, application: Application, port: int) -> GrpcServer:
        given = self._listening
        return await grpc.start(
            self.models,
            self.models,
            host=given.host,
            port=port,
            is_known=application.knows if given.tokens else None,
            max_message_bytes=given.most_body_bytes,
            tls=None if given.certificate is None else grpc.Tls(given.certificate, given.key or given.certificate),
        )

    def _results(self) -> Path:
        """Where requests that are answered later are kept."""
        if self._listening.results is None:
            self._scratch = TemporaryDirectory(prefix="lamella-serve-")
            return Path(self._scratch.name)
        try:
            self._listening.results.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(
                f"`{self._listening.results}` cannot be used: {(error.strerror or str(error)).lower()}",
                hint="give a folder that can be written",
            ) from error
        return self._listening.results

    async def close(self) -> None:
        """Refuse further requests, answer those that were taken, and release everything."""
        if self._application is not None:
            self._application.stop()
        ending = [] if self._grpc is None else [asyncio.create_task(self._grpc.stop(_GRACE_S))]
        if self._later is not None:
            await self._later.close()
        await self.models.close()
        await asyncio.gather(*ending)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._scratch is not None:
            self._scratch.cleanup()


def _web() -> ModuleType:
    try:
        from aiohttp import web
    except ImportError as error:
        raise MissingDependencyError("the model server needs `aiohttp`", hint="pip install 'lamella[serve]'") from error
    return web


def use_fast_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """An event loop in C, where there is one; Python's own is slower and does the same."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def serve(
    sources: Mapping[str, tuple[Path, Settings]], listening: Listening, *, started: Callable[[Server], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was taken.

    Args:
        sources: Path and settings of each model, by name.
        listening: Where and how the server listens.
        started: Called once it answers.

    Raises:
        LamellaError: It cannot start.
    """
    with asyncio.Runner(loop_factory=use_fast_loop()) as runner:
        runner.run(_serve(Server(sources, listening), started))


async def _serve(server: Server, started: Callable[[Server], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await server.start()
        started(server)
        await stop.wait()
    finally:
        await server.close()
