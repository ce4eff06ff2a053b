"""What is deployed, one JSON file a deployment, so that nothing is lost when a process ends."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lamella.errors import LamellaError, UsageError
from lamella.targets.addresses import safe_name
from lamella.targets.base import DeployedFunction, DeployedModel, Deployment, NotDeployedError, Version, key_of
from lamella.workflow.steps import workflow_from_json

SCHEMA = "lamella.deployment/2"
_ONE_MODEL = "lamella.deployment/1"
_FILE_NAME = "deployment.json"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def home_folder() -> Path:
    """Where deployments are kept: `$LAMELLA_HOME`, else `~/.local/share/lamella` (`XDG_DATA_HOME`).

    Raises:
        UsageError: The user has no home folder.
    """
    given = os.environ.get("LAMELLA_HOME")
    if given:
        return Path(given).absolute()
    data = os.environ.get("XDG_DATA_HOME")
    try:
        return (Path(data) if data else Path.home() / ".local" / "share").absolute() / "lamella"
    except RuntimeError as error:
        raise UsageError("this user has no home folder", hint="set `LAMELLA_HOME` to a folder") from error


def check_name(text: str, what: str) -> str:
    """A name or stage, if it is one that every platform takes.

    Raises:
        UsageError: It is none.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"`{text}` is no {what} of a deployment",
            hint="use up to 32 lower-case letters, digits and hyphens, no hyphen first or last",
        )
    return text


class State:
    """The deployments under a folder. Each has a folder of its own, for whatever belongs to it.

    Writes are atomic; that there is one writer at a time is its caller's business.

    Args:
        folder: Where they are kept; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder_of(self, name: str, stage: str) -> Path:
        """The folder of a deployment, whether it exists or not."""
        return self._folder / key_of(name, stage)

    def read(self, name: str, stage: str) -> Deployment | None:
        """A deployment, or None.

        Raises:
            LamellaError: Its file is damaged.
        """
        path = self.folder_of(name, stage) / _FILE_NAME
        return _read(path) if path.is_file() else None

    def find(self, name: str, stage: str) -> Deployment:
        """A deployment.

        Raises:
            NotDeployedError: There is none under this name and stage.
            LamellaError: Its file is damaged.
        """
        is_possible = _NAME.fullmatch(name) and _NAME.fullmatch(stage)  # else they would name folders elsewhere
        found = self.read(name, stage) if is_possible else None
        if found is not None:
            return found
        known = [deployment.key for deployment in self.all()]
        hint = f"there is {', '.join(f'`{key}`' for key in known)}" if known else "deploy it: `lamella deploy`"
        raise NotDeployedError(f"nothing is deployed as `{key_of(name, stage)}`", hint=hint)

    def names(self) -> Iterator[tuple[str, str]]:
        """Name and stage of every deployment, in order. Reads no file."""
        for path in sorted(self._folder.glob(f"*@*/{_FILE_NAME}")):
            name, _, stage = path.parent.name.partition("@")
            yield name, stage

    def all(self) -> Iterator[Deployment]:
        """Every deployment, by name and stage.

        Raises:
            LamellaError: A file is damaged.
        """
        for name, stage in self.names():
            yield _read(self.folder_of(name, stage) / _FILE_NAME)

    def is_empty(self) -> bool:
        """Whether nothing is deployed. Reads no file."""
        return next(self.names(), None) is None

    def write(self, deployment: Deployment) -> None:
        """Keep a deployment, whole or not at all."""
        folder = self.folder_of(deployment.name, deployment.stage)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = folder / f".{_FILE_NAME}.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"schema": SCHEMA, **asdict(deployment)}, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / _FILE_NAME)

    def delete(self, name: str, stage: str) -> None:
        """Forget a deployment, and remove its folder."""
        folder = self.folder_of(name, stage)
        (folder / _FILE_NAME).unlink(missing_ok=True)  # first: what is left of a half-removed folder is no deployment
        remove_tree(folder)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()


def remove_tree(folder: Path) -> None:
    """Remove a folder and everything in it, read-only folders included; no error if there is none."""
    if not folder.exists():
        return
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o700)
    shutil.rmtree(folder)


def _read(path: Path) -> Deployment:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] == _ONE_MODEL:
            content["versions"] = [_with_models(entry) for entry in content["versions"]]
        elif content["schema"] != SCHEMA:
            raise LamellaError(f"`{path}` is of another version of Lamella", hint="remove its folder, and deploy again")
        return _deployment(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LamellaError(f"`{path}` is damaged: {error!r}", hint="remove its folder, and deploy again") from error


def _deployment(content: Mapping[str, Any]) -> Deployment:
    versions = tuple(_version(entry) for entry in content["versions"])
    found = Deployment(
        name=str(content["name"]),
        stage=str(content["stage"]),
        target=str(content["target"]),
        platform=str(content["platform"]),
        versions=versions,
        live=int(content["live"]),
        aliases={str(alias): int(number) for alias, number in content.get("aliases", {}).items()},
    )
    missing = {found.live, *found.aliases.values()} - {version.number for version in versions}
    if missing:
        raise ValueError(f"version {min(missing)} is missing")
    return found


def _with_models(version: Mapping[str, Any]) -> dict[str, Any]:
    """A version as it was kept before deployments could hold several models."""
    name = safe_name(Path(version["model"]).stem)
    model = {"name": name, "file": version["model"], "workflow": version["workflow"]}
    return {**version, "models": [model], "functions": [{**entry, "model": name} for entry in version["functions"]]}


def _version(content: Mapping[str, Any]) -> Version:
    return Version(
        number=int(content["number"]),
        created=str(content["created"]),
        models=tuple(
            DeployedModel(str(model["name"]), str(model["file"]), workflow_from_json(model["workflow"]))
            for model in content["models"]
        ),
        delivery=content["delivery"],
        cold=content["cold"],
        environment=dict(content["environment"]),
        mount=content["mount"],
        store=str(content["store"]),
        functions=tuple(DeployedFunction(**entry) for entry in content["functions"]),
    )
