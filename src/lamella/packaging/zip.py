"""Zip files of packages: the same package always gives the same bytes."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Protocol
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from lamella.errors import PackageError
from lamella.packaging.delivery import MODEL_FOLDER
from lamella.slicing.placement import write_atomically
from lamella.slicing.verification import sha256_of

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that the format can say
_MODE = stat.S_IFREG | 0o644  # readable for whoever the platform runs functions as
_UNIX = 3
_BLOCK_BYTES = 1 << 20


class Packed(Protocol):
    """A package: of a slice, or of a door."""

    @property
    def folder(self) -> Path:
        """Where it lies unpacked."""
        ...


def write_zip(package: Packed, path: str | Path) -> str:
    """Write a package's files into a zip file, whole or not at all.

    Sorted, all with one date and one mode. Files are deflated, but for weights, which hardly get smaller and would take
    the most time.

    Returns:
        The zip file's SHA-256.

    Raises:
        PackageError: It cannot be written.
    """
    path = Path(path)
    try:
        write_atomically(path, lambda partial: _write(package.folder, partial))
        return sha256_of(path)
    except OSError as error:
        raise PackageError(
            f"`{path}` cannot be written: {error.strerror or error}", hint="give a folder that exists and has room"
        ) from error


def _write(folder: Path, target: Path) -> None:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    with ZipFile(target, "w") as archive:
        for name in paths:
            entry = ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _MODE << 16
            entry.compress_type = ZIP_STORED if name.startswith(f"{MODEL_FOLDER}/") else ZIP_DEFLATED
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(entry, "w") as written:
                shutil.copyfileobj(source, written, _BLOCK_BYTES)
