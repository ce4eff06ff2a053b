"""Types and shapes of every value of a graph.

Four sources, each asked only for what those before it do not know: the model itself, ONNX's shape inference, ONNX
Runtime's (which knows contrib and custom operators too), and in `planner.sizes` a run of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lamella.engines.base import EngineOptions
from lamella.errors import EngineError
from lamella.graph.loadable import loadable
from lamella.graph.model import Model, Value
from lamella.graph.protobuf import LEN, encode_len, fields, len_prefix
from lamella.graph.schema import Graph as GraphField
from lamella.graph.schema import Model as ModelField
from lamella.graph.schema import ValueInfo
from lamella.graph.value_types import read_ort_type, read_value, tensor_value
from lamella.tensors import TensorSpec, datatype


def infer_values(model: Model, *, custom_ops: Sequence[str | Path] = ()) -> dict[str, Value]:
    """The type of every value of the main graph that anything knows, by name.

    Reads no weights. Runs ONNX's shape inference only if the model leaves a type or a rank out. `custom_ops` are shared
    libraries that know the types of their operators.
    """
    values = _declared(model)
    wanted = [name for node in model.graph.nodes for name in node.outputs if name]
    if all(_is_known(values.get(name)) for name in wanted):
        return values
    _merge(values, _from_onnx(model))
    untyped = [name for name in wanted if name not in values or values[name].type is None]
    if untyped:
        _merge(values, _from_onnx_runtime(model, untyped, custom_ops))
    return values


def _is_known(value: Value | None) -> bool:
    """Whether a value's type says all that planning needs: that it is no tensor, or a tensor's datatype and rank."""
    if value is None or value.type is None:
        return False
    return value.type.kind != "tensor" or (value.type.is_tensor and value.type.shape is not None)


def _declared(model: Model) -> dict[str, Value]:
    graph = model.graph
    values = {
        name: tensor_value(name, weight.datatype, weight.shape)
        for name, weight in graph.initializers.items()
        if not weight.sparse
    }
    for value in (*graph.values.values(), *graph.outputs, *graph.inputs):
        if value.type is not None:
            values[value.name] = value
    return values


def _merge(values: dict[str, Value], found: Iterable[Value]) -> None:
    for value in found:
        if value.type is not None and not _is_known(values.get(value.name)):
            values[value.name] = value


def _from_onnx(model: Model) -> list[Value]:
    """ONNX's own inference over the structure; nothing where it fails, which it may on valid models (onnx #5444)."""
    import onnx.shape_inference

    try:
        inferred = onnx.shape_inference.infer_shapes(model.structure, data_prop=True).SerializeToString()
    except Exception:  # noqa: BLE001 - it raises many kinds, for models that run; the next source is asked then
        return []
    return [
        read_value(inferred, start, end)
        for number, wire, _, body, stop in fields(inferred, 0, len(inferred))
        if number == ModelField.GRAPH and wire == LEN
        for inner, kind, _, start, end in fields(inferred, body, stop)
        if inner in (GraphField.VALUE_INFO, GraphField.OUTPUT) and kind == LEN
    ]


def _from_onnx_runtime(model: Model, names: list[str], custom_ops: Sequence[str | Path]) -> list[Value]:
    """Load the structure with `names` as further outputs and read their types off the session."""
    from lamella.engines.onnxruntime import OnnxRuntimeEngine

    libraries = tuple(Path(library) for library in custom_ops)
    options = EngineOptions(optimization="none", low_memory=True, custom_ops=libraries)
    data, folder = with_outputs(model, [encode_len(ValueInfo.NAME, name) for name in names])
    try:
        session = OnnxRuntimeEngine().load(data, options, folder=folder)
    except EngineError:
        return []
    found = [_value_of(spec) for spec in session.outputs]
    session.close()
    return found


def _value_of(spec: TensorSpec) -> Value:
    if "(" in spec.datatype:  # ONNX Runtime's notation, for what is no tensor
        return Value(spec.name, read_ort_type(spec.datatype), b"")
    return tensor_value(spec.name, datatype(spec.datatype).onnx, spec.shape)


def with_outputs(model: Model, protos: Iterable[bytes]) -> tuple[bytes, Path]:
    """The structure with further outputs, given as ValueInfoProtos, and the folder that its references start from."""
    data = model.structure
    added = b"".join(encode_len(GraphField.OUTPUT, proto) for proto in protos)
    pieces: list[bytes] = []
    for number, wire, tag_start, body, stop in fields(data, 0, len(data)):
        if number == ModelField.GRAPH and wire == LEN:
            pieces += [len_prefix(number, stop - body + len(added)), data[body:stop], added]
        else:
            pieces.append(data[tag_start:stop])
    return loadable(model, b"".join(pieces))
