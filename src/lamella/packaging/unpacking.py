"""Wheels, unpacked as an installer would, without what is never imported."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from lamella.packaging.wheels import WheelsError, is_unused

_SPREAD = re.compile(r"[^/]+\.data/(?P<scheme>[^/]+)/(?P<rest>.+)")
_LIBRARIES = ("purelib", "platlib")


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Write a wheel's files into a folder.

    Raises:
        WheelsError: It is no wheel, or names a file outside.
    """
    try:
        with ZipFile(wheel) as archive:
            for entry in archive.infolist():
                path = installed_path(entry.filename)
                if path is None or entry.is_dir() or is_unused(path):
                    continue
                if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                    raise WheelsError(f"`{wheel.name}` names `{path}`, outside of where it is unpacked")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as written:
                    shutil.copyfileobj(source, written, 1 << 20)
    except BadZipFile as error:
        raise WheelsError(f"`{wheel.name}` is no wheel: {error}") from error


def installed_path(path: str) -> str | None:
    """Where a wheel's file is installed, beside the libraries; None where it is not one of them, such as a script.

    https://packaging.python.org/en/latest/specifications/binary-distribution-format/#the-data-directory
    """
    spread = _SPREAD.fullmatch(path)
    if spread is None:
        return path
    return spread["rest"] if spread["scheme"] in _LIBRARIES else None
