"""Outputs as the content of objects."""

import json
from io import BytesIO

import ml_dtypes
import numpy as np
import pytest

from lamella.runtime.forms import written
from lamella.tensors import Array
from lamella.wire import decode_parts

OUTPUTS: dict[str, Array] = {
    "floats": np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32),
    "ids": np.array([[1, 2]], np.int64),
    "flag": np.array(True),
    "names": np.array(["größe", "a b"], object),
    "bf16": np.array([0.5, 2], ml_dtypes.bfloat16),
    "nothing": np.zeros((0, 3), np.float32),
}


def test_json_is_what_the_protocol_has() -> None:
    content = written(OUTPUTS, "json", head={"id": "1"})
    assert json.loads(content)["id"] == "1"
    found = decode_parts(json.dumps({"outputs": json.loads(content)["outputs"][1:4]}).encode(), b"")
    for name in ("ids", "flag", "names"):
        assert found[name].tolist() == OUTPUTS[name].tolist()
    assert json.loads(content)["outputs"][0]["data"] == [1.5, "NaN", "Infinity", "-Infinity"]
    assert json.loads(content)["outputs"][4] == {"name": "bf16", "datatype": "BF16", "shape": [2], "data": [0.5, 2.0]}


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["floats"], "1.5 nan\ninf -inf\n"),
        (["ids"], "1 2\n"),
        (["flag"], "True\n"),
        (["names"], "größe\na b\n"),
        (["nothing"], ""),
        (["ids", "bf16"], "ids\t1 2\nbf16\t0.5 2.0\n"),
    ],
)
def test_text_has_a_line_for_each_row(names: list[str], text: str) -> None:
    assert written({name: OUTPUTS[name] for name in names}, "text", head={}).decode() == text


def test_a_text_with_line_breaks_stays_one_line() -> None:
    assert written({"a": np.array(["1\n2\r\n3"], object)}, "text", head={}) == b"1 2 3\n"


def test_tensors_are_read_by_numpy_without_pickle() -> None:
    with np.load(BytesIO(written(OUTPUTS, "tensors", head={})), allow_pickle=False) as found:
        assert set(found.files) == set(OUTPUTS)
        np.testing.assert_array_equal(found["floats"], OUTPUTS["floats"])
        assert found["names"].tolist() == ["größe", "a b"]
        np.testing.assert_array_equal(found["bf16"].view(ml_dtypes.bfloat16), OUTPUTS["bf16"])
        assert found["nothing"].shape == (0, 3)
