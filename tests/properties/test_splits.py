"""A model with a node in parts gives what the whole gives, whatever the node's shapes, attributes and storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import lamella
from lamella.engines.base import EngineOptions
from lamella.engines.onnxruntime import OnnxRuntimeEngine
from lamella.graph.inference import infer_values, with_outputs
from lamella.graph.splits import Split, split_axes
from lamella.graph.splitting import SplitModel, split
from lamella.tensors import Array, datatype_of

LONG = st.integers(17, 40)  # a matrix with two of these takes over 1 KiB, so that slices refer to it
SHORT = st.integers(1, 4)


@dataclass
class Case:
    """One node with a weight that is large enough to be parted."""

    draw: st.DrawFn
    opset: int
    dtype: npt.DTypeLike = np.float32
    feeds: dict[str, Array] = field(default_factory=dict, repr=False)
    weights: dict[str, Array] = field(default_factory=dict, repr=False)
    node: onnx.NodeProto = field(default_factory=onnx.NodeProto)

    def array(self, *shape: int) -> Array:
        values = np.random.default_rng(self.draw(st.integers(0, 99))).standard_normal(shape)
        return (values if np.dtype(self.dtype).kind == "f" else values * 50).astype(self.dtype)

    def give(self, name: str, array: Array, *, weight: bool) -> str:
        (self.weights if weight else self.feeds)[name] = array
        return name

    def save(self, folder: Path) -> Path:
        """The model, its weights stored in one of four ways, sizes of some inputs left open."""
        symbolic = self.draw(st.booleans())
        inputs = []
        for name, array in self.feeds.items():
            shape = [f"{name}{axis}" if symbolic and axis == 0 else size for axis, size in enumerate(array.shape)]
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape))
        old = self.opset < 9 and self.draw(st.booleans())  # every initializer is an input then
        if old:
            inputs += [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(w.dtype), w.shape)
                for n, w in self.weights.items()
            ]
        output = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)), None)
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        if self.dtype == np.float32 and self.draw(st.booleans()):
            weights = [helper.make_tensor(w.name, 1, w.dims, numpy_helper.to_array(w).ravel()) for w in weights]
        graph = helper.make_graph([self.node], "one node", inputs, [output], weights)
        version = 3 if old else 8
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=version)
        external = self.draw(st.booleans())
        onnx.save(model, folder / "m.onnx", save_as_external_data=external, location="m.data", size_threshold=64)
        return folder / "m.onnx"


def gemm(case: Case) -> None:
    m, k, n = case.draw(st.one_of(SHORT, LONG)), case.draw(LONG), case.draw(LONG)
    on_left = m >= 17 and case.draw(st.booleans())
    both = {"transA": case.draw(st.integers(0, 1)), "transB": case.draw(st.integers(0, 1))}
    a = case.array(*((k, m) if both["transA"] else (m, k)))
    b = case.array(*((n, k) if both["transB"] else (k, n)))
    inputs = [case.give("a", a, weight=on_left), case.give("b", b, weight=not on_left)]
    forms = [(), (1,), (n,), (1, n), (m, 1), (m, n), (1, 1)]
    bias = case.draw(st.sampled_from(forms if case.opset < 11 else [None, *forms]))
    if bias is not None:
        inputs.append(case.give("c", np.asarray(case.array(*bias)), weight=case.draw(st.booleans())))
    scales = {"alpha": case.draw(st.sampled_from([1.0, 0.5])), "beta": case.draw(st.sampled_from([1.0, -2.0]))}
    case.node = helper.make_node("Gemm", inputs, ["y"], **both, **scales)


def matmul(case: Case) -> None:
    m, k, n = case.draw(st.one_of(SHORT, LONG)), case.draw(LONG), case.draw(LONG)
    on_left = m >= 17 and case.draw(st.booleans())
    batch = case.draw(st.lists(st.integers(1, 3), max_size=2))
    own = case.draw(st.sampled_from([[], [], [1], batch]))
    others = case.draw(st.sampled_from([batch, [], None]))  # None: a vector
    weight, other = ((m, k), (k, n)) if on_left else ((k, n), (m, k))
    free = (k,) if others is None else (*others, *other)
    arrays = [case.array(*own, *weight), case.array(*free)]
    names = [case.give("w", arrays[0], weight=True), case.give("x", arrays[1], weight=False)]
    case.node = helper.make_node("MatMul", names if on_left else names[::-1], ["y"])


def conv(case: Case) -> None:
    group, per_group, inner = case.draw(st.integers(1, 4)), case.draw(st.integers(3, 6)), case.draw(st.integers(30, 34))
    rank = case.draw(st.integers(1, 2))
    kernel = [3] * rank
    image = case.array(case.draw(SHORT), group * inner, *[6] * rank)
    inputs = [case.give("x", image, weight=False)]
    inputs.append(case.give("w", case.array(group * per_group, inner, *kernel), weight=True))
    if case.draw(st.booleans()):
        inputs.append(case.give("b", case.array(group * per_group), weight=case.draw(st.booleans())))
    case.node = helper.make_node("Conv", inputs, ["y"], group=group, pads=[1] * 2 * rank, kernel_shape=kernel)


def gather(case: Case) -> None:
    case.dtype = case.draw(st.sampled_from([np.float32, np.float64, np.float16, np.int32, np.int64, np.uint8, np.int8]))
    rows, tail = case.draw(st.integers(200, 300)), case.draw(st.sampled_from([(9,), (3, 3)]))
    table = case.array(rows, *tail)
    if np.dtype(case.dtype).kind == "f":
        table.flat[0] = np.nan
    shape = case.draw(st.lists(st.integers(0, 4), max_size=3))
    kind = case.draw(st.sampled_from([np.int32, np.int64]))
    seed = case.draw(st.integers(0, 99))
    indices = np.random.default_rng(seed).integers(-rows, rows, shape).astype(kind)
    inputs = [case.give("w", table, weight=True), case.give("ids", np.asarray(indices), weight=False)]
    axis = case.draw(st.sampled_from([{}, {"axis": 0}, {"axis": -table.ndim}] if case.opset >= 11 else [{}]))
    case.node = helper.make_node("Gather", inputs, ["y"], **axis)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    make = draw(st.sampled_from([gemm, matmul, conv, gather]))
    case = Case(draw, draw(st.sampled_from([9, 11, 13, 17] if make is gather else [7, 9, 11, 13, 17])))
    make(case)
    return case


def run(model: object, feeds: dict[str, Array]) -> Array:
    with lamella.Pipeline(model, optimization="none") as pipeline:  # type: ignore[arg-type]
        return pipeline.infer(feeds)["y"]


def assert_new_values_are_as_they_say(found: SplitModel, feeds: dict[str, Array]) -> None:
    """Datatype and shape, and the bytes as a share of those of older values."""
    data, folder = with_outputs(found.model, [found.values[name].proto for name in found.shares])
    session = OnnxRuntimeEngine().load(data, EngineOptions(optimization="none"), folder=folder)
    actual = {name: OnnxRuntimeEngine().to_array(item) for name, item in session.infer(feeds).items()}
    nbytes = {name: array.nbytes for name, array in (actual | feeds).items()}
    for name, (source, share) in found.shares.items():
        spec, array = found.values[name].spec, actual[name]
        assert spec.datatype == datatype_of(array).name
        if spec.shape is not None:
            pairs = list(zip(spec.shape, array.shape, strict=True))
            assert all(size == length for size, length in pairs if isinstance(size, int)), name
        if source in nbytes:  # not where a bias is a weight
            assert array.nbytes == nbytes[source] * share, name


@settings(max_examples=200)
@given(cases(), st.data())
def test_a_node_in_parts_gives_what_the_whole_node_gives(case: Case, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        model = lamella.load(case.save(Path(folder)))
        values = infer_values(model)
        axes = split_axes(model, model.graph.nodes[0], values)
        assert not isinstance(axes, str), axes
        axis = data.draw(st.sampled_from(axes))
        parts = data.draw(st.integers(2, min(axis.steps, 7)))
        found = split(model, [Split(0, axis.weight, axis.axis, parts)], values)
        assert axis.weight not in found.model.graph.initializers
        assert_new_values_are_as_they_say(found, case.feeds)
        expected, actual = run(model, case.feeds), run(found.model, case.feeds)
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        if axis.join == "select":
            assert actual.tobytes() == expected.tobytes()
        else:
            np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-4)
