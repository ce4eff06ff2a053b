"""Connections to AWS's services, or to servers that stand in for them, from the standard library alone."""

from __future__ import annotations

import os
from collections import deque
from functools import cache
from http.client import HTTPConnection, HTTPSConnection
from ssl import SSLContext, create_default_context
from time import time
from weakref import finalize

_MOST_KEPT, _KEPT_S = 16, 15.0  # S3 closes what is idle for longer; so does whatever stands between, without a word


def new_connection(scheme: str, place: str) -> HTTPConnection:
    """A connection that is not open yet.

    Args:
        scheme: `https` or `http`.
        place: Host, and port if there is one.
    """
    return HTTPSConnection(place, context=_context()) if scheme == "https" else HTTPConnection(place)


class KeptConnections:
    """Those that nobody uses at the moment. Thread-safe."""

    def __init__(self) -> None:
        self._kept: deque[tuple[HTTPConnection, str, float]] = deque()
        finalize(self, _close, self._kept)

    def take(self, place: str) -> HTTPConnection | None:
        """The one to a place (host, and port if there is one) that was used last; None where none may be open still.

        The clock is the world's: it goes on while a snapshot of a function, whose connections end, lies somewhere.
        """
        while self._kept:
            try:
                connection, to, since = self._kept.pop()
            except IndexError:  # another thread was faster
                break
            if to == place and 0 <= time() - since < _KEPT_S:
                return connection
            connection.close()
        return None

    def keep(self, connection: HTTPConnection, place: str) -> None:
        """Give one back that has nothing left to read."""
        if len(self._kept) < _MOST_KEPT:
            self._kept.append((connection, place, time()))
        else:
            connection.close()

    def forget(self) -> None:
        """Close them all: what broke one has broken the others."""
        _close(self._kept)


def _close(kept: deque[tuple[HTTPConnection, str, float]]) -> None:
    while kept:
        try:
            kept.pop()[0].close()
        except IndexError:  # another thread was faster
            return


@cache
def _context() -> SSLContext:
    """Whom to trust, which takes 20 ms to read: `AWS_CA_BUNDLE`, else what the system trusts."""
    return create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
