"""Pages for people: each one file that needs nothing else, from here or elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What is inside the page runs, and asks this server only."""


def page(name: str) -> web.Response:
    """A page of this package as an answer."""
    from aiohttp import web

    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return web.Response(body=_content(name), content_type="text/html", charset="utf-8", headers=headers)


@cache
def _content(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()
