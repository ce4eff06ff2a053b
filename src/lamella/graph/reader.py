"""The reader: from a structure to a Model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lamella.errors import MalformedModelError
from lamella.graph.body import IN_FUNCTION, NodeReader
from lamella.graph.model import Function, Model, OpId, Weight
from lamella.graph.protobuf import LEN, VARINT, fields, signed, text
from lamella.graph.scanner import Structure, scan
from lamella.graph.schema import Function as FunctionField
from lamella.graph.schema import Graph as GraphField
from lamella.graph.schema import Model as ModelField
from lamella.graph.schema import OperatorSetId
from lamella.graph.stored import Span, read_entry
from lamella.graph.validity import check
from lamella.graph.value_types import read_value
from lamella.graph.weights import read_weight


def load(path: str | Path) -> Model:
    """Read a model's structure; its weights stay on disk.

    Reads what is not a weight (0.1 to 2 MB for models of up to 5 GB); memory does not grow with the weights.

    Args:
        path: An `.onnx` file. External data is found beside it.

    Raises:
        MalformedModelError: The file is broken, or contradicts itself.
        UnsafeModelError: Its external data lies outside its folder.
        UnsupportedModelError: It is in another format, or uses what no runtime supports.
    """
    path = Path(path)
    return read(path, scan(path))


def read(path: Path, structure: Structure) -> Model:
    """Read a structure into a Model, and check that it is consistent."""
    model = _Reader(path, structure).read()
    check(model)
    return model


class _Reader:
    def __init__(self, path: Path, structure: Structure) -> None:
        self._data = structure.data
        self._model = Model(path, structure.data, structure.files)
        self._nodes = NodeReader(structure.data)
        self._producer: dict[int, str] = {}

    def read(self) -> Model:
        model, data = self._model, self._data
        graphs: list[Span] = []
        header: list[bytes] = []
        for number, wire, tag_start, value, stop in fields(data, 0, len(data)):
            if number == ModelField.GRAPH and wire == LEN:
                graphs.append((value, stop))
                continue
            if number == ModelField.FUNCTIONS and wire == LEN:
                self._function((value, stop), (tag_start, stop))
                continue
            if number == ModelField.TRAINING_INFO:
                continue
            header.append(data[tag_start:stop])
            if number == ModelField.IR_VERSION and wire == VARINT:
                model.ir_version = signed(value)
            elif wire == LEN:
                self._header_field(number, value, stop)
        if len(graphs) != 1:
            raise MalformedModelError(
                f"the file has {len(graphs)} graphs instead of one", hint="it is no ONNX model, or a damaged one"
            )
        model.header = b"".join(header)
        model.producer = " ".join(filter(None, (self._producer[number] for number in sorted(self._producer))))
        self._graph(*graphs[0])
        return model

    def _header_field(self, number: int, start: int, end: int) -> None:
        model, data = self._model, self._data
        if number in (ModelField.PRODUCER_NAME, ModelField.PRODUCER_VERSION):
            self._producer[number] = text(data, start, end)
        elif number == ModelField.OPSET_IMPORT:
            domain, version = _read_opset(data, start, end)
            model.opset_imports[domain] = version
        elif number == ModelField.METADATA_PROPS:
            key, entry = read_entry(data[start:end], start)
            model.metadata[key] = entry

    def _graph(self, start: int, end: int) -> None:
        graph, data = self._model.graph, self._data
        header: list[bytes] = []
        read_node = self._nodes.read
        for number, wire, tag_start, value, stop in fields(data, start, end):
            if wire != LEN:
                continue
            if number == GraphField.NODE:
                graph.nodes.append(read_node(len(graph.nodes), (value, stop), tag_start))
            elif number == GraphField.INITIALIZER:
                self._initializer(read_weight(self._nodes.source, value, stop), (tag_start, stop))
            elif number == GraphField.VALUE_INFO:
                inner = read_value(data, value, stop)
                graph.values[inner.name] = inner
            elif number == GraphField.INPUT:
                graph.inputs.append(read_value(data, value, stop))
            elif number == GraphField.OUTPUT:
                graph.outputs.append(read_value(data, value, stop))
            elif number == GraphField.SPARSE_INITIALIZER:
                self._initializer(self._sparse(value, stop), (tag_start, stop))
            elif number == GraphField.QUANTIZATION_ANNOTATION:
                graph.annotations[_annotated(data, value, stop)] = (tag_start, stop)
            elif number == GraphField.NAME:
                graph.name = text(data, value, stop)
            else:
                header.append(data[tag_start:stop])
        graph.header = b"".join(header)

    def _initializer(self, weight: Weight, span: Span) -> None:
        initializers = self._model.graph.initializers
        if not weight.name:
            raise MalformedModelError(f"an initializer at byte {span[0]} has no name", hint="export the model again")
        if weight.name in initializers:
            raise MalformedModelError(f"two initializers are named `{weight.name}`", hint="export the model again")
        weight.span = span
        initializers[weight.name] = weight

    def _sparse(self, start: int, end: int) -> Weight:
        """One weight for a sparse initializer: named by its values, as large as values and indices."""
        values, indices = self._nodes.sparse(start, end)
        ranges = [part.range for part in (values, indices) if part.range is not None]
        ranges.sort(key=lambda place: place.is_plain)  # what must be decoded says so for both
        place = ranges[0] if ranges else None
        nbytes = values.nbytes + indices.nbytes
        return Weight(values.name, values.datatype, values.shape, nbytes, place, sparse=True)

    def _function(self, body: Span, span: Span) -> None:
        data = self._data
        name = domain = overload = ""
        calls: Counter[OpId] = Counter()
        weights: list[Weight] = []
        for number, wire, tag_start, value, stop in fields(data, *body):
            if wire != LEN:
                continue
            if number == FunctionField.NAME:
                name = text(data, value, stop)
            elif number == FunctionField.DOMAIN:
                domain = text(data, value, stop)
            elif number == FunctionField.OVERLOAD:
                overload = text(data, value, stop)
            elif number == FunctionField.NODE:
                node = self._nodes.read(IN_FUNCTION, (value, stop), tag_start)
                calls[node.op] += 1
                calls.update(node.calls)
                weights += node.weights
            elif number == FunctionField.ATTRIBUTE_PROTO:
                weights += self._nodes.attribute(value, stop)
        op = ("" if domain == "ai.onnx" else domain, name, overload)
        if not name or op in self._model.functions:
            raise MalformedModelError(
                f"two functions are called `{name}`" if name else f"a function at byte {span[0]} has no name",
                hint="export the model again",
            )
        self._model.functions[op] = Function(op, calls, weights, span)


def _read_opset(data: bytes, start: int, end: int) -> tuple[str, int]:
    domain, version = "", 0
    for number, wire, _, value, stop in fields(data, start, end):
        if number == OperatorSetId.DOMAIN and wire == LEN:
            domain = text(data, value, stop)
        elif number == OperatorSetId.VERSION and wire == VARINT:
            version = signed(value)
    return "" if domain == "ai.onnx" else domain, version


def _annotated(data: bytes, start: int, end: int) -> str:
    found = ""
    for number, wire, _, value, stop in fields(data, start, end):
        if number == 1 and wire == LEN:
            found = text(data, value, stop)
    return found
