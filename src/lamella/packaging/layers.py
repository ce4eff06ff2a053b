"""What packages share: the engine with NumPy, and Lamella's own function side, each kept in a folder of its own.

A package takes the files by hard links, so that a second one costs no disk and milliseconds. The digests of the files
are kept with them, so that a package's own digest is known without reading them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.cache import ensure, has_sizes, link_or_copy
from lamella.packaging.items import Item
from lamella.slicing.verification import sha256_of

SCHEMA = "lamella.layer/2"

FOLDER = "closures"
"""Where layers lie in the cache."""

_LISTING, _FILES = "files.json", "files"
_ATTEMPTS = 3  # where nothing can be locked, pruning may come in between


@dataclass(frozen=True)
class LayerFile:
    """A file in a layer: its path in the package, its size in bytes, its digest."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Layer:
    """Files that packages share.

    Attributes:
        folder: Where they lie.
        files: What they are, sorted by path.
    """

    folder: Path
    files: tuple[LayerFile, ...]

    @property
    def place(self) -> Path:
        """The layer's own folder in the cache, with the list of its files."""
        return self.folder.parent

    def items(self) -> Iterable[Item]:
        """The files as parts of a package."""
        for file in self.files:
            yield Item(file.path, file.size, file.sha256, partial(link_or_copy, self.folder / file.path))


def ensure_layer(cache: Path, key: Iterable[str], fill: Callable[[Path], None]) -> Layer:
    """The layer of these files; built once, some seconds for an engine, and then found again.

    Args:
        cache: The cache's root.
        key: Everything that the content depends on.
        fill: Writes the files into a new folder.

    Raises:
        PackageError: It cannot be written, or `fill` fails.
    """
    digest = hashlib.sha256("\n".join((SCHEMA, *key)).encode()).hexdigest()
    folder = cache / FOLDER / digest
    for _ in range(_ATTEMPTS):
        ensure(folder, lambda staging: _fill(staging, fill), lambda found: read_layer(found) is not None)
        if (layer := read_layer(folder)) is not None:
            return layer
    raise PackageError(f"`{folder}` is gone whenever it was written", hint="let nothing else clear the cache meanwhile")


def _fill(staging: Path, fill: Callable[[Path], None]) -> None:
    files = staging / _FILES
    files.mkdir()
    fill(files)
    paths = sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())
    entries = [{"path": p, "size": (files / p).stat().st_size, "sha256": sha256_of(files / p)} for p in paths]
    (staging / _LISTING).write_text(json.dumps({"schema": SCHEMA, "files": entries}, indent=1) + "\n")


def read_layer(folder: Path) -> Layer | None:
    """The layer in a folder; None where there is none, or a file is missing or has another size."""
    try:
        content = json.loads((folder / _LISTING).read_text())
        files = tuple(LayerFile(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in content["files"])
        if content["schema"] != SCHEMA or not has_sizes(folder / _FILES, ((file.path, file.size) for file in files)):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Layer(folder / _FILES, files)
