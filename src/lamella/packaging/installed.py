"""Files of installed distributions, as a package takes them: what pip or uv unpacked from a wheel."""

from __future__ import annotations

import csv
import hashlib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.wheels import is_unused


def installed_files(name: str) -> dict[str, Path]:
    """Where the files of an installed distribution lie, by their path in a package; without what is never imported.

    Raises:
        PackageError: It is not installed, or not in a form that can be copied.
    """
    found = _distribution(name)
    # `found.files` leaves out what is missing, from Python 3.12 on.
    listed = (row[0] for row in csv.reader((found.read_text("RECORD") or "").splitlines()) if row)
    kept = (path for path in listed if not _is_outside(path) and not is_unused(path))
    files = {path: Path(str(found.locate_file(path))) for path in kept}
    if not any(".dist-info/" not in path and path.endswith(".py") for path in files):
        raise PackageError(
            f"`{name}` {found.version} has no list of its files: it is installed in editable form, or by no installer",
            hint=f"install it from a wheel: `pip install --force-reinstall {name}`",
        )
    for path, source in files.items():
        if not source.is_file():
            raise PackageError(
                f"`{name}` {found.version} is installed without its file `{path}`",
                hint=f"install it again: `pip install --force-reinstall {name}`",
            )
    return files


def installed_key(name: str) -> str:
    """What tells one installation from another: name, version, and a digest of its list of files and their digests.

    Raises:
        PackageError: It is not installed.
    """
    found = _distribution(name)
    record = hashlib.sha256((found.read_text("RECORD") or "").encode()).hexdigest()
    return f"{name}=={found.version} {record}"


def is_portable(name: str) -> bool:
    """Whether what is installed runs on any Linux with glibc: it came from a `manylinux` wheel, or is pure Python."""
    try:
        lines = (distribution(name).read_text("WHEEL") or "").splitlines()
    except PackageNotFoundError:
        return False
    tags = [line.removeprefix("Tag:").strip() for line in lines if line.startswith("Tag:")]
    return any("manylinux" in tag or tag.endswith("-none-any") for tag in tags)


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise PackageError(f"`{name}` is not installed", hint=f"install it: `pip install {name}`") from error


def _is_outside(path: str) -> bool:
    """Whether a file lies beside the libraries: a script, or data for the whole environment."""
    return path.startswith(("/", "../"))
