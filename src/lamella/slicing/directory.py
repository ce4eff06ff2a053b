"""The output directory: what may be written into it, and all of it or nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lamella.errors import UsageError
from lamella.graph.model import Model
from lamella.workflow.manifest import FILE_NAME, Manifest

DECODED_NAME = "typed_weights.data"
"""File of the weights stored in typed fields, or in pieces, and of those that ONNX Runtime takes from no hard link."""

_OWN = re.compile(rf"slice_\d{{3,}}\.(onnx|data)|{re.escape(DECODED_NAME)}|.+\.optimized\.(onnx|data)")
_STAGING = ".slicing-"


class OutputDirectory:
    """A folder that slices are written into.

    New files are made in a folder inside it and moved when all are there. What an earlier slicing wrote is replaced;
    nothing else is ever overwritten or removed.

    Raises:
        UsageError: It cannot be made, or it holds something else than slices and is not the model's own folder.
    """

    def __init__(self, path: Path, model: Model) -> None:
        self.path = path
        self._model = model
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._found = {found.name for found in path.iterdir() if not found.name.startswith(_STAGING)}
        except OSError as error:
            raise UsageError(
                f"`{path}` cannot be made: {error.strerror}", hint="give a folder that can be written"
            ) from error
        self._owned, self._links = _earlier(path)
        foreign = sorted(self._found - self._owned - {name for name in self._found if self._is_models(name)})
        if foreign and FILE_NAME not in self._found and not self._is_beside():
            raise UsageError(
                f"`{path}` holds `{foreign[0]}` and no slices", hint="give a new folder, or the model's own"
            )

    def claim(self, names: Iterable[str]) -> None:
        """Make sure that these names are free, or taken by what an earlier slicing wrote.

        Raises:
            UsageError: One is a file of the model or of somebody else.
        """
        for name in sorted(names):
            if name in self._model.files:
                raise UsageError(
                    f"the model's own file is called `{name}`, as one that slicing writes", hint="rename it"
                )
            if name in self._found and name not in self._owned:
                raise UsageError(
                    f"`{self.path / name}` exists, and no earlier slicing wrote it",
                    hint="move it, or give another folder",
                )

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for new files, on the same file system; it is removed at the end, whatever happens."""
        with TemporaryDirectory(prefix=_STAGING, dir=self.path) as folder:
            yield Path(folder)

    def publish(self, staging: Path, manifest: Manifest) -> None:
        """Move the new files to their place, write the manifest, and remove what an earlier slicing leaves behind."""
        for path in staging.iterdir():
            os.replace(path, self.path / path.name)
        manifest.write(self.path)
        kept = {FILE_NAME, manifest.model}
        kept |= {entry.file for entry in manifest.slices} | {entry.file for entry in manifest.files}
        for name in self._owned - kept:
            (self.path / name).unlink(missing_ok=True)
        for name in self._links - kept:
            self._unlink_second_name(self.path / name)

    def _unlink_second_name(self, path: Path) -> None:
        """Remove a hard link to the weights of an earlier model, unless it has become the only name of its bytes."""
        if path.is_file() and path.stat().st_nlink > 1 and not self._is_models(path.name):
            path.unlink()

    def _is_beside(self) -> bool:
        return self.path.resolve() == self._model.path.parent.resolve()

    def _is_models(self, name: str) -> bool:
        path = self.path / name
        return path.is_file() and any(path.samefile(file.path) for file in self._model.files.values())


def _earlier(directory: Path) -> tuple[set[str], set[str]]:
    """Names in `slices.json` that only slicing writes, and those that it hard-linked.

    The file may be damaged, or made by a stranger, so that it proves nothing about other names.
    """
    try:
        content = json.loads((directory / FILE_NAME).read_text())
        listed = [(str(entry["file"]), entry.get("method")) for key in ("slices", "files") for entry in content[key]]
        listed.append((str(content["model"]), None))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ({FILE_NAME} if (directory / FILE_NAME).exists() else set()), set()
    plain = [(name, method) for name, method in listed if Path(name).name == name]
    owned = {name for name, _ in plain if _OWN.fullmatch(name)}
    return owned | {FILE_NAME}, {name for name, method in plain if method == "hard-link"} - owned
