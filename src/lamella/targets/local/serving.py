"""What both HTTP servers need: aiohttp itself, and bodies that are bounded before they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import MissingDependencyError

if TYPE_CHECKING:
    from aiohttp import web


_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost"})


def require_aiohttp() -> None:
    """Refuse to go on without aiohttp.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "the local platform needs `aiohttp`, which is not installed", hint="pip install 'lamella[local]'"
        ) from None


def is_from_page(request: web.BaseRequest) -> bool:
    """Whether a web page in a browser sends this: it may not use what listens on its user's machine.

    A page cannot leave `Origin` out of a request that does something, and one that had its own name lead here shows
    that in `Host`.
    """
    host = request.host.rpartition(":")[0] or request.host
    return "Origin" in request.headers or host not in _LOCAL_HOSTS


async def read_body(request: web.BaseRequest, limit_bytes: int) -> bytes | None:
    """A request's body; None if it is larger than the limit, of which no more than that is read."""
    if (request.content_length or 0) > limit_bytes:
        return None
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > limit_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
