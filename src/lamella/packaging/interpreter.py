"""The Python that a function runs on, and whether it is this process's own."""

from __future__ import annotations

import platform as machine
import sys
from dataclasses import dataclass

from lamella.errors import UsageError
from lamella.platforms.base import Architecture, Platform

_MACHINES: dict[str, Architecture] = {
    "x86_64": "x86_64",
    "AMD64": "x86_64",
    "aarch64": "arm64",
    "arm64": "arm64",
}


@dataclass(frozen=True)
class Interpreter:
    """The Python of a function.

    Attributes:
        python: Its minor version, such as `3.13`.
        architecture: The processors that it runs on.
        here: Whether the function is for this machine: what is installed here runs in it, whatever built it.
    """

    python: str
    architecture: Architecture
    here: bool

    @property
    def is_running(self) -> bool:
        """Whether this process's Python reads the same files: the same minor version, processors, and Linux."""
        return sys.platform == "linux" and (self.python, self.architecture) == (running_python(), _architecture())

    @property
    def compiles(self) -> bool:
        """Whether this process's Python writes the `.pyc` files that the function's Python reads."""
        return self.python == running_python()


def architecture_of(platform: Platform, wanted: str | None) -> Architecture:
    """The architecture that was asked for, or the platform's first.

    Raises:
        UsageError: The platform does not have it.
    """
    if wanted is None:
        return platform.architectures[0]
    for known in platform.architectures:
        if wanted == known:
            return known
    offered = ", ".join(f"`{name}`" for name in platform.architectures)
    raise UsageError(f"{platform.title} has no architecture `{wanted}`", hint=f"it offers {offered}")


def interpreter_for(platform: Platform, *, architecture: str | None, python: str | None) -> Interpreter:
    """The Python of the functions of a deployment.

    Args:
        platform: It must offer what is asked for.
        architecture: `x86_64` or `arm64`; this machine's by default.
        python: A minor version; this process's by default. With neither, the functions are for this machine.

    Raises:
        UsageError: The platform does not offer it, or this machine has other processors and none were named.
    """
    chosen = _architecture() if architecture is None else architecture_of(platform, architecture)
    if chosen is None:
        raise UsageError(
            f"this machine has {machine.machine()} processors, for which there are no packages",
            hint="say what the functions run on: `x86_64` or `arm64`",
        )
    offered = platform.python_versions
    named = architecture is not None or python is not None
    if named and offered and (python or running_python()) not in offered:
        versions = ", ".join(f"`{version}`" for version in offered)
        raise UsageError(f"{platform.title} has no Python `{python or running_python()}`", hint=f"it offers {versions}")
    return Interpreter(python or running_python(), chosen, not named)


def running_python() -> str:
    """Minor version of this process's Python."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _architecture() -> Architecture | None:
    return _MACHINES.get(machine.machine())
