"""`slices.json`: what a slices directory holds. Reading it imports nothing but the standard library and NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from lamella.errors import SlicesError
from lamella.tensors import Dimension, TensorSpec

FILE_NAME = "slices.json"
SCHEMA = "lamella.slices/1"


@dataclass(frozen=True)
class WeightRange:
    """Bytes of a file that a slice's weights take, merged where they touch."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class SliceEntry:
    """One slice file.

    Attributes:
        index: Its position; slices run in this order.
        file: Its name in the directory.
        size: Its size in bytes.
        sha256: Its digest.
        inputs: Names of the values that it takes.
        outputs: Names of the values that it gives.
        optional_inputs: Weights that the caller may override.
        nodes: Number of its nodes.
        weights_bytes: Bytes of the weights that it needs.
        memory_mb: Memory for a process that runs it.
        weights: Where these bytes lie.
    """

    index: int
    file: str
    size: int
    sha256: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    optional_inputs: tuple[str, ...]
    nodes: int
    weights_bytes: int
    memory_mb: int
    weights: tuple[WeightRange, ...]


@dataclass(frozen=True)
class FileEntry:
    """A file with weights. `sha256` is None until the slices have been verified, which reads them anyway."""

    file: str
    size: int
    method: str
    sha256: str | None


@dataclass(frozen=True)
class Manifest:
    """A slices directory.

    Attributes:
        model: File name of the model that was cut.
        structure_sha256: Digest of everything in it but its large weights.
        optimized: Whether the graph was optimised before it was cut; then engines load the slices as they are.
        inputs: The model's inputs.
        optional_inputs: Inputs that have a default in the model.
        outputs: The model's outputs.
        index_bounds: For inputs that pick rows of a table, its length.
        slices: The slices, in the order they run.
        crossing_bytes: Bytes alive across each cut.
        files: The files with weights.
        custom_ops_needed: Domains whose operators need a library that the user names.
        versions: Versions of what wrote the directory.
        verified: Whether the slices were compared with the whole model, and were equal within tolerance.
    """

    model: str
    structure_sha256: str
    optimized: bool
    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    index_bounds: Mapping[str, int]
    slices: tuple[SliceEntry, ...]
    crossing_bytes: tuple[int, ...]
    files: tuple[FileEntry, ...]
    custom_ops_needed: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    verified: bool = False

    def write(self, directory: Path) -> None:
        """Write `slices.json`, whole or not at all; the same slices always give the same bytes."""
        partial = directory / f".{FILE_NAME}.partial"
        partial.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")
        partial.replace(directory / FILE_NAME)


def read_manifest(directory: Path) -> Manifest:
    """Read `slices.json` and check that the files it names are there, with the sizes it says.

    Raises:
        SlicesError: There is none, it is damaged or of another version, or a file is missing or has another size.
    """
    path = directory / FILE_NAME
    try:
        content = json.loads(path.read_text())
        if content.pop("schema") != SCHEMA:
            raise SlicesError(f"`{path}` is of another version", hint="slice the model again with this one")
        manifest = _manifest(content)
    except OSError as error:
        raise SlicesError(
            f"`{directory}` is no slices directory: `{FILE_NAME}` cannot be read",
            hint="make one with `lamella slice MODEL -o DIR`",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SlicesError(f"`{path}` is damaged: {error}", hint="slice the model again") from error
    for entry in (*manifest.slices, *manifest.files):
        _check_file(directory, entry.file, entry.size)
    return manifest


def _manifest(content: dict[str, object]) -> Manifest:
    for key in ("inputs", "optional_inputs", "outputs"):
        content[key] = tuple(_spec(entry) for entry in _entries(content[key]))
    content["slices"] = tuple(_slice(entry) for entry in _entries(content["slices"]))
    content["files"] = tuple(FileEntry(**entry) for entry in _entries(content["files"]))
    for key in ("crossing_bytes", "custom_ops_needed"):
        content[key] = tuple(_sequence(content[key]))
    return Manifest(**content)  # type: ignore[arg-type]


def _spec(entry: dict[str, object]) -> TensorSpec:
    shape = entry["shape"]
    dims: tuple[Dimension, ...] | None = None if shape is None else tuple(_sequence(shape))  # type: ignore[arg-type]
    return TensorSpec(str(entry["name"]), str(entry["datatype"]), dims)


def _slice(entry: dict[str, object]) -> SliceEntry:
    for key in ("inputs", "outputs", "optional_inputs"):
        entry[key] = tuple(str(name) for name in _sequence(entry[key]))
    entry["weights"] = tuple(WeightRange(**weight) for weight in _entries(entry["weights"]))
    return SliceEntry(**entry)  # type: ignore[arg-type]


def _sequence(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    return value


def _entries(value: object) -> list[dict[str, object]]:
    entries = _sequence(value)
    if not all(isinstance(entry, dict) for entry in entries):
        raise TypeError("expected objects")
    return entries  # type: ignore[return-value]


def _check_file(directory: Path, name: str, size: int) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or PureWindowsPath(name).drive or not name:
        raise SlicesError(f"`{FILE_NAME}` names `{name}`, outside its directory", hint="do not trust these slices")
    try:
        found = (directory / name).stat().st_size
    except OSError as error:
        raise SlicesError(
            f"`{directory / name}` is missing", hint="a slices directory is copied whole, or made again"
        ) from error
    if found != size:
        raise SlicesError(
            f"`{directory / name}` has {found} bytes instead of {size}", hint="it has changed; slice the model again"
        )
