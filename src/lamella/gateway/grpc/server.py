"""A gRPC server in the event loop that runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import grpc
from grpc import aio

from lamella.errors import UsageError
from lamella.gateway.grpc import Tls
from lamella.gateway.grpc.service import Service

GRACE_S = 30.0
"""Seconds that requests under way have when the server ends."""

_UNWINDING_S = 5.0  # for those that are cancelled then


class GrpcServer:
    """A server that listens.

    Args:
        server: gRPC's own.
        service: What it answers with.
        port: Where it listens.
    """

    def __init__(self, server: aio.Server, service: Service, port: int) -> None:
        self._server, self._service, self._port = server, service, port

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Take no more requests, answer those that were taken, and end; after `grace_s` seconds at the latest."""
        self._service.drain()
        await self._server.stop(grace_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(_UNWINDING_S):
                await self._service.ended()


async def listen(service: Service, *, host: str, port: int, max_message_bytes: int, tls: Tls | None) -> GrpcServer:
    """Listen on an address.

    Raises:
        UsageError: This machine has no such address, the port is taken, or the certificate cannot be used.
    """
    options = (
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # another server on the same port would take half of the calls
    )
    server = aio.server(options=options)
    server.add_generic_rpc_handlers((service.handlers(),))
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(where) if tls is None else server.add_secure_port(where, _credentials(tls))
    except RuntimeError as error:
        hint = "give another `--grpc-port`, or an address of this machine"
        if tls is not None:
            hint += "; or the certificate and the key are not a pair of PEM files"
        raise UsageError(f"the server cannot listen on `{where}`", hint=hint) from error
    await server.start()
    return GrpcServer(server, service, bound)


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(_read(tls.key), _read(tls.certificate))])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}", hint="give a PEM file") from error
