"""What is deployed, as an object in the deployment's own bucket: whoever may read it can go on with it, anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lamella.errors import LamellaError
from lamella.targets.aws.release import Function, ImageCode, Model, Release, ZipCode
from lamella.targets.aws.settings import Budget, HttpApi, ObjectEvents, Settings
from lamella.targets.base import Deployment
from lamella.targets.state import deployment_of

KEY = "lamella/deployment.json"
SCHEMA = "lamella.aws/1"


@dataclass(frozen=True)
class Record:
    """A deployment on AWS.

    Attributes:
        deployment: What is deployed, as every target has it.
        chosen: By the number of a version: the settings that came with it.
        functions: By the number of a version: its functions on AWS.
    """

    deployment: Deployment
    chosen: Mapping[int, Settings]
    functions: Mapping[int, tuple[Function, ...]]

    @property
    def settings(self) -> Settings:
        """How all of it is set up: as the newest version was, also when an older one is live."""
        return self.chosen[max(self.chosen)]

    @property
    def releases(self) -> tuple[Release, ...]:
        """Every version that is kept, as the template wants it."""
        return tuple(
            Release(
                version.number,
                tuple(Model(model.name, model.workflow) for model in version.models),
                self.functions[version.number],
            )
            for version in self.deployment.versions
        )

    @property
    def release(self) -> Release:
        """The live one."""
        return next(release for release in self.releases if release.number == self.deployment.live)

    def at(self, live: int | str) -> Record:
        """The same with another version live.

        Raises:
            NotDeployedError: It is not kept.
        """
        return replace(self, deployment=self.deployment.at(live))


def written(record: Record) -> bytes:
    """A record as JSON."""
    content = {
        "schema": SCHEMA,
        "deployment": asdict(record.deployment),
        "settings": {str(number): asdict(settings) for number, settings in record.chosen.items()},
        "functions": {str(number): [_written(one) for one in entries] for number, entries in record.functions.items()},
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def read_record(text: bytes, where: str) -> Record:
    """A record from what `written` gave.

    Args:
        text: JSON.
        where: The object, for errors.

    Raises:
        LamellaError: It is damaged, or of another version of Lamella.
    """
    try:
        content = json.loads(text)
        if content["schema"] != SCHEMA:
            raise LamellaError(f"`{where}` is of another version of Lamella", hint="use the one that deployed it")
        found = Record(
            deployment_of(content["deployment"]),
            {int(number): _settings(entry) for number, entry in content["settings"].items()},
            {int(number): _functions(entries) for number, entries in content["functions"].items()},
        )
        numbers = {version.number for version in found.deployment.versions}
        if not numbers == found.chosen.keys() == found.functions.keys():
            raise ValueError("its parts tell of different versions")
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LamellaError(
            f"`{where}` is damaged: {error!r}", hint="delete the deployment, and deploy again"
        ) from error


def _written(function: Function) -> dict[str, Any]:
    return {**asdict(function), "code": {type(function.code).__name__: asdict(function.code)}}


def _functions(entries: Sequence[Mapping[str, Any]]) -> tuple[Function, ...]:
    return tuple(
        Function(**{**entry, "code": _code(entry["code"]), "weights": tuple(entry["weights"])}) for entry in entries
    )


def _code(entry: Mapping[str, Any]) -> ZipCode | ImageCode:
    ((kind, values),) = entry.items()
    return ImageCode(**values) if kind == ImageCode.__name__ else ZipCode(**values)


def _settings(entry: Mapping[str, Any]) -> Settings:
    api, events, budget = entry["http_api"], entry["s3_events"], entry["budget"]
    parts = {
        "http_api": None if api is None else HttpApi(**{**api, "audiences": tuple(api["audiences"])}),
        "s3_events": None if events is None else ObjectEvents(**events),
        "budget": None if budget is None else Budget(**budget),
    }
    return Settings(**{**entry, **parts})
