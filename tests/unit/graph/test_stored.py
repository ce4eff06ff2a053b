"""Tensors as they are stored: read without their payload, and refused where they contradict themselves."""

import pytest
from tests.wire import FLOAT, INT32, INT64, STRING, UINT4, external, message, number, raw, tag, tensor, varint

from lamella.errors import LamellaError, MalformedModelError
from lamella.graph.source import MemorySource
from lamella.graph.stored import StoredTensor, read_entry, read_stored_tensor


def read(data: bytes) -> StoredTensor:
    return read_stored_tensor(MemorySource(data), 0, len(data))


def test_a_large_payload_is_named_by_its_place() -> None:
    data = tensor(dims=(500,), payload=raw(bytes(2000))) + message(12, "doc")
    stored = read(data)
    start = data.index(bytes(2000))
    assert stored.payload_in_place() == (start, 2000, None)
    assert b"".join(data[a:b] for a, b in stored.kept) == tensor(dims=(500,)) + message(12, "doc")


def test_a_small_payload_stays() -> None:
    assert read(tensor(payload=raw(bytes(16)))).payload_in_place() is None


def test_numbers_of_variable_length_are_named_by_their_field() -> None:
    stored = read(tensor(dims=(600,), datatype=INT64, payload=message(7, varint(300) * 600)))
    place = stored.payload_in_place()
    assert place is not None
    assert place[1:] == (1200, "int64_data")


@pytest.mark.parametrize(
    "dims",
    [
        number(1, 2) + number(1, 300),
        message(1, varint(2), varint(300)),
        message(1, varint(2)) + message(1, varint(300)),
        number(1, 2) + message(1, varint(300)),
        message(1) + message(1, varint(2), varint(300)),
    ],
)
def test_dimensions_are_packed_or_not(dims: bytes) -> None:
    assert read(dims + tensor(dims=(), payload=raw(bytes(2400)))).dims == [2, 300]


def test_empty_packed_dimensions_are_a_scalar() -> None:
    assert read(message(1) + tensor(dims=(), payload=raw(bytes(4)))).dims == []


@pytest.mark.parametrize("field", [2, 14])
def test_the_last_of_a_repeated_number_counts(field: int) -> None:
    wrong = number(field, 0) * 3
    data = tensor(datatype=0, payload=wrong + number(2, FLOAT) + external({"location": "w"}))
    assert (read(data).data_type, read(data).external) == (FLOAT, {"location": "w"})


def test_the_last_of_a_repeated_entry_counts() -> None:
    data = tensor(payload=external({"location": "a"}) + external({"location": "b"}))
    assert read(data).external == {"location": "b"}


@pytest.mark.parametrize("location", [2, 3, 1 << 32, (1 << 32) + 1, -1])
def test_data_locations_that_other_readers_cut_off_are_refused(location: int) -> None:
    with pytest.raises(MalformedModelError, match="which ONNX does not know"):
        read(tensor(payload=external({"location": "w"}, location=number(14, location))))


def test_entries_without_a_location_flag_are_ignored_as_protobuf_ignores_them() -> None:
    assert read(tensor(payload=external({"location": "w"}, location=b"") + raw(bytes(16)))).external is None


@pytest.mark.parametrize(
    ("datatype", "dims", "payload"),
    [
        (FLOAT, (4,), message(4, bytes(16))),
        (FLOAT, (4,), (tag(4, 5) + bytes(4)) * 4),
        (FLOAT, (4,), message(4, bytes(8)) + (tag(4, 5) + bytes(4)) * 2),
        (14, (2,), message(4, bytes(16))),
        (11, (4,), message(10, bytes(32))),
        (INT32, (4,), message(5, varint(-1) * 4)),
        (INT32, (4,), number(5, 7) * 4),
        (10, (4,), message(5, varint(65535) * 4)),
        (UINT4, (3,), message(5, varint(255) + varint(1))),
        (STRING, (2,), message(6, "") + message(6, "b")),
        (STRING, (0,), b""),
        (FLOAT, (0, 1 << 40), b""),
        (FLOAT, (0,), raw(b"")),
    ],
)
def test_every_way_to_store_elements_is_read(datatype: int, dims: tuple[int, ...], payload: bytes) -> None:
    assert read(tensor(dims=dims, datatype=datatype, payload=payload)).dims == list(dims)


@pytest.mark.parametrize(
    ("datatype", "payload", "reason"),
    [
        (FLOAT, raw(bytes(15)), "holds 15 bytes"),
        (FLOAT, message(4, bytes(12)), "holds 12 bytes"),
        (FLOAT, (tag(4, 5) + bytes(4)) * 5, "holds 20 bytes"),
        (FLOAT, message(4, bytes(16)) + message(10, bytes(8)), "in float_data and double_data"),
        (INT32, message(5, varint(300) * 5), "has 5 elements in int32_data"),
        (UINT4, message(5, varint(255) * 4), "has 4 elements in int32_data"),
        (STRING, message(6, "a") * 5, "has 5 elements in string_data"),
        (STRING, raw(bytes(4)), "strings as raw bytes"),
        (FLOAT, number(9, 1), "broken raw_data"),
        (FLOAT, b"", "has no data"),
        (0, raw(bytes(16)), "has no datatype"),
        (99, raw(bytes(16)), "has the unknown datatype 99"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(datatype: int, payload: bytes, reason: str) -> None:
    with pytest.raises(LamellaError, match=f"tensor `w` .*{reason}"):
        read(tensor(datatype=datatype, payload=payload))


def test_an_entry_may_be_written_in_any_order() -> None:
    assert read_entry(message(1, "key") + message(2, "value")) == ("key", "value")
    assert read_entry(message(2, "value") + message(1, "key")) == ("key", "value")
    assert read_entry(message(1, "a") + message(2, "v" * 200) + message(1, "key")) == ("key", "v" * 200)
