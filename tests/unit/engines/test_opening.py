"""Engines by name and by file."""

import sys
from pathlib import Path

import pytest

from lamella.engines.opening import engine_for, is_onnx, open_engine
from lamella.errors import MissingDependencyError, UsageError


@pytest.mark.parametrize(
    ("file", "asked", "engine"),
    [
        ("model.onnx", None, "onnxruntime"),
        ("model.onnx", "opencv", "opencv"),
        ("model.slices", "openvino", "openvino"),
        ("model", None, "onnxruntime"),
        ("model.xml", None, "openvino"),
        ("MODEL.XML", "openvino", "openvino"),
        ("net.prototxt", None, "opencv"),
        ("net.caffemodel", None, "opencv"),
        ("graph.pb", None, "opencv"),
        ("graph.pbtxt", None, "opencv"),
    ],
)
def test_a_file_has_an_engine_unless_one_is_asked_for(file: str, asked: str | None, engine: str) -> None:
    assert engine_for(Path(file), asked) == engine


@pytest.mark.parametrize(("file", "asked"), [("model.xml", "onnxruntime"), ("net.prototxt", "openvino")])
def test_an_engine_that_does_not_read_a_format_is_refused(file: str, asked: str) -> None:
    with pytest.raises(UsageError, match=f"`{file}` is .* which the engine `{asked}` does not read") as caught:
        engine_for(Path(file), asked)
    assert caught.value.hint == f"use `--engine {engine_for(Path(file))}`"
    assert not is_onnx(Path(file))


@pytest.mark.parametrize("call", [open_engine, lambda name: engine_for(Path("model.onnx"), name)])
def test_an_engine_that_there_is_not_is_refused_with_those_there_are(call: object) -> None:
    with pytest.raises(UsageError, match="no engine `tensorflow`") as caught:
        call("tensorflow")  # type: ignore[operator]
    assert caught.value.hint == "the engines are onnxruntime, openvino, opencv"


@pytest.mark.parametrize(("name", "library"), [("openvino", "openvino"), ("opencv", "cv2")])
def test_an_engine_whose_library_is_missing_says_what_to_install(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"lamella.engines.{name}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)  # as if it could not be found
    with pytest.raises(MissingDependencyError, match=f"`{name}` needs `{library}`") as caught:
        open_engine(name)
    assert caught.value.hint == f"`pip install 'lamella[{name}]'`"
