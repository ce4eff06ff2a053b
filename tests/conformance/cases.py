"""The ONNX backend suite: every model that ships inside the `onnx` package, with the inputs that come with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.loader import DATA_DIR, load_node_model_tests

SUITES = ("node", "simple", "pytorch-operator", "pytorch-converted", "light")

Item = object
"""An array, a list of items, a dict, or None: what a model takes or gives."""


@dataclass(frozen=True)
class Case:
    """One model of the suite.

    Attributes:
        suite: One of `SUITES`.
        name: The suite's own name for it.
        content: The serialised model, with no locale that a machine may lack.
        inputs: What it is run on, in the order of its inputs; None where the suite leaves that to the runner.
    """

    suite: str
    name: str
    content: bytes
    inputs: tuple[Item, ...] | None


def all_cases() -> Iterator[Case]:
    """Every case, suite by suite, by name. The node cases are made in code, which takes about six seconds."""
    yield from _node_cases()
    for suite in ("simple", "pytorch-operator", "pytorch-converted"):
        for folder in sorted((Path(DATA_DIR) / suite).iterdir()):
            if (folder / "model.onnx").exists():
                yield _stored_case(suite, folder)
    for path in sorted((Path(DATA_DIR) / "light").glob("*.onnx")):
        yield Case("light", path.stem, path.read_bytes(), None)


def _node_cases() -> Iterator[Case]:
    np.random.seed(0)  # noqa: NPY002 -- the cases draw their inputs from this generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy, about the overflows that the cases are for
        found = load_node_model_tests()
    for case in sorted(found, key=lambda c: c.name):
        assert case.model is not None
        assert case.data_sets is not None
        inputs = tuple(_as_arrays(item) for item in case.data_sets[0][0])
        yield Case("node", case.name, adapted(case.model), inputs)


def _stored_case(suite: str, folder: Path) -> Case:
    model = onnx.load(folder / "model.onnx")
    types = [value.type for value in model.graph.input]
    files = sorted((folder / "test_data_set_0").glob("input_*.pb"), key=lambda p: int(p.stem.removeprefix("input_")))
    inputs = tuple(_read(path.read_bytes(), kind) for path, kind in zip(files, types, strict=False))
    return Case(suite, folder.name, adapted(model), inputs)


def adapted(model: onnx.ModelProto) -> bytes:
    """The model with no locale that a machine may lack: ONNX Runtime's default is `en_US.UTF-8`."""
    for node in model.graph.node:
        if node.op_type == "StringNormalizer" and not any(a.name == "locale" for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("locale", "C"))
    return model.SerializeToString()


def _read(data: bytes, kind: onnx.TypeProto) -> Item:
    field = kind.WhichOneof("value")
    if field == "sequence_type":
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if field == "optional_type":
        return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _as_arrays(item: object) -> Item:
    """Some cases hand over TensorProtos, in spite of their type hints."""
    if isinstance(item, onnx.TensorProto):
        return onnx.numpy_helper.to_array(item)
    if isinstance(item, list):
        return [_as_arrays(part) for part in item]
    return np.asarray(item) if isinstance(item, (np.generic, int, float, str, bool)) else item


def ramp(shape: Sequence[int]) -> Item:
    """What ONNX's own runner gives to the light models."""
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)
