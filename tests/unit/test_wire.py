"""Tensors go over the wire unchanged, without copies, and what is no frame is refused by name."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lamella.errors import InputError, UnsupportedModelError
from lamella.wire import decode, decode_parts, encode

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "f2", "f4", "f8"]
arrays = st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4)))


def frame(entries: object, body: bytes = b"") -> bytes:
    header = json.dumps({"inputs": entries}).encode()
    return struct.pack("<I", len(header)) + header + body


@given(st.dictionaries(st.text(min_size=1), arrays, max_size=4))
def test_every_array_comes_back_as_it_was(tensors: dict[str, np.ndarray]) -> None:
    decoded = decode(encode(tensors).to_bytes())
    assert list(decoded) == list(tensors)
    for name, array in tensors.items():
        assert decoded[name].dtype == array.dtype
        assert decoded[name].shape == array.shape
        assert decoded[name].tobytes() == array.tobytes()


@given(st.lists(st.text() | st.binary().filter(lambda b: not _is_text(b)), max_size=8))
def test_texts_and_other_bytes_come_back(texts: list[object]) -> None:
    array = np.empty(len(texts), object)
    array[:] = texts
    assert decode(encode({"t": array}).to_bytes())["t"].tolist() == texts


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_decoding_makes_views_and_the_first_tensor_is_aligned() -> None:
    raw = np.frombuffer(encode({"x": np.arange(8, dtype="f4")}).to_bytes(), np.uint8)
    decoded = decode(memoryview(raw))["x"]
    assert np.shares_memory(decoded, raw)
    assert (decoded.ctypes.data - raw.ctypes.data) % 64 == 0


def test_encoding_a_contiguous_array_copies_nothing() -> None:
    array = np.arange(1000, dtype="f4")
    assert np.shares_memory(np.frombuffer(encode({"x": array}).buffers[0], np.uint8), array)


@pytest.mark.parametrize("array", [np.arange(12, dtype="f4").reshape(3, 4).T, np.arange(4, dtype=">i4")])
def test_transposed_and_big_endian_arrays_keep_their_values(array: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode({"x": array}).to_bytes())["x"], array)


def test_bfloat16_keeps_its_bits() -> None:
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    decoded = decode(encode({"x": array}).to_bytes())["x"]
    assert decoded.dtype == array.dtype
    assert decoded.tobytes() == array.tobytes()


def test_packed_types_do_not_travel() -> None:
    with pytest.raises(UnsupportedModelError, match="INT4"):
        encode({"x": np.zeros(2, ml_dtypes.int4)})


@pytest.mark.parametrize("item", [None, 1, "\ud800"])
def test_what_is_no_text_does_not_travel_as_text(item: object) -> None:
    with pytest.raises(InputError, match="tensor `x` holds"):
        encode({"x": np.array(["a", item], object)})


def test_tensors_in_the_json_itself_are_read() -> None:
    header = json.dumps({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]})
    assert decode_parts(header.encode(), b"")["x"].tolist() == [[1, 2], [3, 4]]


ENTRY = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
BROKEN = {
    "too short": (b"\x01", "cannot hold its header"),
    "header past the end": (b"\xff\xff\xff\x7f{}", "cannot hold its header"),
    "no JSON": (struct.pack("<I", 3) + b"abc", "no JSON"),
    "no tensors": (struct.pack("<I", 2) + b"[]", "no JSON object"),
    "no name": (frame([{**ENTRY, "name": None}]), "no `name`"),
    "no shape": (frame([{**ENTRY, "shape": [True]}]), "no valid `shape`"),
    "negative shape": (frame([{**ENTRY, "shape": [-1]}]), "no valid `shape`"),
    "unknown datatype": (frame([{**ENTRY, "datatype": "FP128"}]), "FP128"),
    "cut off": (frame([ENTRY], b"1234"), "claims 8 bytes, but 4 are left"),
    "too long": (frame([ENTRY], b"123456789"), "1 bytes follow the last tensor"),
    "wrong size": (frame([{**ENTRY, "shape": [3]}], b"12345678"), "has 8 bytes, but FP32 of shape [3] takes 12"),
    "twice": (frame([ENTRY, ENTRY], b"1" * 16), "comes twice"),
    "negative size": (frame([{**ENTRY, "parameters": {"binary_data_size": -1}}]), "binary_data_size"),
    "no data": (frame([{**ENTRY, "parameters": {}}]), "neither `data` nor"),
    "wrong data": (frame([{"name": "x", "shape": [2], "datatype": "FP32", "data": ["a", 1]}]), "no FP32 of shape [2]"),
    "text past the end": (frame([{**ENTRY, "datatype": "BYTES"}], b"\x09\0\0\0abcd"), "runs past its bytes"),
    "no size at all": (frame([{**ENTRY, "shape": [0, 2**70]}]), "larger than any array"),
    "too large": (frame([{**ENTRY, "shape": [2**62]}]), "larger than any array"),
    "no size, texts": (frame([{"name": "x", "shape": [0, 2**70], "datatype": "BYTES", "data": []}]), "larger than any"),
    "too many dimensions": (frame([{**ENTRY, "shape": [1] * 65}]), "larger than any array"),
    "packed": (frame([{**ENTRY, "datatype": "INT4"}], b"1"), "INT4, which does not travel"),
    "fractions": (frame([{"name": "x", "shape": [1], "datatype": "INT64", "data": [1.5]}]), "not every value is INT64"),
    "numbers as text": (frame([{"name": "x", "shape": [1], "datatype": "FP32", "data": ["1"]}]), "the values are text"),
    "no text": (frame([{"name": "x", "shape": [2], "datatype": "BYTES", "data": ["1", None]}]), "None is no text"),
    "out of range": (frame([{"name": "x", "shape": [1], "datatype": "UINT8", "data": [300]}]), "no UINT8 of shape [1]"),
    "long header": (struct.pack("<I", (16 << 20) + 1) + bytes((16 << 20) + 1), "above the limit"),
    "too few texts": (frame([{**ENTRY, "datatype": "BYTES"}], b"\x04\0\0\0abcd"), "has 1 elements"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_frame_is_refused_by_name(case: str) -> None:
    raw, message = BROKEN[case]
    with pytest.raises(InputError) as error:
        decode(raw)
    assert message in error.value.message
    assert error.value.hint


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(raw: bytes) -> None:
    try:
        decode(raw)
    except InputError:
        return
