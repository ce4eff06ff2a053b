"""Tensors as bytes: the one format of every hop.

A frame is the binary form of the Open Inference Protocol v2: a JSON header with one entry a tensor (`name`, `shape`,
`datatype`, `parameters.binary_data_size`), then the raw little-endian bytes of each, in that order. Over HTTP the
header's length travels in `Inference-Header-Content-Length`; elsewhere it precedes the header as four bytes.

https://github.com/kserve/open-inference-protocol and Triton's binary tensor data extension.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from lamella.errors import InputError, UnsupportedModelError
from lamella.tensors import Array, Datatype, Tensors, array_from, datatype, datatype_of

Buffer = bytes | memoryview
Kind = Literal["inputs", "outputs"]

MAX_HEADER_BYTES = 16 << 20
"""A header is at most this long; a thousand tensors take a tenth of a megabyte."""

LENGTH_BYTES = 4
"""In front of a frame: how long its header is."""

_MOST_DIMENSIONS = 64  # NumPy's limit
_ALIGNMENT_BYTES = 64  # of the first tensor in a frame, by padding the header with spaces


@dataclass(frozen=True)
class Frame:
    """A header and the bytes that follow it.

    Attributes:
        header: The JSON header, serialised.
        buffers: The tensors' bytes, in order; views of the arrays wherever these are contiguous.
    """

    header: bytes
    buffers: tuple[Buffer, ...]

    def to_bytes(self) -> bytes:
        """The whole frame, with the header's length in front. Copies every tensor once."""
        return b"".join((len(self.header).to_bytes(LENGTH_BYTES, "little"), self.header, *self.buffers))


def encode(tensors: Tensors, *, kind: Kind = "inputs") -> Frame:
    """Encode tensors. Copies nothing but arrays that are not contiguous, and text.

    Raises:
        InputError: An array of Python objects holds something other than text.
        UnsupportedModelError: The protocol has no datatype for an array.
    """
    entries, buffers = [], []
    for name, given in tensors.items():
        array = np.asarray(given)
        buffer = buffer_of(array, name)
        buffers.append(buffer)
        entries.append(entry_of(array, name, len(buffer)))
    header = json.dumps({kind: entries}, separators=(",", ":")).encode()
    padding = -(len(header) + LENGTH_BYTES) % _ALIGNMENT_BYTES
    return Frame(header + b" " * padding, tuple(buffers))


def decode(frame: Buffer) -> dict[str, Array]:
    """Decode a frame with its length in front, as `Frame.to_bytes` makes it. Arrays are views of `frame`.

    Raises:
        InputError: It is no frame, or header and bytes contradict each other; the message names the tensor.
    """
    view = memoryview(frame)
    length = int.from_bytes(view[:LENGTH_BYTES], "little")
    if len(view) < LENGTH_BYTES or len(view) - LENGTH_BYTES < length:
        raise InputError(
            f"a frame of {len(view)} bytes cannot hold its header of {length}", hint="it was cut off on the way"
        )
    start = LENGTH_BYTES + length
    return decode_parts(view[LENGTH_BYTES:start], view[start:])


def names_of(header: Buffer) -> tuple[str, ...]:
    """Names of the tensors that a header describes.

    Raises:
        InputError: It is no protocol JSON.
    """
    return tuple(_described(entry)[0] for entry in _entries(header))


def decode_parts(header: Buffer, body: Buffer) -> dict[str, Array]:
    """Decode a header and the bytes behind it. Arrays are views of `body`, except text and tensors in the JSON itself.

    Raises:
        InputError: The header is no protocol JSON, or header and bytes contradict each other.
    """
    return decode_entries(_entries(header), body)


def decode_entries(entries: Sequence[Mapping[str, object]], body: Buffer) -> dict[str, Array]:
    """Decode what a header describes, as `header_of` gives it; see `decode_parts`.

    Raises:
        InputError: It is not described as the protocol wants it, or header and bytes contradict each other.
    """
    view, position = memoryview(body), 0
    tensors: dict[str, Array] = {}
    for entry in entries:
        name, kind, shape = _described(entry)
        if name in tensors:
            raise InputError(f"tensor `{name}` comes twice", hint="give each tensor once")
        size = _binary_size(entry, name)
        if size is None:
            tensors[name] = _from_json(entry, name, kind, shape)
            continue
        if position + size > len(view):
            raise InputError(
                f"tensor `{name}` claims {size} bytes, but {len(view) - position} are left", hint="the body is cut off"
            )
        tensors[name] = decode_array(view[position : position + size], name, kind, shape)
        position += size
    if position != len(view):
        raise InputError(f"{len(view) - position} bytes follow the last tensor", hint="header and body do not match")
    return tensors


def checked(name: str, kind: str, shape: Sequence[int]) -> Datatype:
    """The datatype of a tensor that somebody describes, once it is known that there can be such a tensor.

    Raises:
        InputError: There is no such datatype, it does not travel, or no array has such a shape.
    """
    # NumPy multiplies the sizes that are not 0, whatever the others are; 16 bytes are the largest element.
    if len(shape) > _MOST_DIMENSIONS or prod(dim for dim in shape if dim) * 16 >= 1 << 63:
        raise InputError(f"the `shape` of tensor `{name}` is larger than any array", hint="check `shape`")
    try:
        found = datatype(kind)
    except UnsupportedModelError as error:
        raise InputError(f"tensor `{name}` has an {error.message}", hint=error.hint) from error
    if 0 < found.bits < 8:
        raise InputError(
            f"tensor `{name}` is {found.name}, which does not travel between functions", hint="cut the model elsewhere"
        )
    return found


def entry_of(array: Array, name: str, size: int) -> dict[str, object]:
    """How a header describes a tensor of so many bytes behind it."""
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype_of(array).name,
        "parameters": {"binary_data_size": size},
    }


def buffer_of(array: Array, name: str) -> Buffer:
    """The bytes of a tensor: a view of the array where it is contiguous, and no text.

    Raises:
        InputError: An array of Python objects holds something other than text.
        UnsupportedModelError: The protocol has no datatype for it.
    """
    kind = datatype_of(array)
    if kind.name == "BYTES":
        return _encode_texts(array.ravel().tolist(), name)
    if kind.bits < 8:
        raise UnsupportedModelError(
            f"tensors of {kind.name} do not travel between functions", hint="cut the model elsewhere"
        )
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def decode_array(view: memoryview, name: str, kind: Datatype, shape: tuple[int, ...]) -> Array:
    """One tensor out of its bytes: a view of them, except for text.

    Raises:
        InputError: The bytes are not those of such a tensor.
    """
    if kind.name == "BYTES":
        return _decode_texts(view, name, shape)
    expected = kind.size_bytes(prod(shape))
    if len(view) != expected:
        raise InputError(
            f"tensor `{name}` has {len(view)} bytes, but {kind.name} of shape {list(shape)} takes {expected}",
            hint="check `shape`, `datatype` and `binary_data_size`",
        )
    return np.ndarray(shape, kind.dtype, view)


def _encode_texts(texts: Iterable[object], name: str) -> bytes:
    """Each text behind its length in four bytes, as Triton does."""
    encoded = [text if isinstance(text, bytes) else _utf8(text, name) for text in texts]
    return b"".join(part for text in encoded for part in (len(text).to_bytes(4, "little"), text))


def _utf8(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise InputError(f"tensor `{name}` holds {text!r:.40}, which is no text", hint="give strings or bytes")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"tensor `{name}` holds text that is not Unicode: {error}", hint="give it as bytes") from error


def _decode_texts(view: memoryview, name: str, shape: tuple[int, ...]) -> Array:
    texts: list[bytes] = []
    position = 0
    while position < len(view):
        length = int.from_bytes(view[position : position + 4], "little")
        end = position + 4 + length
        if end > len(view):
            raise InputError(f"element {len(texts)} of tensor `{name}` runs past its bytes", hint="it was cut off")
        texts.append(bytes(view[position + 4 : end]))
        position = end
    return array_of_texts(texts, name, shape)


def array_of_texts(texts: Sequence[bytes], name: str, shape: tuple[int, ...]) -> Array:
    """A tensor of texts, in row-major order; those that are not UTF-8 stay bytes.

    Raises:
        InputError: There are more of them than the shape takes, or fewer.
    """
    if len(texts) != prod(shape):
        raise InputError(
            f"tensor `{name}` has {len(texts)} elements, but its shape {list(shape)} takes {prod(shape)}",
            hint="check `shape`",
        )
    array = np.empty(len(texts), object)
    array[:] = [_text(raw) for raw in texts]
    return array.reshape(shape)


def _text(raw: bytes) -> str | bytes:
    """Text where it is UTF-8, else the bytes as they are."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _entries(header: Buffer) -> Sequence[Mapping[str, object]]:
    return entries_of(header_of(header))


def header_of(header: Buffer) -> Mapping[str, object]:
    """The JSON object of a header.

    Raises:
        InputError: It is none, or too long.
    """
    if len(header) > MAX_HEADER_BYTES:
        raise InputError(
            f"a header of {len(header)} bytes is above the limit of {MAX_HEADER_BYTES}",
            hint="send tensors as binary data",
        )
    try:
        content = json.loads(bytes(header))
    except (ValueError, RecursionError) as error:
        raise InputError(f"the header is no JSON: {error}", hint="is this an Open Inference Protocol body?") from error
    if not isinstance(content, dict):
        raise InputError("the header is no JSON object", hint="is this an Open Inference Protocol body?")
    return content


def entries_of(content: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    """The tensors that a header describes.

    Raises:
        InputError: It describes none.
    """
    entries = content.get("inputs", content.get("outputs"))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("the header has no list of `inputs` or `outputs`", hint="see the Open Inference Protocol")
    return entries


def _described(entry: Mapping[str, object]) -> tuple[str, Datatype, tuple[int, ...]]:
    name, shape = entry.get("name"), entry.get("shape")
    if not isinstance(name, str):
        raise InputError("a tensor in the header has no `name`", hint="give each tensor one")
    if not isinstance(shape, list) or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise InputError(f"tensor `{name}` has no valid `shape`", hint="give a list of sizes, such as [1, 128]")
    return name, checked(name, str(entry.get("datatype")), shape), tuple(shape)


def _binary_size(entry: Mapping[str, object], name: str) -> int | None:
    parameters = entry.get("parameters")
    if not isinstance(parameters, dict | None):
        raise InputError(f"the `parameters` of tensor `{name}` are no object", hint="see the Open Inference Protocol")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None and (type(size) is not int or size < 0):
        raise InputError(f"tensor `{name}` has no valid `binary_data_size`", hint="give a number of bytes")
    return size


def _from_json(entry: Mapping[str, object], name: str, kind: Datatype, shape: tuple[int, ...]) -> Array:
    """A tensor whose elements stand in the JSON, nested or flat."""
    try:
        array = array_from(entry["data"], kind).reshape(shape)
        if kind.name == "BYTES":
            "".join(array.ravel().tolist()).encode()  # JSON can hold half a character, which is no text
        return array
    except KeyError as error:
        raise InputError(
            f"tensor `{name}` has neither `data` nor `binary_data_size`", hint="give one of the two"
        ) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"the `data` of tensor `{name}` is no {kind.name} of shape {list(shape)}: {error}", hint="check both"
        ) from error
