"""Who we are to a registry: what `docker login` and `podman login` have left on this machine.

https://docs.docker.com/reference/cli/docker/login/#credential-stores
https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from lamella.errors import RegistryError

_HELPER_S = 60.0
_DOCKER_HUB = ("https://index.docker.io/v1/", "docker.io", "index.docker.io")
_HUB_ADDRESS = "registry-1.docker.io"


@dataclass(frozen=True)
class Credentials:
    """A user of a registry; of Amazon ECR it is `AWS`, with a password that holds for twelve hours.

    Attributes:
        user: The name.
        password: The password, which is never shown.
    """

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


Login: TypeAlias = Callable[[], Credentials]
"""Gives credentials that hold for a while: a registry that takes them no longer is asked again with new ones."""


def find_credentials(address: str) -> Credentials | None:
    """What is kept for a registry, in the first file that has something; None where nothing is.

    Args:
        address: Host, with a port where it has one.

    Raises:
        RegistryError: A credential helper that is named there fails.
    """
    names = (*_DOCKER_HUB, address) if address == _HUB_ADDRESS else (address, f"https://{address}")
    for path in _files():
        content = _read(path)
        for name in names:
            found = _from_helper(content, name) or _from_file(content, name)
            if found is not None:
                return found
    return None


def _files() -> Iterator[Path]:
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers" / "auth.json"
    yield Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def _read(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RegistryError(f"`{path}` cannot be read: {error}", hint="log in to the registry again") from error
    return content if isinstance(content, dict) else {}


def _from_file(content: Mapping[str, object], name: str) -> Credentials | None:
    entry = _member(content, "auths", name)
    auth = entry.get("auth") if isinstance(entry, dict) else None
    if not isinstance(auth, str):
        return None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Credentials(user, password) if colon else None


def _from_helper(content: Mapping[str, object], name: str) -> Credentials | None:
    helper = _member(content, "credHelpers", name)
    if helper is None and _member(content, "auths", name) is not None:
        helper = content.get("credsStore")
    if not isinstance(helper, str) or not helper:
        return None
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=name, capture_output=True, text=True, check=False, timeout=_HELPER_S
        )
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        return Credentials(str(found["Username"]), str(found["Secret"]))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"`{program}` gives no credentials for `{name}`", hint="log in to the registry again"
        ) from error


def _member(content: Mapping[str, object], group: str, name: str) -> object:
    members = content.get(group)
    return members.get(name) if isinstance(members, dict) else None
