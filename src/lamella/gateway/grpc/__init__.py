"""The Open Inference Protocol v2 over gRPC: translation to the data plane and back, and nothing else.

What stands in this folder beside this file imports gRPC when it is imported; this file, when `start` is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.errors import MissingDependencyError
from lamella.gateway.dataplane import DataPlane, Repository

if TYPE_CHECKING:
    from lamella.gateway.grpc.server import GrpcServer

MOST_MESSAGE_BYTES = 256 << 20
"""A request is at most this large where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What a server shows to prove who it is.

    Attributes:
        certificate: PEM file with its certificate, and those between it and the root.
        key: PEM file with the certificate's private key.
    """

    certificate: Path
    key: Path


async def start(
    data_plane: DataPlane,
    repository: Repository,
    *,
    host: str,
    port: int,
    is_known: Callable[[str], bool] | None = None,
    max_message_bytes: int = MOST_MESSAGE_BYTES,
    tls: Tls | None = None,
) -> GrpcServer:
    """Answer over gRPC, in the event loop that runs.

    Args:
        data_plane: Answers.
        repository: Loads and unloads models.
        host: Where to listen.
        port: The port; 0: any that is free.
        is_known: Tells by the value of `authorization` in a call's metadata (`Bearer TOKEN`; empty where it has none)
            whether to answer; None: everybody is answered. Whoever asks only whether the server is live or ready is
            always answered.
        max_message_bytes: Largest request.
        tls: Encrypt, and prove who answers; None: neither.

    Raises:
        UsageError: This machine has no such address, the port is taken, or the certificate cannot be used.
        MissingDependencyError: gRPC is not installed.
    """
    try:
        import grpc  # noqa: F401  # whether it is there
        from google import protobuf  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "gRPC needs `grpcio` and `protobuf`", hint="pip install 'lamella[grpc]'"
        ) from error
    from lamella.gateway.grpc.server import listen
    from lamella.gateway.grpc.service import Service

    service = Service(data_plane, repository, is_known=is_known)
    return await listen(service, host=host, port=port, max_message_bytes=max_message_bytes, tls=tls)
