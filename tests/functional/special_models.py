"""How models of special kinds are built, and how their slices are compared with the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.conformance.cases import Item
from tests.conformance.whole import run_whole, same

import lamella

LARGE = 32  # a square of this side takes 4 KiB in FP32: a weight that slices refer to


def tensor(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int | str] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int, dtype: str = "float32") -> onnx.TensorProto:
    values = np.random.default_rng([1, *name.encode()]).standard_normal(shape) * 3
    return numpy_helper.from_array(values.astype(dtype), name)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


def saved(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    sparse: Sequence[onnx.SparseTensorProto] = (),
) -> Path:
    graph = helper.make_graph(nodes, "special", inputs, outputs, weights, sparse_initializer=sparse)
    opsets = [helper.make_opsetid(domain, version) for domain, version in {"": 21, **(domains or {})}.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def assert_slices_equal(
    path: Path, feeds: Mapping[str, Item], *, at_least: int = 2, custom_ops: Sequence[str] = ()
) -> dict[str, Item]:
    """Run the file whole, and in 1, 2 and the most slices, by reference and by copy; return the whole's outputs."""
    expected = run_whole(path, feeds, custom_ops)
    libraries = tuple(custom_ops)
    model = lamella.load(path)
    most = len(lamella.plan(model, slices="max", custom_ops=libraries).slices)
    assert most >= at_least
    sources = [path]
    for count in sorted({1, min(2, most), most}):
        for copy_weights in (False, True):
            directory = path.parent.parent / f"{count}-{copy_weights}.slices"
            verified = lamella.slice(
                model, directory, slices=count, copy_weights=copy_weights, inputs=feeds, custom_ops=libraries
            )
            assert verified.verification is not None
            assert verified.verification.max_abs_diff == 0
            sources.append(directory)
    for source in sources:
        for low_memory in (False, True):
            with lamella.Pipeline(
                source, low_memory=low_memory, optimization="none", threads=1, custom_ops=libraries
            ) as pipeline:
                actual = pipeline.infer(feeds)
            assert actual.keys() == expected.keys()
            assert [name for name in expected if not same(expected[name], actual[name])] == []
    return expected
