"""What a function's package holds beside the model: the engine, NumPy, what they need, and Lamella's own function side.

The versions are those that are installed here, so that the function runs what was tried here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from lamella.packaging.own import own_bytes
from lamella.packaging.records import Record, cached_records, keep_records, shipped_records
from lamella.packaging.wheels import Wheel, WheelsError, fetch_wheels
from lamella.platforms.base import Architecture, Platform

DISTRIBUTIONS = ("onnxruntime", "numpy")
"""The engine, and what it imports. What else it declares that it needs, its tools need, which stay out of packages."""

PREFERRED_PYTHON = "3.13"

_SHOWN = 8


@dataclass(frozen=True)
class Closure:
    """A package without its model.

    Attributes:
        python: Minor version of the function's Python.
        architecture: The function's processors.
        wheels: What it is made of.
        own_bytes: Lamella's own files.
        as_of: Date of the oldest measurement in it.
        note: Why it is not exact: the wheels could not be fetched, and other versions were taken. None where it is.
    """

    python: str
    architecture: Architecture
    wheels: tuple[Wheel, ...]
    own_bytes: int
    as_of: str
    note: str | None = None

    @property
    def unzipped_bytes(self) -> int:
        """Bytes of all files."""
        return sum(wheel.unzipped_bytes for wheel in self.wheels) + self.own_bytes

    @property
    def zipped_bytes(self) -> int:
        """Bytes compressed; Lamella's own files count in full."""
        return sum(wheel.zipped_bytes for wheel in self.wheels) + self.own_bytes

    @property
    def heaviest(self) -> tuple[tuple[str, int], ...]:
        """What takes the most, with its bytes, in descending order."""
        found = (place for wheel in self.wheels for place in wheel.heaviest)
        return tuple(sorted(found, key=lambda place: -place[1])[:_SHOWN])

    @property
    def engine(self) -> str:
        """Name and version of the engine in it."""
        return next((f"{w.name} {w.version}" for w in self.wheels if w.name == DISTRIBUTIONS[0]), DISTRIBUTIONS[0])


def closure_of(
    platform: Platform, architecture: Architecture, *, extra: Sequence[str] = (), fetch: bool = True
) -> Closure:
    """The closure for a platform.

    Wheels that were measured before are looked up. Others are fetched (the large ones take 40 MB together) and measured
    once; where that fails, the nearest versions that were measured have to do, and `note` says so.

    Args:
        platform: Its Python versions decide which wheels are taken.
        architecture: Of the functions.
        extra: Further distributions, such as `ml-dtypes`.
        fetch: Whether to fetch what was not measured before; without, the nearest versions have to do.
    """
    python = python_of(platform)
    wanted = [pinned(name) for name in (*DISTRIBUTIONS, *extra)]
    everything = [*shipped_records(), *cached_records()]
    known = {r.requirement: r for r in everything if (r.python, r.architecture) == (python, architecture)}
    missing = [requirement for requirement in wanted if requirement not in known]
    note = None
    if missing:
        try:
            if not fetch:
                raise WheelsError("nothing was fetched")
            fetched = fetch_records(missing, python=python, architecture=architecture)
            keep_records(fetched)
        except WheelsError as error:
            fetched = [_nearest(requirement, python, architecture, everything) for requirement in missing]
            note = f"{error}; {', '.join(_stands_in(r, n) for r, n in zip(missing, fetched, strict=True))}"
        known |= dict(zip(missing, fetched, strict=True))
    used = [known[requirement] for requirement in wanted]
    as_of = min(record.as_of for record in used)
    return Closure(python, architecture, tuple(r.wheel for r in used), own_bytes(), as_of, note)


def fetch_records(requirements: Sequence[str], *, python: str, architecture: Architecture) -> list[Record]:
    """Fetch wheels and measure them, in the order of `requirements`.

    Raises:
        WheelsError: They cannot be fetched.
    """
    wheels = fetch_wheels(requirements, python=python, architecture=architecture)
    by_name = {_normal(wheel.name): wheel for wheel in wheels}
    names = {requirement: _normal(requirement.partition("==")[0]) for requirement in requirements}
    lacking = [requirement for requirement, name in names.items() if name not in by_name]
    if lacking:
        raise WheelsError(f"no wheel was found for {', '.join(lacking)}")
    return [Record(r, python, architecture, _today(), by_name[names[r]]) for r in requirements]


def python_of(platform: Platform) -> str:
    """Minor version of the Python that functions run on: the preferred one where the platform offers it."""
    offered = platform.python_versions
    return PREFERRED_PYTHON if not offered or PREFERRED_PYTHON in offered else offered[0]


def pinned(name: str) -> str:
    """A distribution with its installed version; with any, where it is not installed."""
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def _nearest(requirement: str, python: str, architecture: Architecture, records: Iterable[Record]) -> Record:
    """The record of the same distribution for this architecture, of this Python if there is one; else an empty one."""
    name = _normal(requirement.partition("==")[0])
    same = [r for r in records if r.architecture == architecture and _normal(r.wheel.name) == name]
    unknown = Record(requirement, python, architecture, _today(), Wheel(name, "unknown", 0, 0, 0, ()))
    return max(same, key=lambda record: (record.python == python, record.as_of), default=unknown)


def _stands_in(requirement: str, nearest: Record) -> str:
    if not nearest.wheel.unzipped_bytes:
        return f"{requirement} is not counted"
    return f"{requirement} is counted as {nearest.requirement} of {nearest.as_of}"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
