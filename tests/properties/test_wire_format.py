"""The wire format and the scanner against protobuf itself; what a structure refers to against the model's bytes."""

import io
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.properties.test_scanner_fuzz import tensors

import lamella
from lamella.graph import source
from lamella.graph.model import Model
from lamella.graph.protobuf import encode_int, encode_len, encode_varint, fields, read_varint, signed
from lamella.graph.references import Range
from lamella.graph.rewrite import rewrite
from lamella.graph.schema import NESTED, SINGULAR, Kind
from lamella.graph.source import FileSource, MemorySource
from lamella.graph.stored import StoredTensor, read_stored_tensor
from lamella.slicing.varints import write_decoded
from lamella.tensors import DATATYPES

SUITE = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").rglob("*.onnx"))


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_a_varint_comes_back(number: int) -> None:
    encoded = encode_varint(number)
    assert read_varint(encoded, 0, len(encoded)) == (number & (1 << 64) - 1, len(encoded))
    assert signed(read_varint(encode_varint(number), 0, 10)[0]) == number or number >= 1 << 63


@given(st.lists(st.tuples(st.integers(1, (1 << 29) - 1), st.integers(0, 1 << 63) | st.binary(max_size=300))))
def test_fields_come_back(written: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(
        encode_int(number, value) if isinstance(value, int) else encode_len(number, value) for number, value in written
    )
    found = [
        (number, value if wire == 0 else data[value:end]) for number, wire, _, value, end in fields(data, 0, len(data))
    ]
    assert found == written


def test_every_way_to_a_tensor_is_known() -> None:
    """ONNX's own description of its messages says in which fields a tensor can be."""
    descriptors = {"ModelProto": onnx.ModelProto.DESCRIPTOR}
    waiting = ["ModelProto"]
    while waiting:
        for field in descriptors[waiting.pop()].fields:
            if field.message_type is not None and field.message_type.name not in descriptors:
                descriptors[field.message_type.name] = field.message_type
                waiting.append(field.message_type.name)
    reaching = {"TensorProto"}
    for _ in descriptors:
        reaching |= {
            name
            for name, found in descriptors.items()
            if any(f.message_type is not None and f.message_type.name in reaching for f in found.fields)
        }
    assert {kind.value for kind in Kind} == reaching
    for kind in Kind:
        inner = [
            f for f in descriptors[kind.value].fields if f.message_type is not None and f.message_type.name in reaching
        ]
        assert {f.number: f.message_type.name for f in inner} == {n: k.value for n, k in NESTED[kind].items()}
        empty = getattr(onnx, kind.value)()
        once = {f.number for f in inner if not hasattr(getattr(empty, f.name), "append")}
        assert once == SINGULAR.get(kind, frozenset())


def elements(model: Model, tensor: TensorProto) -> TensorProto:
    """A tensor of a structure with its payload from wherever the structure says."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if not entries:
        return tensor
    place = Range(entries["location"], int(entries["offset"]), int(entries["length"]), entries.get("coding"))
    found = TensorProto()
    found.CopyFrom(tensor)
    del found.external_data[:]
    found.ClearField("data_location")
    with model.files[place.location].path.open("rb") as file:
        target = io.BytesIO()
        if place.coding is not None:
            stored = StoredTensor(tensor.name, tensor.data_type, list(tensor.dims))
            write_decoded(file.fileno(), place, stored, target)
        else:
            target.write(os.pread(file.fileno(), place.length, place.offset))
    found.raw_data = target.getvalue()
    return found


def content(tensor: TensorProto) -> object:
    """Datatype, shape and bytes, so that NaN is NaN; text as a list."""
    array = numpy_helper.to_array(tensor)
    return array.dtype.name, array.shape, array.tolist() if array.dtype.kind in "OSUT" else array.tobytes()


def check_structure(path: Path) -> None:
    """The structure is the model: the same bytes of every tensor, and the same of everything else."""
    model = lamella.load(path)
    whole = onnx.load(path)
    structure = onnx.ModelProto.FromString(model.structure)
    pairs = list(zip(tensors(whole), tensors(structure), strict=True))
    for expected, found in pairs:
        actual = elements(model, found)
        assert content(actual) == content(expected)
        for tensor in (expected, found):
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(field)  # type: ignore[arg-type]
            del tensor.external_data[:]
            tensor.ClearField("data_location")
    assert structure.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)


@pytest.mark.parametrize("path", SUITE, ids=lambda path: str(path.parent.name))
def test_the_structures_of_the_onnx_suite_are_its_models(path: Path) -> None:
    check_structure(path)


TYPES = [kind for kind in DATATYPES if not kind.name.startswith("COMPLEX")]


@st.composite
def stored_tensors(draw: st.DrawFn, name: str) -> TensorProto:
    """A tensor of any type and of up to a few thousand elements, stored in any of the ways that ONNX has."""
    kind = draw(st.sampled_from(TYPES))
    shape = draw(st.sampled_from([(), (0,), (1,), (3, 5), (300,), (40, 70), (2500,)]))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    if kind.name == "BYTES":
        return helper.make_tensor(name, kind.onnx, shape, [b"text"] * int(np.prod(shape)))
    count = kind.size_bytes(int(np.prod(shape)))
    data = generator.integers(0, 2 if kind.name == "BOOL" else 256, count).astype(np.uint8).tobytes()
    tensor = TensorProto(name=name, data_type=kind.onnx, dims=shape, raw_data=data)
    if draw(st.booleans()):
        return tensor
    values = numpy_helper.to_array(tensor)
    if kind.bits < 8:
        tensor.ClearField("raw_data")
        tensor.int32_data.extend(data)
        return tensor
    if kind.onnx >= 16 or kind.name == "FP16":
        tensor.ClearField("raw_data")
        tensor.int32_data.extend(np.frombuffer(data, np.uint8 if kind.bits == 8 else np.uint16).tolist())
        return tensor
    return helper.make_tensor(name, kind.onnx, shape, values.ravel().tolist())


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """A model with tensors as initializers, as constants, and in bodies and functions."""
    weights = [draw(stored_tensors(f"w{index}")) for index in range(draw(st.integers(0, 3)))]
    nodes = [helper.make_node("Identity", [tensor.name], [f"y_{tensor.name}"]) for tensor in weights]
    nodes.append(helper.make_node("Constant", [], ["k"], value=draw(stored_tensors(""))))
    inner = helper.make_node("Constant", [], ["b"], value=draw(stored_tensors("")))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("b", "k")]
    body = helper.make_graph([inner], "body", [], outputs[:1], [draw(stored_tensors("v"))])
    nodes.append(helper.make_node("If", ["c"], ["i"], then_branch=body, else_branch=body))
    function = helper.make_function("local", "f", [], ["b"], [inner], [helper.make_opsetid("", 21)])
    nodes.append(helper.make_node("f", [], ["g"], domain="local"))
    inputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", inputs, outputs[1:], weights)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[function])


@given(models(), st.booleans())
def test_the_structure_of_any_model_is_the_model(
    tmp_path_factory: pytest.TempPathFactory, model: onnx.ModelProto, outside: bool
) -> None:
    folder = tmp_path_factory.mktemp("model")
    options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 100} if outside else {}
    onnx.save(model, folder / "model.onnx", **options)
    check_structure(folder / "model.onnx")


def described(data: bytes | None, path: Path, size: int) -> tuple[bytes, list[tuple[object, ...]]]:
    """What `rewrite` sees and makes of a model, from memory or from a file."""
    seen: list[tuple[object, ...]] = []

    def replace(tensor: StoredTensor) -> bytes | None:
        seen.append(
            (tensor.name, tensor.data_type, tensor.dims, tensor.strings, tensor.payload_in_place(), tensor.kept)
        )
        return None if tensor.payload_in_place() is None else b""

    if data is not None:
        return rewrite(MemorySource(data), Kind.MODEL, 0, size, replace), seen
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return rewrite(FileSource(descriptor, size), Kind.MODEL, 0, size, replace), seen
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("window", [1, 20, 33, 100, 4096])
@given(models())
def test_windows_of_any_size_see_what_memory_sees(
    tmp_path_factory: pytest.TempPathFactory, window: int, model: onnx.ModelProto
) -> None:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(model.SerializeToString())
    data = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_SMALLEST_WINDOW", window)
        patch.setattr(source, "_LARGEST_WINDOW", 2 * window)
        assert described(None, path, len(data)) == described(data, path, len(data))


@given(models())
def test_small_tensors_are_checked_as_large_ones_are(model: onnx.ModelProto) -> None:
    for tensor in tensors(model):
        data = tensor.SerializeToString()
        stored = read_stored_tensor(MemorySource(data), 0, len(data))
        assert (stored.name, stored.data_type, stored.dims) == (tensor.name, tensor.data_type, list(tensor.dims))
