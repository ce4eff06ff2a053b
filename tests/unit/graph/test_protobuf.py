"""The wire format: what is read, and what is refused."""

import pytest
from tests.wire import LEN, VARINT, message, number, tag, varint

from lamella.errors import MalformedModelError
from lamella.graph.protobuf import encode_varint, fields, packed_or_single, read_varint, signed, text


def test_fields_are_given_with_their_places() -> None:
    data = number(1, 300) + message(2, "ab") + tag(3, 5) + bytes(4) + tag(4, 1) + bytes(8)
    assert list(fields(data, 0, len(data))) == [
        (1, 0, 0, 300, 3),
        (2, 2, 3, 5, 7),
        (3, 5, 7, 8, 12),
        (4, 1, 12, 13, 21),
    ]


def test_fields_stay_inside_their_message() -> None:
    data = message(1, "abcdef")
    with pytest.raises(MalformedModelError, match="field 1 at byte 0 runs 2 bytes past its end"):
        list(fields(data, 0, len(data) - 2))


@pytest.mark.parametrize("length", [2, 5, 10])
def test_numbers_in_more_bytes_than_they_need_are_the_same_numbers(length: int) -> None:
    data = varint(7 << 3 | VARINT, length=min(length, 5)) + varint(1, length=length)
    assert [(found[0], found[3]) for found in fields(data, 0, len(data))] == [(7, 1)]


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10, b"\x80" * 11 + b"\x01"])
def test_a_number_without_an_end_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedModelError, match="a number at byte 1000 has no end"):
        read_varint(data, 0, len(data), 1000)


def test_bits_above_64_are_dropped_as_protobuf_drops_them() -> None:
    assert read_varint(b"\xff" * 9 + b"\x7f", 0, 10) == ((1 << 64) - 1, 10)


@pytest.mark.parametrize("wire", [3, 4, 6, 7])
def test_groups_and_unknown_wire_types_are_refused(wire: int) -> None:
    with pytest.raises(MalformedModelError, match="no field starts with"):
        list(fields(tag(1, wire) + bytes(10), 0, 11))


def test_a_tag_above_32_bits_is_refused_since_others_cut_it_off() -> None:
    data = varint((7 << 3 | LEN) + (1 << 32)) + b"\x00"
    with pytest.raises(MalformedModelError, match="no field starts with 4294967354"):
        list(fields(data, 0, len(data)))


def test_packed_and_single_numbers_are_read_alike() -> None:
    packed = varint(1) + varint(300)
    assert packed_or_single(packed, LEN, 0, len(packed)) == [1, 300]
    assert packed_or_single(b"", VARINT, 300, 0) == [300]


def test_negative_numbers_come_back() -> None:
    encoded = encode_varint(-1)
    assert len(encoded) == 10
    assert signed(read_varint(encoded, 0, 10)[0]) == -1


def test_text_that_is_not_utf8_is_refused_with_its_place() -> None:
    with pytest.raises(MalformedModelError, match="text at byte 102 is not UTF-8"):
        text(b"ab\xff", 2, 3, 100)
