"""Zip files of packages: the same package always gives the same bytes."""

from __future__ import annotations

import shutil
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from lamella.errors import PackageError
from lamella.packaging.cache import in_use
from lamella.packaging.deflated import Stream, deflated
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

    @property
    def closures(self) -> tuple[Path, ...]:
        """Where in the cache that lies which it shares with others."""
        ...


def write_zip(package: Packed, path: str | Path) -> str:
    """Write a package's files into a zip file, whole or not at all.

    Sorted, all with one date and one mode. Files are deflated, those that packages share once for all of them; but for
    weights, which hardly get smaller and would take the most time.

    Returns:
        The zip file's SHA-256.

    Raises:
        PackageError: It cannot be written.
    """
    path = Path(path)
    try:
        with ExitStack() as held:
            for root in {place.parents[1] for place in package.closures}:
                held.enter_context(in_use(root))
            write_atomically(path, lambda partial: _write(package, partial))
        return sha256_of(path)
    except OSError as error:
        raise PackageError(
            f"`{path}` cannot be written: {error.strerror or error}", hint="give a folder that exists and has room"
        ) from error


def _write(package: Packed, target: Path) -> None:
    folder = package.folder
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    with ExitStack() as opened:
        archive = opened.enter_context(ZipFile(target, "w"))
        shared: dict[str, tuple[BinaryIO, Stream]] = {}
        for found in filter(None, map(deflated, package.closures)):
            data = opened.enter_context(found.data.open("rb"))
            shared |= {path: (data, stream) for path, stream in found.streams.items()}
        for name in paths:
            if name in shared:
                _splice(archive, _entry(name), *shared[name])
            else:
                _add(archive, _entry(name), folder / name)


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = _MODE << 16
    entry.compress_type = ZIP_STORED if name.startswith(f"{MODEL_FOLDER}/") else ZIP_DEFLATED
    return entry


def _add(archive: ZipFile, entry: ZipInfo, path: Path) -> None:
    entry.file_size = path.stat().st_size  # which decides on 64 bits
    with path.open("rb") as source, archive.open(entry, "w") as written:
        shutil.copyfileobj(source, written, _BLOCK_BYTES)


def _splice(archive: ZipFile, entry: ZipInfo, data: BinaryIO, stream: Stream) -> None:
    """Add a file that is deflated already, which `ZipFile` has no method for."""
    entry.file_size, entry.compress_size, entry.CRC = stream.size, stream.length, stream.crc
    target = archive.fp
    assert target is not None, "it is open"
    target.seek(archive.start_dir)
    entry.header_offset = target.tell()
    target.write(entry.FileHeader())
    data.seek(stream.offset)
    target.write(data.read(stream.length))
    archive.start_dir = target.tell()
    archive.filelist.append(entry)
    archive.NameToInfo[entry.filename] = entry
