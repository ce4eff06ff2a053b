"""`function.json` says what was written, and nothing that could harm is read from one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lamella.errors import SlicesError
from lamella.runtime.function import FILE_NAME, FunctionConfig, ObjectFile, WeightTensor, read_function
from lamella.runtime.slice_function import RESERVED_BYTES, options_for
from lamella.tensors import TensorSpec

FUNCTION = FunctionConfig(
    name="bert-slice-1",
    slice=1,
    file="slice_001.onnx",
    inputs=(TensorSpec("größe", "FP32", ("batch", 128, None)), TensorSpec("any", "INT64", None)),
    outputs=(TensorSpec("y", "BYTES", ()),),
    optional_inputs=(TensorSpec("w", "FP16", (4,)),),
    delivery="object-store",
    model_folder="model",
    objects=(
        ObjectFile("sub/slice_001.data", "s3://bucket/weights?region=x", 4096, "00" * 32),
        ObjectFile("b", "f", 1),
    ),
    weights=(
        WeightTensor("w", "FP16", (4,), "sub/slice_001.data", 64, 8),
        WeightTensor(None, "UINT8", (1,), "b", 0, 1),
    ),
    optimized=True,
)


def test_a_function_is_read_as_it_was_written(tmp_path: Path) -> None:
    FUNCTION.write(tmp_path)
    assert read_function(tmp_path) == FUNCTION
    first = (tmp_path / FILE_NAME).read_bytes()
    FUNCTION.write(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == first
    assert json.loads(first)["schema"] == "lamella.function/1"


def test_a_folder_without_one_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(SlicesError, match="is no function's package") as caught:
        read_function(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": "lamella.function/2"}, "is of another version"),
        ({"name": 7}, "expected text, found int"),
        ({"slice": -1}, "expected a size, found -1"),
        ({"slice": True}, "expected a size, found True"),
        ({"file": "../slice.onnx"}, "is no file in a folder"),
        ({"file": "/slice.onnx"}, "is no file in a folder"),
        ({"file": ""}, "is no file in a folder"),
        ({"inputs": {}}, "expected a list, found dict"),
        ({"inputs": [7]}, "expected an object, found int"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1.5]}]}, "expected a size, found 1.5"),
        ({"inputs": [{"name": "x", "datatype": "FP32"}]}, "it has no 'shape'"),
        ({"delivery": "post"}, "is no way to deliver a model"),
        ({"objects": [{"file": "a/../../b", "uri": "u", "size": 1, "sha256": None}]}, "is no file in a folder"),
        ({"objects": []}, "lies outside of `sub/slice_001.data`"),
    ],
)
def test_a_damaged_one_is_refused(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    FUNCTION.write(tmp_path)
    content = json.loads((tmp_path / FILE_NAME).read_text())
    (tmp_path / FILE_NAME).write_text(json.dumps({**content, **changes}))
    with pytest.raises(SlicesError) as caught:
        read_function(tmp_path)
    assert reason in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, '{"schema": "lamella.function/1"}', "\udc80"])
def test_what_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SlicesError, match="is damaged"):
        read_function(tmp_path)


@pytest.mark.parametrize(
    ("optimized", "memory_mb", "expected"),
    [
        (True, 2000, ("none", False)),
        (True, 1999, ("none", True)),
        (False, 2100, ("all", False)),
        (False, 2099, ("none", True)),
        (False, 0, ("none", True)),
    ],
)
def test_fetched_weights_are_loaded_at_full_speed_where_they_fit_twice(
    optimized: bool, memory_mb: int, expected: tuple[str, bool]
) -> None:
    function = replace(
        FUNCTION,
        objects=(ObjectFile("w", "u", 1000 << 20),),
        weights=(WeightTensor("a", "UINT8", (100 << 20,), "w", 0, 100 << 20),),
        optimized=optimized,
    )
    options = options_for(function, memory_mb=(RESERVED_BYTES >> 20) + memory_mb)
    assert (options.optimization, options.low_memory) == expected
    assert not options_for(function, memory_mb=None).low_memory
    assert not options_for(replace(function, objects=(), weights=()), memory_mb=memory_mb).low_memory
