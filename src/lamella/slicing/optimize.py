"""Optimises a whole graph before it is cut, so that no fusion is lost at a cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lamella.engines.base import EngineOptions
from lamella.graph.model import Model
from lamella.graph.reader import load


def optimized_model(model: Model, directory: Path, *, custom_ops: Sequence[str | Path] = ()) -> Model:
    """Write the optimised model into `directory` and read it back.

    Optimises to ONNX Runtime's EXTENDED level: the file stays portable between processors (a layout for one of them
    would not, onnxruntime #13709). Loads the weights once: memory of about twice the model.

    Raises:
        EngineError: ONNX Runtime refuses the model.
    """
    from lamella.engines.onnxruntime import save_optimized

    name, data_name = optimized_names(model)
    path = directory / name
    options = EngineOptions(optimization="extended", custom_ops=tuple(Path(library) for library in custom_ops))
    save_optimized(model.path, path, data_name=data_name, options=options)
    return load(path)


def optimized_names(model: Model) -> tuple[str, str]:
    """Names of the files that `optimized_model` writes: the model, and its weights."""
    return f"{model.path.stem}.optimized.onnx", f"{model.path.stem}.optimized.data"
