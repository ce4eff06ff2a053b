"""Names of images: `public.ecr.aws/lambda/python:3.13`, as Docker, podman and skopeo read them.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamella.errors import UsageError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<registry>(?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?)/"
    rf"(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_DOCKER_HUB, _DOCKER_API = "docker.io", "registry-1.docker.io"


@dataclass(frozen=True)
class Reference:
    """An image in a registry.

    Attributes:
        registry: Host, with a port where one was given.
        repository: What images with the same history share.
        tag: A name that may move on to another image; None where none was given.
        digest: The image itself; None where none was given.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def manifest(self) -> str:
        """What to ask the registry for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    @property
    def address(self) -> str:
        """Host and port that answer."""
        return _DOCKER_API if self.registry == _DOCKER_HUB else self.registry

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """Read the name of an image. Without a registry it is one of Docker Hub's.

    Raises:
        UsageError: It is none.
    """
    first, slash, rest = text.partition("/")
    is_host = bool(slash) and (any(mark in first for mark in ".:[") or first == "localhost")
    name = text if is_host else f"{_DOCKER_HUB}/{text if slash else f'library/{text}'}"
    match = _REFERENCE.fullmatch(name)
    if match is None or (is_host and not rest):
        raise UsageError(
            f"`{text}` names no image", hint="write it like `public.ecr.aws/lambda/python:3.13`, in lower case"
        )
    return Reference(match["registry"], match["repository"], match["tag"], match["digest"])
