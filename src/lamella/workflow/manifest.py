"""`slices.json`: what a slices directory holds. Reading it imports nothing but the standard library and NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lamella.errors import SlicesError
from lamella.tensors import Dimension, TensorSpec
from lamella.workflow.consistency import check_manifest

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
        optimized: Whether the graph was optimised before it was cut; then `low_memory` loads the slices as they are.
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
        platform: The platform that each slice's memory was planned for; None: it is what its process needs.
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
    platform: str | None = None

    def write(self, directory: Path) -> None:
        """Write `slices.json`, whole or not at all; the same slices always give the same bytes."""
        partial = directory / f".{FILE_NAME}.partial"
        partial.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")
        partial.replace(directory / FILE_NAME)


def read_manifest(directory: Path) -> Manifest:
    """Read `slices.json`, and check that it contradicts neither itself nor the files that it names.

    Raises:
        SlicesError: There is none, it is damaged or of another version, a file is missing or has another size, or the
            slices do not fit together.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        raise SlicesError(
            f"`{directory}` is no slices directory: it has no `{FILE_NAME}`",
            hint="make one with `lamella slice MODEL -o DIR`",
        )
    try:
        content = _object(json.loads(path.read_text()))
        if content["schema"] != SCHEMA:
            raise SlicesError(f"`{path}` is of another version", hint="slice the model again with this one")
        manifest = _manifest(content)
    except RecursionError as error:
        raise SlicesError(f"`{path}` is damaged: it nests too deeply", hint="slice the model again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise SlicesError(f"`{path}` is damaged: {reason}", hint="slice the model again") from error
    check_manifest(manifest, directory)
    return manifest


def _manifest(content: dict[str, object]) -> Manifest:
    return Manifest(
        model=_text(content["model"]),
        structure_sha256=_text(content["structure_sha256"]),
        optimized=content["optimized"] is True,
        inputs=tuple(_spec(entry) for entry in _objects(content["inputs"])),
        optional_inputs=tuple(_spec(entry) for entry in _objects(content["optional_inputs"])),
        outputs=tuple(_spec(entry) for entry in _objects(content["outputs"])),
        index_bounds={name: _size(bound) for name, bound in _object(content["index_bounds"]).items()},
        slices=tuple(_slice(entry) for entry in _objects(content["slices"])),
        crossing_bytes=tuple(_size(size) for size in _list(content["crossing_bytes"])),
        files=tuple(_file(entry) for entry in _objects(content["files"])),
        custom_ops_needed=_texts(content["custom_ops_needed"]),
        versions={name: _text(version) for name, version in _object(content["versions"]).items()},
        verified=content["verified"] is True,
        platform=None if content.get("platform") is None else _text(content["platform"]),
    )


def _spec(entry: dict[str, object]) -> TensorSpec:
    shape = entry["shape"]
    dims = None if shape is None else tuple(_dimension(dim) for dim in _list(shape))
    return TensorSpec(_text(entry["name"]), _text(entry["datatype"]), dims)


def _dimension(value: object) -> Dimension:
    return value if value is None or isinstance(value, str) else _size(value)


def _slice(entry: dict[str, object]) -> SliceEntry:
    return SliceEntry(
        index=_size(entry["index"]),
        file=_text(entry["file"]),
        size=_size(entry["size"]),
        sha256=_text(entry["sha256"]),
        inputs=_texts(entry["inputs"]),
        outputs=_texts(entry["outputs"]),
        optional_inputs=_texts(entry["optional_inputs"]),
        nodes=_size(entry["nodes"]),
        weights_bytes=_size(entry["weights_bytes"]),
        memory_mb=_size(entry["memory_mb"]),
        weights=tuple(
            WeightRange(_text(weight["file"]), _size(weight["offset"]), _size(weight["length"]))
            for weight in _objects(entry["weights"])
        ),
    )


def _file(entry: dict[str, object]) -> FileEntry:
    digest = entry["sha256"]
    return FileEntry(
        _text(entry["file"]), _size(entry["size"]), _text(entry["method"]), None if digest is None else _text(digest)
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"expected a size, found {value!r}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    return value


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _objects(value: object) -> list[dict[str, object]]:
    return [_object(item) for item in _list(value)]
