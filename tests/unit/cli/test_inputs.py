"""`--input`: what files give."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lamella.cli.inputs import completed, read_inputs
from lamella.errors import InputError, LamellaError, UsageError
from lamella.tensors import TensorSpec

SPECS = (
    TensorSpec("ids", "INT64", ("batch", "sequence")),
    TensorSpec("x", "FP32", ("batch", 2)),
    TensorSpec("half", "BF16", (2,)),
    TensorSpec("words", "BYTES", ("n",)),
    TensorSpec("flag", "BOOL", (1,)),
    TensorSpec("scope/in:0", "FP32", (2,)),
    TensorSpec("many", "sequence", None),
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(*arguments: str) -> dict[str, np.ndarray]:
    return read_inputs(arguments, SPECS)


def test_npy_is_one_array() -> None:
    np.save("a=b.npy", np.float32([[1, 2]]))
    assert read("x=a=b.npy")["x"].tolist() == [[1, 2]]


def test_names_may_hold_a_colon() -> None:
    np.save("a.npy", np.float32([1, 2]))
    assert read("scope/in:0=a.npy").keys() == {"scope/in:0"}


def test_npz_gives_all_by_name_or_one() -> None:
    np.savez("all.npz", ids=np.int64([[1]]), x=np.float32([[1, 2]]))
    assert read("all.npz").keys() == {"ids", "x"}
    assert read("x=all.npz")["x"].tolist() == [[1, 2]]
    assert read("words=all.npz:ids")["words"].tolist() == [[1]]


@pytest.mark.parametrize(
    ("name", "value", "dtype"),
    [
        ("ids", [[1, 2]], "int64"),
        ("x", [[1, 2.5]], "float32"),
        ("x", 7, "float32"),
        ("half", [1, 2], "bfloat16"),
        ("words", ["a", "größe"], "object"),
        ("words", [], "object"),
        ("flag", [True], "bool"),
        ("unknown", [1], "int64"),
    ],
)
def test_json_takes_the_datatype_of_the_input(name: str, value: object, dtype: str) -> None:
    Path("v.json").write_text(json.dumps(value), encoding="utf-8")
    array = read(f"{name}=v.json")[name]
    assert array.dtype.name == dtype
    assert array.tolist() == value


def test_json_for_a_sequence_stays_a_list() -> None:
    Path("v.json").write_text("[[1], [2, 3]]")
    assert read("many=v.json")["many"] == [[1], [2, 3]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids", "[1.5]"),
        ("ids", "[99999999999999999999]"),
        ("ids", '["1"]'),
        ("x", "[[1, 2], [3]]"),
        ("x", "[null]"),
        ("x", '{"a": 1}'),
        ("words", "[1]"),
        ("flag", "[2]"),
        ("x", "[1,"),
        ("x", "[" * 100_000),
    ],
)
def test_json_that_does_not_fit_is_refused_and_never_converted(name: str, text: str) -> None:
    Path("v.json").write_text(text)
    with pytest.raises(InputError, match=r"`v\.json`") as caught:
        read(f"{name}=v.json")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_what_numpy_stores_in_its_own_way_comes_back() -> None:
    np.save("half.npy", np.array([1, 2], ml_dtypes.bfloat16))
    np.save("words.npy", np.array(["a", "b"]))
    np.save("big.npy", np.array([[1, 2]], ">f4"))
    found = read("half=half.npy", "words=words.npy", "x=big.npy")
    assert found["half"].dtype == ml_dtypes.bfloat16
    assert found["half"].tolist() == [1, 2]
    assert found["words"].dtype == object
    assert found["x"].dtype.isnative
    assert found["x"].tolist() == [[1, 2]]


def _encrypted(archive: bytes) -> bytes:
    """The archive with the bit set in both of its headers that says that its member is encrypted."""
    made = bytearray(archive)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.index(signature) + at] |= 1
    return bytes(made)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["x"], UsageError, "`--input x` does not say for which input"),
        (["x=cat.png"], UsageError, "`cat.png` is no `.npy`, `.npz` or `.json` file"),
        (["x=gone.npy"], InputError, "`gone.npy` cannot be read: no such file or directory"),
        (["gone.npz"], InputError, "`gone.npz` cannot be read"),
        (["x=bad.npy"], InputError, "`bad.npy` is damaged"),
        (["x=bad.npz"], InputError, "`bad.npz` is damaged"),
        (["x=empty.npy"], InputError, "`empty.npy` is damaged"),
        (["x=pickled.npy"], InputError, "`pickled.npy` is damaged: .*allow_pickle"),
        (["x=good.npz:z"], InputError, "`good.npz` has no array `z`"),
        (["x=good.npz", "x=good.npz"], UsageError, "input `x` is given twice"),
        (["x=zip.npy"], InputError, "`zip.npy` is an archive"),
        (["x=array.npz"], InputError, "`array.npz` is damaged"),
        (["x=bits.npz"], InputError, "`bits.npz` is damaged"),
        (["x=locked.npz"], InputError, "`locked.npz` is damaged: .*encrypted"),
        (["x=claims.npy"], InputError, "`claims.npy` is damaged"),
    ],
)
def test_bad_input_is_one_line_with_a_hint(arguments: list[str], kind: type[LamellaError], message: str) -> None:
    Path("bad.npy").write_bytes(b"\x93NUMPY\x01")
    Path("bad.npz").write_bytes(b"PK\x03\x04 and no more")
    Path("empty.npy").touch()
    np.save("pickled.npy", np.array([{}], object), allow_pickle=True)
    np.savez("good.npz", x=np.float32([[1, 2]]))
    Path("zip.npy").write_bytes(Path("good.npz").read_bytes())
    np.save("array", np.float32([1]))
    Path("array.npy").rename("array.npz")
    np.savez_compressed("bits.npz", x=np.arange(1000, dtype=np.float32))
    packed = bytearray(Path("bits.npz").read_bytes())
    packed[60:90] = b"\xff" * 30  # in the middle of the compressed bytes
    Path("bits.npz").write_bytes(packed)
    Path("locked.npz").write_bytes(_encrypted(Path("good.npz").read_bytes()))
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }\n" % (1 << 60)
    Path("claims.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(kind, match=message) as caught:
        read(*arguments)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_missing_inputs_are_named_with_their_shapes() -> None:
    with pytest.raises(InputError) as caught:
        completed({}, SPECS[:2], random=False, seed=0, bounds={})
    assert caught.value.message == "2 inputs are missing: `ids` INT64[batch, sequence], `x` FP32[batch, 2]"
    assert "--random" in (caught.value.hint or "")


def test_made_up_inputs_take_the_sizes_of_given_ones() -> None:
    given = {"ids": np.zeros((3, 5), np.int64)}
    mask = TensorSpec("mask", "INT64", ("batch", "sequence"))
    found = completed(given, (*SPECS[:2], mask), random=True, seed=0, bounds={})
    assert found["mask"].shape == (3, 5)
    assert found["x"].shape == (3, 2)
    assert found["ids"] is given["ids"]


def test_same_seed_same_inputs() -> None:
    made = [completed({}, SPECS[1:2], random=True, seed=seed, bounds={})["x"] for seed in (1, 1, 2)]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
