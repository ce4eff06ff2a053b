"""Inputs are checked, and nothing is computed on other numbers than were given."""

import ml_dtypes
import numpy as np
import pytest

from lamella.errors import InputError
from lamella.runtime.feeds import check_feeds
from lamella.tensors import TensorSpec


def fed(datatype: str, value: object) -> np.ndarray:
    return check_feeds({"x": value}, [TensorSpec("x", datatype, None)])["x"]


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT64", [1.7, 2.9]),
        ("INT64", [float("nan")]),
        ("INT64", [2**63]),
        ("INT64", [np.datetime64(0, "s")]),
        ("UINT8", [300]),
        ("UINT8", [-1]),
        ("BOOL", [2]),
        ("FP32", [["1", "2"]]),
        ("FP32", [b"1"]),
        ("FP32", [None]),
        ("FP32", [1e300]),
        ("BF16", [1e39]),
        ("FP32", [[1], [1, 2]]),
        ("FP32", np.array([1.0], object)),
        ("FP32", np.array([0], "M8[s]")),
        ("BYTES", [1, None]),
        ("BYTES", ["a", 1]),
        ("BYTES", [b"\xff"]),
        ("BYTES", np.array([1, None], object)),
        ("BYTES", np.array([b"\xff"])),
        ("FLOAT8E5M2", np.array([1], ml_dtypes.float8_e4m3fn)),
    ],
)
def test_what_would_change_on_the_way_is_refused_by_name(datatype: str, value: object) -> None:
    with pytest.raises(InputError, match="input `x`") as caught:
        fed(datatype, value)
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT64", [[1, 2]]),
        ("INT64", [3.0]),
        ("UINT64", [2**63]),
        ("BOOL", [True, False]),
        ("FP32", 7),
        ("FP32", [1.5, float("inf")]),
        ("BF16", [1, 2]),
        ("FP16", []),
        ("BYTES", ["a", "größe"]),
        ("BYTES", []),
    ],
)
def test_lists_and_scalars_become_arrays_of_the_inputs_datatype(datatype: str, value: object) -> None:
    assert fed(datatype, value).tolist() == value


@pytest.mark.parametrize(
    "texts",
    [
        np.array(["a", "ö"]),
        np.array([b"a", "ö".encode()]),
        np.array([b"a", "ö"], object),
        ["a", "ö"],
        [b"a", "ö"],
    ],
)
def test_text_arrives_as_strings(texts: object) -> None:
    array = fed("BYTES", texts)
    assert array.dtype == object
    assert array.tolist() == ["a", "ö"]


def test_big_endian_arrays_keep_their_values() -> None:
    array = fed("INT64", np.array([1, 2], ">i8"))
    assert array.dtype.isnative
    assert array.tolist() == [1, 2]


def test_an_array_that_fits_is_not_copied() -> None:
    array = np.zeros(4, np.float32)
    assert fed("FP32", array) is array


def test_raw_bytes_become_the_type_that_numpy_lacks() -> None:
    raw = np.array([1.5], ml_dtypes.bfloat16).view("V2")
    assert fed("BF16", raw).tolist() == [1.5]


def test_names_are_checked() -> None:
    specs = [TensorSpec("ids", "INT64", ("n",))]
    with pytest.raises(InputError, match="no input `idz`") as caught:
        check_feeds({"idz": [1]}, specs)
    assert caught.value.hint == "did you mean `ids`?"
    with pytest.raises(InputError, match=r"`ids` is missing \(INT64\[n\]\)"):
        check_feeds({}, specs)
    with pytest.raises(InputError, match=r"shape \[1, 1\]"):
        check_feeds({"ids": [[1]]}, specs)
