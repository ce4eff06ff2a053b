"""Outputs in numbers, and saved."""

import io
import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lamella.cli.results import save, summary
from lamella.tensors import TensorSpec


def summarised(value: object) -> tuple[object, ...]:
    found = summary(TensorSpec("y", "sequence", None), value)
    return found.datatype, found.shape, found.min, found.max, found.mean, found.preview


def test_summary_of_numbers() -> None:
    assert summarised(np.float32([[1, 2], [3, 6]])) == ("FP32", (2, 2), 1.0, 6.0, 3.0, "1, 2, 3, ...")
    assert summarised(np.int64([2**62, 1])) == ("INT64", (2,), 1, 2**62, (2**62 + 1) / 2, f"{2**62}, 1")
    assert summarised(np.array(2.5, np.float32)) == ("FP32", (), 2.5, 2.5, 2.5, "2.5")
    assert summarised(np.array([1, 3], ml_dtypes.bfloat16))[:5] == ("BF16", (2,), 1.0, 3.0, 2.0)


def test_summary_of_not_a_number_says_so_without_a_warning() -> None:
    datatype, _, least, *_ = summarised(np.float32([1, np.nan, np.inf]))
    assert datatype == "FP32"
    assert isinstance(least, float)
    assert math.isnan(least)


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        (np.array(["a"], object), "BYTES"),
        (np.array([True]), "BOOL"),
        (np.zeros((0, 3), np.float32), "FP32"),
        (np.complex64([1j]), "COMPLEX64"),
    ],
)
def test_summary_has_no_figures_where_they_make_no_sense(value: np.ndarray, datatype: str) -> None:
    assert summarised(value)[:5] == (datatype, value.shape, None, None, None)


def test_outputs_are_saved_without_pickle_under_any_name() -> None:
    outputs = {
        "file": np.arange(3),
        "/encoder/out": np.float32([[1]]),
        "words": np.array(["größe", "b"], object),
        "parts": [np.ones(1), np.ones(2)],
        "map": [{1: 0.5, 0: float("inf")}],
    }
    buffer = io.BytesIO()
    save(buffer, outputs)
    buffer.seek(0)
    saved = np.load(buffer, allow_pickle=False)
    assert set(saved.files) == {"file", "/encoder/out", "words", "parts.0", "parts.1", "map"}
    assert saved["file"].tolist() == [0, 1, 2]
    assert saved["words"].tolist() == ["größe", "b"]
    assert saved["parts.1"].tolist() == [1, 1]
    assert json.loads(saved["map"].item()) == [{"1": 0.5, "0": "inf"}]


def test_outputs_that_cannot_be_written_leave_the_earlier_file(tmp_path: Path) -> None:
    save(tmp_path / "out.npz", {"y": np.ones(2)})
    before = (tmp_path / "out.npz").read_bytes()
    with pytest.raises(ValueError, match="Object arrays"):
        save(tmp_path / "out.npz", {"y": np.zeros(2), "z": np.zeros(1, [("field", object)])})
    assert (tmp_path / "out.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
