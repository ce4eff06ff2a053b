"""Wheels that were measured before: shipped with Lamella, and kept in the user's cache folder.

A wheel never changes once it is published, so a measurement holds for good.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from lamella.packaging.wheels import Wheel
from lamella.platforms.base import Architecture
from lamella.slicing.placement import write_atomically

SCHEMA = "lamella.wheels/1"

_SHIPPED = "wheels.json"


@dataclass(frozen=True)
class Record:
    """A wheel's measurement.

    Attributes:
        requirement: What was asked for: `numpy==2.4.6`.
        python: For which Python.
        architecture: For which processors.
        as_of: Date of the measurement.
        wheel: What was found.
    """

    requirement: str
    python: str
    architecture: Architecture
    as_of: str
    wheel: Wheel


def shipped_records() -> list[Record]:
    """The measurements that come with Lamella."""
    return _read(files("lamella.packaging").joinpath(_SHIPPED).read_text())


def cached_records() -> list[Record]:
    """The measurements made on this machine; none where the cache is missing or damaged."""
    try:
        return _read(_cache_file().read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return []


def keep_records(records: Iterable[Record]) -> None:
    """Add measurements to the user's cache; where that cannot be written, they are made again the next time."""
    known = {(r.requirement, r.python, r.architecture): r for r in (*cached_records(), *records)}
    path = _cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda partial: partial.write_text(written(list(known.values()))))
    except OSError:
        return


def written(records: Sequence[Record]) -> str:
    """Measurements as JSON; the same ones always give the same text."""
    ordered = sorted(records, key=lambda r: (r.python, r.architecture, r.requirement))
    return json.dumps({"schema": SCHEMA, "wheels": [asdict(record) for record in ordered]}, indent=1) + "\n"


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lamella" / _SHIPPED


def _read(text: str) -> list[Record]:
    content = json.loads(text)
    if content["schema"] != SCHEMA:
        raise ValueError(content["schema"])
    return [_record(entry) for entry in content["wheels"]]


def _record(entry: Mapping[str, object]) -> Record:
    wheel = entry["wheel"]
    if not isinstance(wheel, dict):
        raise TypeError
    measured = Wheel(
        name=str(wheel["name"]),
        version=str(wheel["version"]),
        unzipped_bytes=int(wheel["unzipped_bytes"]),
        zipped_bytes=int(wheel["zipped_bytes"]),
        unused_bytes=int(wheel["unused_bytes"]),
        heaviest=tuple((str(place), int(size)) for place, size in wheel["heaviest"]),
    )
    architecture: Architecture = "arm64" if entry["architecture"] == "arm64" else "x86_64"
    return Record(str(entry["requirement"]), str(entry["python"]), architecture, str(entry["as_of"]), measured)
