"""Whether a tensor's payload can be what its shape and datatype claim, found without reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import MalformedModelError, UnsupportedModelError
from lamella.graph.protobuf import FIXED32, FIXED64, LEN, MAX_VARINT_BYTES, VARINT
from lamella.graph.schema import Tensor

if TYPE_CHECKING:
    from lamella.graph.source import Source
    from lamella.graph.stored import StoredTensor

MAX_RANK = 64
_MAX_ELEMENTS = 1 << 62
_MAX_COUNTED_BYTES = 1024
_AGAIN, _DAMAGED = "export the model again", "the file is damaged; export it again"

_NAMES = {
    Tensor.RAW_DATA: "raw_data",
    Tensor.FLOAT_DATA: "float_data",
    Tensor.DOUBLE_DATA: "double_data",
    Tensor.INT32_DATA: "int32_data",
    Tensor.INT64_DATA: "int64_data",
    Tensor.UINT64_DATA: "uint64_data",
    Tensor.STRING_DATA: "string_data",
}
PAYLOADS = frozenset(_NAMES)
"""Fields that hold elements."""

_WIRES = {Tensor.RAW_DATA: (LEN,), Tensor.FLOAT_DATA: (LEN, FIXED32), Tensor.DOUBLE_DATA: (LEN, FIXED64)}
_WIDTHS = {Tensor.FLOAT_DATA: 4, Tensor.DOUBLE_DATA: 8}

# The field for each datatype: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; `int32_data` for all others.
_TYPED = {
    1: Tensor.FLOAT_DATA,
    14: Tensor.FLOAT_DATA,
    11: Tensor.DOUBLE_DATA,
    15: Tensor.DOUBLE_DATA,
    7: Tensor.INT64_DATA,
    12: Tensor.UINT64_DATA,
    13: Tensor.UINT64_DATA,
    8: Tensor.STRING_DATA,
}


def check(tensor: StoredTensor, source: Source) -> None:
    """Check what a tensor says of itself. Reads payloads of up to 1 KiB at most.

    Raises:
        MalformedModelError: The shape is impossible, or shape, datatype and payload contradict each other.
        UnsupportedModelError: The tensor is stored in segments, or has an unknown datatype.
    """
    if tensor.segmented:
        raise UnsupportedModelError(
            f"tensor {tensor.label} is stored in segments", hint="no runtime reads these; export the model again"
        )
    if len(tensor.dims) > MAX_RANK:
        raise too_many_dims(tensor)
    if any(dim < 0 for dim in tensor.dims) or tensor.elements > _MAX_ELEMENTS:
        raise MalformedModelError(f"tensor {tensor.label} has the impossible shape {tensor.dims}", hint=_DAMAGED)
    if tensor.external is None:
        _check_inside(tensor, source)
    elif tensor.payloads or tensor.strings:
        raise MalformedModelError(f"tensor {tensor.label} is stored both inside the file and outside it", hint=_AGAIN)
    elif tensor.datatype.bits == 0:
        raise MalformedModelError(
            f"tensor {tensor.label} holds strings in external data, which ONNX does not allow", hint=_AGAIN
        )


def _check_inside(tensor: StoredTensor, source: Source) -> None:
    raw = [payload for payload in tensor.payloads if payload[0] == Tensor.RAW_DATA]
    if len(raw) > 1 or (raw and (len(tensor.payloads) > 1 or tensor.strings)):
        raise MalformedModelError(f"tensor {tensor.label} has two payloads", hint=_AGAIN)
    wrong = [p for p in tensor.payloads if p[1] not in _WIRES.get(p[0], (LEN, VARINT))]
    if wrong:
        raise MalformedModelError(f"tensor {tensor.label} has a broken {_NAMES[wrong[0][0]]}", hint=_DAMAGED)
    if raw and tensor.datatype.bits == 0:
        raise MalformedModelError(f"tensor {tensor.label} holds strings as raw bytes", hint=_AGAIN)
    if not tensor.payloads and not tensor.strings and tensor.elements:
        raise MalformedModelError(f"tensor {tensor.label} of shape {tensor.dims} has no data", hint=_DAMAGED)
    if raw:
        size = raw[0][3] - raw[0][2]
        if size != tensor.nbytes:
            raise wrong_size(tensor, size)
    else:
        _check_typed(tensor, source)


def _check_typed(tensor: StoredTensor, source: Source) -> None:
    expected = _TYPED.get(tensor.datatype.onnx, Tensor.INT32_DATA)
    found = {number for number, *_ in tensor.payloads} | ({Tensor.STRING_DATA} if tensor.strings else set())
    if found - {expected}:
        names = " and ".join(_NAMES[number] for number in sorted(found))
        raise MalformedModelError(
            f"tensor {tensor.label} holds {tensor.datatype.name} in {names} instead of {_NAMES[expected]}", hint=_AGAIN
        )
    if expected == Tensor.STRING_DATA:
        if tensor.strings != tensor.elements:
            raise _wrong_count(tensor, tensor.strings, tensor.elements, expected)
    elif expected in _WIDTHS:
        size = sum(_plain_bytes(wire, start, end) for _, wire, start, end in tensor.payloads)
        if size != tensor.nbytes:
            raise wrong_size(tensor, size)
    elif len(tensor.payloads) == 1 and tensor.payloads[0][1] == LEN:
        _check_varints(tensor, source, expected)


def _plain_bytes(wire: int, start: int, end: int) -> int:
    """Bytes of elements in a packed payload, or in a run of unpacked ones, each with a tag of one byte."""
    if wire == LEN:
        return end - start
    width = 4 if wire == FIXED32 else 8
    return (end - start + 1) // (width + 1) * width


def _check_varints(tensor: StoredTensor, source: Source, expected: int) -> None:
    """Types under 8 bits are packed, several to a number; all others take one number an element."""
    _, _, start, end = tensor.payloads[0]
    wanted = tensor.nbytes if tensor.datatype.bits < 8 else tensor.elements
    if end - start <= _MAX_COUNTED_BYTES:
        count = sum(byte < 0x80 for byte in source.read(start, end))
        if count != wanted:
            raise _wrong_count(tensor, count, wanted, expected)
    elif not wanted <= end - start <= wanted * MAX_VARINT_BYTES:
        raise MalformedModelError(
            f"tensor {tensor.label} has {end - start} bytes of {_NAMES[expected]}, which cannot be the {wanted} "
            f"numbers of its shape {tensor.dims}",
            hint=_DAMAGED,
        )


def _wrong_count(tensor: StoredTensor, count: int, wanted: int, number: int) -> MalformedModelError:
    return MalformedModelError(
        f"tensor {tensor.label} has {count} elements in {_NAMES[number]}, but {tensor.datatype.name} of shape "
        f"{tensor.dims} takes {wanted}",
        hint=_DAMAGED,
    )


def check_sparse(values: StoredTensor | None, indices: StoredTensor | None, dims: list[int]) -> None:
    """Check that the parts of a sparse tensor fit each other.

    Raises:
        MalformedModelError: One is missing, or the indices are not one (or one row) for each value.
    """
    if values is None or indices is None:
        raise MalformedModelError("a sparse tensor has no values or no indices", hint=_AGAIN)
    count = values.dims[0] if values.dims else -1
    fits = indices.dims in ([count], [count, len(dims)]) and indices.datatype.name == "INT64"
    if len(values.dims) != 1 or not fits or len(dims) > MAX_RANK or any(dim < 0 for dim in dims):
        raise MalformedModelError(
            f"sparse tensor {values.label} of shape {dims[: MAX_RANK + 1]} has values of shape {values.dims} and "
            f"{indices.datatype.name} indices of shape {indices.dims}, which do not fit each other",
            hint=_DAMAGED,
        )


def too_many_dims(tensor: StoredTensor) -> MalformedModelError:
    """The error for a shape that no runtime takes."""
    return MalformedModelError(f"tensor {tensor.label} has more than {MAX_RANK} dimensions", hint=_DAMAGED)


def wrong_size(tensor: StoredTensor, size: int) -> MalformedModelError:
    """The error for a payload whose size does not match shape and datatype."""
    return MalformedModelError(
        f"tensor {tensor.label} holds {size} bytes, but {tensor.datatype.name} of shape {tensor.dims} "
        f"takes {tensor.nbytes}",
        hint=_DAMAGED,
    )
