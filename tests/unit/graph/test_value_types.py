"""Types of values, in both directions."""

import pytest
from tests.wire import message, number, value

from lamella.errors import LamellaError
from lamella.graph.value_types import read_ort_type, read_value, tensor_value
from lamella.tensors import Dimension


@pytest.mark.parametrize("shape", [None, (), (1, 224), ("batch", 3, None)])
def test_a_tensor_type_comes_back(shape: tuple[Dimension, ...] | None) -> None:
    written = tensor_value("x", 10, shape)
    found = read_value(written.proto, 0, len(written.proto))
    assert found == written


@pytest.mark.parametrize(
    ("field", "kind"), [(4, "sequence"), (5, "map"), (7, "opaque"), (8, "sparse_tensor"), (9, "optional")]
)
def test_what_is_no_tensor_is_named(field: int, kind: str) -> None:
    data = message(1, "x") + message(2, message(field))
    found = read_value(data, 0, len(data)).type
    assert found is not None
    assert (found.kind, found.is_tensor) == (kind, False)


def test_a_negative_dimension_is_unknown() -> None:
    data = value("x", (-1, 2))
    assert read_value(data, 0, len(data)).spec.shape == (None, 2)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (value("x") + value("x")[3:], "value `x` has two types"),
        (message(1, "x") + message(2, message(1, number(1, 1)), message(4)), "has two types"),
        (value("x", datatype=99), "value `x` has the unknown datatype 99"),
        (value("x", datatype=(1 << 32) + 1), "has the unknown datatype 4294967297"),
        (value("x", (1,) * 65), "65 dimensions"),
        (message(1, "x") + message(2, b"\x0a\x7f"), "type of value `x`: broken protobuf"),
    ],
)
def test_types_that_readers_may_take_for_different_ones_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(LamellaError, match=reason):
        read_value(data, 0, len(data))


def test_onnx_runtimes_notation_is_read() -> None:
    assert read_ort_type("tensor(bfloat16)").datatype == 16
    assert read_ort_type("seq(tensor(int64))").kind == "sequence"
    assert read_ort_type("what is this").kind == "opaque"
