"""A safetensors header is read without the tensors, and nothing in it is believed."""

from __future__ import annotations

import json
import os
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.converters.safetensors import HEADER_LIMIT_BYTES, read_tensors
from lamella.errors import MalformedModelError


def written(folder: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = folder / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return file


def entry(start: int, end: int, *, dtype: object = "F32", shape: object = (2,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_tensors_are_ranges_of_the_file(tmp_path: Path) -> None:
    data = np.arange(5, dtype=np.float32)
    header = {"__metadata__": {"format": "pt"}, "b": entry(0, 8), "a": entry(8, 20, shape=[3, 1])}
    file = written(tmp_path, header, data.tobytes())
    tensors = read_tensors(file)
    assert list(tensors) == ["b", "a"]
    assert tensors["a"].shape == (3, 1)
    assert tensors["a"].datatype.name == "FP32"
    found = np.memmap(file, np.float32, "r", tensors["a"].offset, tensors["a"].shape)
    np.testing.assert_array_equal(found, [[2], [3], [4]])


def test_scalars_and_empty_tensors_are_tensors(tmp_path: Path) -> None:
    header = {"scalar": entry(0, 4, shape=[]), "empty": entry(4, 4, shape=[0, 7])}
    tensors = read_tensors(written(tmp_path, header, bytes(4)))
    assert [stored.length for stored in tensors.values()] == [4, 0]


def test_reading_takes_no_memory_of_the_tensors_size(tmp_path: Path) -> None:
    file = written(tmp_path, {"a": entry(0, 1 << 33, shape=[1 << 31])})
    os.truncate(file, file.stat().st_size + (1 << 33))
    tracemalloc.start()
    assert read_tensors(file)["a"].length == 1 << 33
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


HOSTILE = {
    "not JSON": (b"{oops", b"", "is not valid JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", "is not valid JSON"),
    "not an object": ([], b"", "is not a JSON object"),
    "nested too deeply": (b"[" * 100_000, b"", "nested too deeply"),
    "huge number": (b'{"a": ' + b"9" * 10_000 + b"}", b"", "is not valid JSON"),
    "name twice": (b'{"a": 1, "a": 2}', b"", "'a' comes twice"),
    "unprintable name": ({"a\nb": entry(0, 8)}, bytes(8), "unfit name"),
    "endless name": ({"a" * 501: entry(0, 8)}, bytes(8), "unfit name"),
    "entry of another type": ({"a": 3}, b"", "is not described by a JSON object"),
    "unknown dtype": ({"a": entry(0, 8, dtype="F31")}, bytes(8), "unknown dtype 'F31'"),
    "dtype of another type": ({"a": entry(0, 8, dtype=[1])}, bytes(8), "unknown dtype"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8), "the shape .* is not a list"),
    "negative size": ({"a": entry(0, 8, shape=[-2])}, bytes(8), "holds -2, which is no size"),
    "fractional size": ({"a": entry(0, 8, shape=[2.0])}, bytes(8), "holds 2.0, which is no size"),
    "boolean size": ({"a": entry(0, 4, shape=[True])}, bytes(4), "holds True, which is no size"),
    "size beyond 63 bits": ({"a": entry(0, 8, shape=[1 << 63])}, bytes(8), "which is no size"),
    "rank of thousands": ({"a": entry(0, 8, shape=[1] * 5000)}, bytes(8), "is not a list of at most 16"),
    "product that overflows": ({"a": entry(0, 8, shape=[1 << 62] * 16)}, bytes(8), "has 8 bytes where"),
    "three offsets": ({"a": {**entry(0, 8), "data_offsets": [0, 4, 8]}}, bytes(8), "lies outside"),
    "backwards": ({"a": entry(8, 0)}, bytes(8), "lies outside"),
    "past the end": ({"a": entry(0, 8)}, bytes(7), "lies outside"),
    "shape and size differ": ({"a": entry(0, 8, shape=[3])}, bytes(8), r"has 8 bytes where F32\[3\] takes 12"),
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), "`b` .* overlaps tensor `a`"),
    "same range twice": ({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8), "`b` .* overlaps tensor `a`"),
    "gap": ({"a": entry(0, 8), "b": entry(9, 17)}, bytes(17), "`b` .* leaves a gap after tensor `a`"),
    "gap before the first": ({"a": entry(1, 9)}, bytes(9), "`a` .* leaves a gap after the header"),
    "bytes left over": ({"a": entry(0, 8)}, bytes(9), "has 1 bytes after tensor `a`"),
}


@pytest.mark.parametrize(("header", "data", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_header_is_one_line_with_a_hint(tmp_path: Path, header: object, data: bytes, message: str) -> None:
    with pytest.raises(MalformedModelError, match=message) as caught:
        read_tensors(written(tmp_path, header, data))
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is truncated: its header does not fit into its 0 bytes"),
        (b"\x01\x00", "is truncated"),
        (b"\x10" + bytes(7) + b"{}", "is truncated: its header does not fit into its 10 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "claims a header of"),
        (b"\xff" * 8 + b"{}", "claims a header of 18446744073709551615 bytes"),
        ((HEADER_LIMIT_BYTES + 1).to_bytes(8, "little"), r"claims a header of 8388609 bytes \(at most 8388608\)"),
    ],
)
def test_impossible_header_length_is_found_before_reading(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(MalformedModelError, match=message) as caught:
        read_tensors(file)
    assert caught.value.hint


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file, message in (
        (tmp_path, "no regular file"),
        (tmp_path / "pipe", "no regular file"),
        (tmp_path / "x", "No such"),
    ):
        with pytest.raises(MalformedModelError, match=message):
            read_tensors(file)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_gets_past_the_error_tree(tmp_path: Path, data: st.DataObject) -> None:
    header = json.dumps({"a": entry(0, 8), "b": entry(8, 16, dtype="I64", shape=[1])}).encode()
    content = bytearray(len(header).to_bytes(8, "little") + header + bytes(16))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with suppress(MalformedModelError):
        for stored in read_tensors(file).values():
            assert 8 <= stored.offset <= stored.offset + stored.length <= len(content)
