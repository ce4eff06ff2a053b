"""A layer's files as zip files hold them: deflated once, and spliced into the zip file of every package."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.cache import ensure
from lamella.packaging.layers import Layer, LayerFile, read_layer
from lamella.runtime.cpu import thread_count
from lamella.slicing.verification import sha256_of

SCHEMA = "lamella.deflated/1"

FOLDER = "deflated"
"""Where they lie in the cache."""

_LISTING, _DATA = "streams.json", "data"
_NO_HEADER = -zlib.MAX_WBITS  # as zip files hold streams


@dataclass(frozen=True, slots=True)
class Stream:
    """A deflated file: which bytes of the folder's data it is, the file's size in bytes, and its CRC-32."""

    offset: int
    length: int
    size: int
    crc: int


@dataclass(frozen=True)
class Deflated:
    """The files of a layer.

    Attributes:
        data: The file that holds the streams.
        sha256: Its digest.
        streams: One a file of the layer, by its path in the package.
    """

    data: Path
    sha256: str
    streams: Mapping[str, Stream]


def deflated(place: Path) -> Deflated | None:
    """The files of a layer; deflated once, some seconds for an engine, and then found again.

    Args:
        place: The layer's folder in the cache.

    Returns:
        None where it is no longer there.

    Raises:
        PackageError: The cache cannot be written, or a file of the layer is damaged.
    """
    layer = read_layer(place)
    if layer is None:
        return None
    # Another zlib may give other bytes, and zip files depend on none that was here before.
    key = hashlib.sha256(f"{SCHEMA}\n{place.name}\n{zlib.ZLIB_RUNTIME_VERSION}".encode()).hexdigest()
    folder = place.parents[1] / FOLDER / key
    ensure(folder, partial(_fill, layer), lambda found: read_deflated(found) is not None)
    return read_deflated(folder)


def read_deflated(folder: Path) -> Deflated | None:
    """What lies in a folder; None where there is nothing, or its data have another size."""
    try:
        content = json.loads((folder / _LISTING).read_text())
        streams = {str(path): Stream(**stream) for path, stream in content["streams"].items()}
        end = max((stream.offset + stream.length for stream in streams.values()), default=0)
        if content["schema"] != SCHEMA or (folder / _DATA).stat().st_size != end:
            return None
        return Deflated(folder / _DATA, str(content["sha256"]), streams)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _fill(layer: Layer, folder: Path) -> None:
    streams: dict[str, Stream] = {}
    data, offset = folder / _DATA, 0
    with data.open("xb") as target, ThreadPoolExecutor(thread_count()) as pool:
        found = pool.map(partial(_deflate, layer.folder), layer.files)
        for file, (stream, crc) in zip(layer.files, found, strict=True):
            target.write(stream)
            streams[file.path] = Stream(offset, len(stream), file.size, crc)
            offset += len(stream)
    listed = {path: asdict(stream) for path, stream in streams.items()}
    (folder / _LISTING).write_text(json.dumps({"schema": SCHEMA, "sha256": sha256_of(data), "streams": listed}) + "\n")


def _deflate(folder: Path, file: LayerFile) -> tuple[bytes, int]:
    content = (folder / file.path).read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise PackageError(
            f"`{folder / file.path}` is damaged", hint="`lamella cache verify` removes what is; then build it again"
        )
    deflating = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, _NO_HEADER)
    return deflating.compress(content) + deflating.flush(), zlib.crc32(content)
