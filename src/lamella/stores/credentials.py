"""The credentials of a function: from its environment, or from the address that its environment names.

A function that was restored from a snapshot (SnapStart) has no keys in its environment: those would be as old as the
snapshot. It asks the platform for them, as containers do.

https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

import json
import os
from calendar import timegm
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from time import strptime, time

from lamella.errors import StoreError
from lamella.stores.sigv4 import Credentials

_ADDRESS = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_TOKEN, _TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
_RENEWED_S = 300.0  # before they expire
_TIMEOUT_S = 5.0
_HINT = "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or run as a function with a role"

FindCredentials = Callable[[], Credentials]
"""Gives credentials that are valid now."""


class FunctionCredentials:
    """Finds credentials each time that it is called; those that it has to ask for it keeps until they expire."""

    def __init__(self) -> None:
        self._kept: tuple[Credentials, float] | None = None
        self._lock = Lock()

    def __call__(self) -> Credentials:
        """Credentials that are valid now.

        Raises:
            StoreError: There are none.
        """
        key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        if key and secret:
            return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN") or None)
        address = os.environ.get(_ADDRESS)
        if not address:
            raise StoreError("there are no credentials for AWS", hint=_HINT)
        with self._lock:
            if self._kept is None or self._kept[1] - time() < _RENEWED_S:
                self._kept = _asked(address)
            return self._kept[0]


def _asked(address: str) -> tuple[Credentials, float]:
    """Credentials, and when they expire in seconds since 1970."""
    from urllib.request import Request, urlopen  # which few functions need

    request = Request(address, headers={"Authorization": token} if (token := _authorization()) else {})
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:
            found = json.load(answer)
        credentials = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found.get("Token"))
        return credentials, timegm(strptime(found["Expiration"][:19], "%Y-%m-%dT%H:%M:%S"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the platform gives no credentials: {type(error).__name__}", hint=_HINT) from error


def _authorization() -> str | None:
    file = os.environ.get(_TOKEN_FILE)
    return Path(file).read_text().strip() if file else os.environ.get(_TOKEN)
