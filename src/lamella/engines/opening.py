"""Engines by name, and which of them reads a file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal, cast

from lamella.engines.base import Engine
from lamella.errors import MissingDependencyError, UsageError

EngineName = Literal["onnxruntime", "openvino", "opencv"]

_MEMBERS: dict[EngineName, tuple[str, str, str]] = {  # its class, its library, what is installed for it
    "onnxruntime": ("OnnxRuntimeEngine", "onnxruntime", "onnxruntime"),
    "openvino": ("OpenVinoEngine", "openvino", "lamella[openvino]"),
    "opencv": ("OpenCvEngine", "cv2", "lamella[opencv]"),
}
_FORMATS: dict[str, tuple[str, EngineName]] = {
    ".xml": ("OpenVINO's IR", "openvino"),
    ".prototxt": ("a Caffe network", "opencv"),
    ".caffemodel": ("a Caffe network", "opencv"),
    ".pb": ("a TensorFlow graph", "opencv"),
    ".pbtxt": ("a TensorFlow graph", "opencv"),
}


def open_engine(name: str) -> Engine:
    """An engine by its name; its library is imported now.

    Raises:
        UsageError: There is no such engine.
        MissingDependencyError: Its library is not installed.
    """
    if name not in _MEMBERS:
        raise UsageError(f"there is no engine `{name}`", hint=f"the engines are {', '.join(_MEMBERS)}")
    member, library, installed = _MEMBERS[name]
    try:
        module = import_module(f"lamella.engines.{name}")
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise MissingDependencyError(
            f"the engine `{name}` needs `{library}`, which is not installed", hint=f"`pip install '{installed}'`"
        ) from error
    return cast("Engine", getattr(module, member)())


def is_onnx(path: Path) -> bool:
    """Whether a file is no engine's own format, and so what Lamella itself reads: ONNX."""
    return path.suffix.lower() not in _FORMATS


def engine_for(path: Path, asked: str | None = None) -> EngineName:
    """The name of the engine that runs a file or folder: the one that was asked for, or the one whose format it is.

    Raises:
        UsageError: There is no such engine, or it does not read this format.
    """
    if asked is not None and asked not in _MEMBERS:
        raise UsageError(f"there is no engine `{asked}`", hint=f"the engines are {', '.join(_MEMBERS)}")
    if is_onnx(path):
        return asked or "onnxruntime"
    kind, reader = _FORMATS[path.suffix.lower()]
    if asked is not None and asked != reader:
        raise UsageError(
            f"`{path}` is {kind}, which the engine `{asked}` does not read", hint=f"use `--engine {reader}`"
        )
    return reader
