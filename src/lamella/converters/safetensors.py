"""Where a safetensors file keeps its tensors, without reading them.

The format is 8 bytes of header length, a JSON header, and the tensors back to back:
https://huggingface.co/docs/safetensors/index#format. A file is untrusted, so that everything the header says is checked
against the file before it is used.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import MalformedModelError
from lamella.json_files import parse_object
from lamella.tensors import Datatype, datatype

# The format allows 100 MB; the JSON of a hostile header that long takes gigabytes. 8 MiB name some 80,000 tensors.
HEADER_LIMIT_BYTES = 8 << 20
_LENGTH_BYTES = 8
_RANK_LIMIT = 16
_NAME_LIMIT = 500

_DATATYPES = {
    "BOOL": "BOOL",
    "U8": "UINT8",
    "I8": "INT8",
    "F8_E4M3": "FLOAT8E4M3FN",
    "F8_E5M2": "FLOAT8E5M2",
    "F8_E8M0": "FLOAT8E8M0",
    "U16": "UINT16",
    "I16": "INT16",
    "F16": "FP16",
    "BF16": "BF16",
    "U32": "UINT32",
    "I32": "INT32",
    "F32": "FP32",
    "U64": "UINT64",
    "I64": "INT64",
    "F64": "FP64",
    "C64": "COMPLEX64",
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as a range of a file.

    Attributes:
        name: Its name in the file.
        datatype: Its element type.
        shape: Its sizes.
        file: The file, as it was opened.
        offset: First byte, from the start of the file.
        length: Number of bytes; `datatype` and `shape` give the same.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    file: Path
    offset: int
    length: int


def read_tensors(file: Path) -> dict[str, StoredTensor]:
    """List the tensors of a safetensors file. Reads its header only, at most 8 MiB.

    Raises:
        MalformedModelError: The file is truncated, its header is not valid, or the ranges overlap, leave gaps, leave
            the file, or do not have the size of their tensors.
    """
    header, data_start, file_bytes = _read_header(file)
    tensors = {
        name: _tensor(file, name, entry, data_start, file_bytes)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    _check_cover(file, tensors, data_start, file_bytes)
    return tensors


def _read_header(file: Path) -> tuple[dict[str, object], int, int]:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MalformedModelError(f"`{file}` is no regular file", hint="give the safetensors file itself")
        with file.open("rb") as reader:
            prefix = reader.read(_LENGTH_BYTES)
            header_bytes = int.from_bytes(prefix, "little")
            if len(prefix) == _LENGTH_BYTES and header_bytes <= min(HEADER_LIMIT_BYTES, status.st_size - _LENGTH_BYTES):
                text = reader.read(header_bytes)
                header = parse_object(text, f"the header of `{file}`", hint=_AGAIN)
                return header, _LENGTH_BYTES + header_bytes, status.st_size
    except OSError as error:
        raise MalformedModelError(f"cannot read `{file}`: {error.strerror}", hint=_AGAIN) from error
    if len(prefix) < _LENGTH_BYTES or header_bytes <= HEADER_LIMIT_BYTES:
        raise MalformedModelError(
            f"`{file}` is truncated: its header does not fit into its {status.st_size} bytes", hint=_AGAIN
        )
    raise MalformedModelError(
        f"`{file}` claims a header of {header_bytes} bytes (at most {HEADER_LIMIT_BYTES})",
        hint="check that it is a safetensors file, and no Git LFS pointer to one",
    )


_AGAIN = "download or save the model again"


def _tensor(file: Path, name: str, entry: object, data_start: int, file_bytes: int) -> StoredTensor:
    if not name.isprintable() or len(name) > _NAME_LIMIT:
        raise MalformedModelError(f"`{file}` has a tensor with the unfit name {name[:60]!r}", hint=_AGAIN)
    where = f"tensor `{name}` of `{file}`"
    if not isinstance(entry, dict):
        raise MalformedModelError(f"{where} is not described by a JSON object", hint=_AGAIN)
    known = _DATATYPES.get(str(entry.get("dtype")))
    if known is None:
        raise MalformedModelError(
            f"{where} has the unknown dtype {str(entry.get('dtype'))[:40]!r}",
            hint=f"known are: {', '.join(_DATATYPES)}",
        )
    shape = _integers(entry.get("shape"), f"the shape of {where}")
    span = _integers(entry.get("data_offsets"), f"`data_offsets` of {where}")
    if len(span) != 2 or not span[0] <= span[1] <= file_bytes - data_start:
        raise MalformedModelError(
            f"{where} lies outside of the file's {file_bytes - data_start} bytes of data: {list(span[:2])}", hint=_AGAIN
        )
    stored = StoredTensor(name, datatype(known), shape, file, data_start + span[0], span[1] - span[0])
    expected = stored.datatype.size_bytes(math.prod(shape))
    if stored.length != expected:
        raise MalformedModelError(
            f"{where} has {stored.length} bytes where {entry['dtype']}{list(shape)} takes {expected}", hint=_AGAIN
        )
    return stored


def _integers(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _RANK_LIMIT:
        raise MalformedModelError(f"{what} is not a list of at most {_RANK_LIMIT} integers", hint=_AGAIN)
    for item in value:
        if type(item) is not int or not 0 <= item < 1 << 63:  # `bool` is an `int` in Python, not in JSON
            raise MalformedModelError(f"{what} holds {str(item)[:40]}, which is no size", hint=_AGAIN)
    return tuple(value)


def _check_cover(file: Path, tensors: Mapping[str, StoredTensor], data_start: int, file_bytes: int) -> None:
    """The format wants every byte to belong to exactly one tensor, so that nothing hides in between."""
    end, previous = data_start, "the header"
    for stored in sorted(tensors.values(), key=lambda stored: (stored.offset, stored.length)):
        if stored.offset != end:
            relation = "overlaps" if stored.offset < end else "leaves a gap after"
            raise MalformedModelError(f"tensor `{stored.name}` of `{file}` {relation} {previous}", hint=_AGAIN)
        end, previous = stored.offset + stored.length, f"tensor `{stored.name}`"
    if end != file_bytes:
        raise MalformedModelError(f"`{file}` has {file_bytes - end} bytes after {previous}", hint=_AGAIN)
