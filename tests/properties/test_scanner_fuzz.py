"""Whatever is done to a model, it is read as every other reader reads it, or refused with an error of our own."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.hostile import FOUR
from tests.mutation import SEEDS, mutate

import lamella
from lamella.errors import LamellaError
from lamella.graph.model import Model

MOST_SECONDS = 2.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fuzz")
    (made / "w.bin").write_bytes(FOUR)
    return made


def loaded(folder: Path, data: bytes) -> Model | None:
    """The model, or None where it is refused."""
    (folder / "model.onnx").write_bytes(data)
    started = time.process_time()
    try:
        return lamella.load(folder / "model.onnx")
    except LamellaError as error:
        if not (error.message and error.hint):
            pytest.fail(f"an error without a hint: {error}")
        return None
    finally:
        assert time.process_time() - started < MOST_SECONDS


def tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every TensorProto in a message, however deep."""
    if isinstance(message, onnx.TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if isinstance(value, list) or hasattr(value, "append") else [value]:
                yield from tensors(inner)


def check_agreement(model: Model, data: bytes) -> None:
    """Protobuf reads the same names from the file, and from the structure no reference that was not checked."""
    try:
        whole = onnx.ModelProto.FromString(data)
    except DecodeError:
        return  # ONNX Runtime will refuse it
    graph = whole.graph
    assert [value.name for value in model.graph.inputs] == [value.name for value in graph.input]
    assert [value.name for value in model.graph.outputs] == [value.name for value in graph.output]
    dense = [tensor.name for tensor in graph.initializer]
    sparse = [tensor.values.name for tensor in graph.sparse_initializer]
    assert sorted(model.graph.initializers) == sorted(dense + sparse)
    assert [node.op[1] for node in model.graph.nodes] == [node.op_type for node in graph.node]
    assert [list(node.inputs) for node in model.graph.nodes] == [list(node.input) for node in graph.node]
    assert model.ir_version == whole.ir_version
    for tensor in graph.initializer:
        weight = model.graph.initializers[tensor.name]
        assert (weight.datatype, list(weight.shape)) == (tensor.data_type, list(tensor.dims))
    for tensor in tensors(onnx.ModelProto.FromString(model.structure)):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        # One without a location in a place that is not read, such as training, is kept; ONNX Runtime refuses it.
        if tensor.data_location == onnx.TensorProto.EXTERNAL and "location" in entries:
            file = model.files[entries["location"]]
            assert int(entries["offset"]) + int(entries["length"]) <= file.size
            assert file.path.parent == model.path.parent.resolve()


@settings(max_examples=400)
@given(st.sampled_from(range(len(SEEDS))), st.integers(0, 1 << 32), st.integers(1, 4))
def test_changed_fields_are_read_as_protobuf_reads_them(folder: Path, seed: int, chance: int, times: int) -> None:
    data = mutate(SEEDS[seed], random.Random(chance), times)
    model = loaded(folder, data)
    if model is not None:
        check_agreement(model, data)


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_unchanged_models_are_read(folder: Path, seed: int) -> None:
    model = loaded(folder, SEEDS[seed])
    assert model is not None
    check_agreement(model, SEEDS[seed])


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.data())
def test_changed_bytes_are_read_or_refused(folder: Path, data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 5))):
        start = draw.draw(st.integers(0, len(changed)))
        end = draw.draw(st.integers(start, min(len(changed), start + 40)))
        changed[start:end] = draw.draw(st.binary(max_size=12) | st.just(bytes(changed[end : end + 30])))
    model = loaded(folder, bytes(changed))
    if model is not None:
        check_agreement(model, bytes(changed))


@given(st.sampled_from(SEEDS), st.floats(0, 1))
def test_a_truncated_model_is_read_or_refused(folder: Path, data: bytes, part: float) -> None:
    loaded(folder, data[: int(len(data) * part)])


@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_are_read_or_refused(folder: Path, data: bytes) -> None:
    loaded(folder, data)
