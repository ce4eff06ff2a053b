"""References in a structure, and text that looks like one."""

import time

import pytest
from tests.wire import message

from lamella.graph.references import Range, encode_external, find_references


def test_references_come_back() -> None:
    written = [Range("w.bin", 0, 16), Range("a/b c.bin", 1 << 40, 1 << 33), Range("m.onnx", 5, 2000, "int64_data")]
    data = b"\x00between\x00".join(message(5, message(8, "w"), encode_external(place)) for place in written)
    assert find_references(data) == written


@pytest.mark.parametrize(
    "forged",
    [b"j\x14\n\x08location\x12\x05" * 50_000, b"j\x14\n\x08location\x12\x05" + b"a" * 1_000_000, b"\xff" * 1_000_000],
)
def test_text_that_looks_like_a_reference_costs_no_time(forged: bytes) -> None:
    started = time.process_time()
    place = Range("w.bin", 0, 16)
    find_references(forged + b"\x00" + encode_external(place))
    assert time.process_time() - started < 1


def test_forged_numbers_and_text_are_no_exception() -> None:
    forged = encode_external(Range("w.bin", 0, 16)).replace(b"w.bin", b"w\xff\xfen").replace(b"16", b"1" * 5000)
    assert find_references(forged) == []
