"""The protobuf wire format: as much of it as reading and writing ONNX structure needs.

https://protobuf.dev/programming-guides/encoding/. Groups (wire types 3 and 4) are refused: ONNX never used them.
"""

from __future__ import annotations

from collections.abc import Iterator

from lamella.errors import MalformedModelError

VARINT, FIXED64, LEN, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
MAX_TAG = (1 << 32) - 1
"""Above it, ONNX Runtime's protobuf drops the upper bits, and would read another field than is written here."""

MAX_DEPTH = 100
"""Nested messages allowed; the default of every protobuf runtime, ONNX Runtime's included."""

Field = tuple[int, int, int, int, int]
"""Field number, wire type, first byte of the tag, first byte of the value (or the value of a varint), end."""


def read_varint(data: bytes, position: int, end: int, base: int = 0) -> tuple[int, int]:
    """Decode one varint of at most 64 bits; return it and the position behind it.

    `base` is where `data` starts in its file, for the message.

    Raises:
        MalformedModelError: The varint is longer than ten bytes or runs past `end`.
    """
    value = shift = 0
    first = position
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            break
    raise MalformedModelError(
        f"broken protobuf: a number at byte {base + first} has no end",
        hint="the file is truncated or no ONNX model; export or download it again",
    )


def signed(value: int) -> int:
    """Read a decoded varint as a two's complement int64."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """Walk the fields of the message at `data[start:end]` without descending.

    Raises:
        MalformedModelError: A field runs past the message, or has no legal tag.
    """
    position = start
    while position < end:
        tag_start = position
        tag = data[position]
        position += 1
        if tag > 0x7F:
            tag, position = read_varint(data, tag_start, end)
            if tag > MAX_TAG:
                raise bad_tag(tag, tag_start)
        wire = tag & 7
        if wire == LEN:
            length = data[position] if position < end else 0x80
            position += 1
            if length > 0x7F:
                length, position = read_varint(data, position - 1, end)
            value, position = position, position + length
        elif wire == VARINT:
            value, position = read_varint(data, position, end)
        elif wire == FIXED32 or wire == FIXED64:
            value, position = position, position + (4 if wire == FIXED32 else 8)
        else:
            raise bad_tag(tag, tag_start)
        if position > end or tag < 8:
            raise overrun(tag >> 3, tag_start, position - end)
        yield tag >> 3, wire, tag_start, value, position


def bad_tag(tag: int, position: int) -> MalformedModelError:
    """The error for a tag whose wire type ONNX cannot contain."""
    return MalformedModelError(
        f"broken protobuf: no field starts with {tag}, as at byte {position}",
        hint="the file is truncated or no ONNX model; export or download it again",
    )


def overrun(number: int, position: int, excess: int) -> MalformedModelError:
    """The error for a field that claims more bytes than its message has."""
    if number == 0:
        return MalformedModelError(
            f"broken protobuf: field number 0 at byte {position}",
            hint="the file is damaged or no ONNX model; export or download it again",
        )
    return MalformedModelError(
        f"broken protobuf: field {number} at byte {position} runs {excess} bytes past its end",
        hint="the file is truncated or damaged; export or download it again",
    )


def packed_or_single(data: bytes, wire: int, value: int, end: int) -> list[int]:
    """The numbers of one occurrence of a repeated varint field, which may be packed or not."""
    if wire != LEN:
        return [value]
    numbers = []
    position = value
    while position < end:
        number, position = read_varint(data, position, end)
        numbers.append(number)
    return numbers


def text(data: bytes, start: int, end: int, base: int = 0) -> str:
    """Decode a string field. `base` is where `data` starts in its file, for the message.

    Raises:
        MalformedModelError: It is not UTF-8.
    """
    try:
        return data[start:end].decode()
    except UnicodeDecodeError as error:
        raise MalformedModelError(
            f"broken protobuf: text at byte {base + start} is not UTF-8", hint="the file is damaged; export it again"
        ) from error


_ONE_BYTE = [bytes([value]) for value in range(0x80)]


def encode_varint(value: int) -> bytes:
    """Encode an integer, negative ones as 64-bit two's complement."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_int(number: int, value: int) -> bytes:
    """One varint field."""
    return encode_varint(number << 3) + encode_varint(value)


def encode_len(number: int, value: bytes | str) -> bytes:
    """One length-delimited field."""
    payload = value.encode() if isinstance(value, str) else value
    return len_prefix(number, len(payload)) + payload


def len_prefix(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited field whose `length` bytes follow."""
    return encode_varint(number << 3 | LEN) + encode_varint(length)
