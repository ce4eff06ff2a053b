"""Where on AWS this machine's user has deployed something, so that a name alone finds it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lamella.errors import LamellaError
from lamella.targets.base import key_of


@dataclass(frozen=True)
class Somewhere:
    """A place on AWS.

    Attributes:
        region: Where.
        profile: Of the user's AWS configuration; None: the default one.
    """

    region: str
    profile: str | None = None


class Remembered:
    """Pointers in the user's own folder; what is deployed itself is known on AWS only.

    Args:
        home: The folder of Lamella's state.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "aws"

    def find(self, name: str, stage: str) -> Somewhere | None:
        """Where a deployment is; None if nothing was deployed from here under this name.

        Raises:
            LamellaError: The pointer is damaged.
        """
        path = self._path(name, stage)
        return self._read(path) if path.is_file() else None

    def places(self) -> Iterator[Somewhere]:
        """Every place where something was deployed from here, once.

        Raises:
            LamellaError: A pointer is damaged.
        """
        found = [self._read(path) for path in sorted(self._folder.glob("*@*.json"))]
        yield from dict.fromkeys(found)

    def keep(self, name: str, stage: str, place: Somewhere) -> None:
        """Remember a deployment, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(name, stage)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(place)) + "\n", encoding="utf-8")
        partial.replace(path)

    def forget(self, name: str, stage: str) -> None:
        """Forget it."""
        self._path(name, stage).unlink(missing_ok=True)

    def _path(self, name: str, stage: str) -> Path:
        return self._folder / f"{key_of(name, stage)}.json"

    def _read(self, path: Path) -> Somewhere:
        try:
            return Somewhere(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise LamellaError(f"`{path}` is damaged: {error}", hint="remove it, and give `--region`") from error
