"""What is in an object, by what its key ends with."""

import json
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile

import ml_dtypes
import numpy as np
import pytest

from lamella.errors import InputError
from lamella.runtime import inputs
from lamella.runtime.inputs import passed_on, read_inputs
from lamella.tensors import Array, TensorSpec
from lamella.wire import encode

X = TensorSpec("x", "FP32", ("batch", 2))
WORDS = TensorSpec("words", "BYTES", ("n",))
ARRAY = np.array([[1, 2], [3, 4]], np.float32)


def npy(array: Array) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: Array) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def test_an_array_is_the_only_input() -> None:
    found = read_inputs("a/b.NPY", npy(ARRAY), [X])
    np.testing.assert_array_equal(found["x"], ARRAY)
    with pytest.raises(InputError, match=r"`x`, `words`"):
        read_inputs("b.npy", npy(ARRAY), [X, WORDS])


def test_an_archive_has_inputs_by_name() -> None:
    found = read_inputs("b.npz", npz(x=ARRAY, words=np.array(["größe"])), [X, WORDS])
    np.testing.assert_array_equal(found["x"], ARRAY)
    assert found["words"].tolist() == ["größe"]


def test_a_request_of_the_protocol() -> None:
    content = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]}
    np.testing.assert_array_equal(read_inputs("b.json", json.dumps(content).encode(), [X])["x"], ARRAY)


@pytest.mark.parametrize("key", ["b.bin", "b.frame"])
def test_a_frame(key: str) -> None:
    np.testing.assert_array_equal(read_inputs(key, encode({"x": ARRAY}).to_bytes(), [X])["x"], ARRAY)


def test_types_that_numpy_lacks_are_those_of_the_model() -> None:
    array = ARRAY.astype(ml_dtypes.bfloat16)
    assert read_inputs("b.npy", npy(array), [TensorSpec("x", "BF16", None)])["x"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("key", ["cat.jpg", "words.txt", "npy", "a.npy.gz", "a.csv"])
def test_other_objects_are_refused_with_what_would_do(key: str) -> None:
    with pytest.raises(InputError, match=r"\.npy.*\.frame") as caught:
        read_inputs(key, b"", [X])
    assert "task" in str(caught.value.hint)


def huge() -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("a.npy", b""),
        ("a.npy", npy(ARRAY)[:-1]),
        ("a.npy", npz(x=ARRAY)),
        ("a.npy", huge()),
        ("a.npz", b"PK"),
        ("a.npz", npy(ARRAY)),
        ("a.npz", npz(x=ARRAY)[:-30]),
        ("a.npz", npz(x=ARRAY).replace(b"NUMPY", b"numpy")),
        ("a.json", b"{"),
        ("a.json", b"[1, 2]"),
        ("a.bin", b"\xff\xff\xff\xff"),
        ("a.frame", encode({"x": ARRAY}).to_bytes()[:-1]),
    ],
)
def test_damaged_objects_are_refused(key: str, content: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_inputs(key, content, [X])
    assert caught.value.hint


def test_arrays_of_objects_are_not_read() -> None:
    buffer = BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InputError, match="damaged"):
        read_inputs("a.npy", buffer.getvalue(), [X])


def test_an_archive_that_grows_too_large_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_BYTES", 1000)
    buffer = BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(np.zeros((1000, 2), np.float32)))
    assert len(buffer.getvalue()) < 1000
    with pytest.raises(InputError, match="above the limit"):
        read_inputs("a.npz", buffer.getvalue(), [X])


def test_outputs_become_inputs_by_name_or_where_there_is_one_of_each() -> None:
    assert passed_on({"x": ARRAY, "other": ARRAY}, [X]) == {"x": ARRAY}
    assert passed_on({"y": ARRAY}, [X]) == {"x": ARRAY}
    with pytest.raises(InputError, match="`words`") as caught:
        passed_on({"x": ARRAY, "y": ARRAY}, [X, WORDS])
    assert "`y`" in str(caught.value.hint)
