"""ONNX's own nouns, read from a structure: Model, Graph, Node, Value, and the weights, which stay on disk.

Nodes and weights keep the span of their own bytes in the structure, so that a slice is written by joining spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lamella.graph.files import DataFile
from lamella.graph.references import Range
from lamella.graph.stored import Span
from lamella.tensors import Dimension, TensorSpec, datatype

OpId = tuple[str, str, str]
"""Domain, operator type and overload: what a node calls and a model-local function is called by."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of a value.

    Attributes:
        kind: `tensor`, `sparse_tensor`, `sequence`, `map`, `optional` or `opaque`.
        datatype: Number of `TensorProto.DataType` of a tensor; 0 where unknown or no tensor.
        shape: A tensor's dimensions; None where the rank is unknown.
    """

    kind: str
    datatype: int = 0
    shape: tuple[Dimension, ...] | None = None

    @property
    def is_tensor(self) -> bool:
        """Whether it is a dense tensor of known datatype: what may cross a cut."""
        return self.kind == "tensor" and self.datatype != 0


@dataclass(slots=True)
class Value:
    """A named value of the graph.

    Attributes:
        name: Its name.
        type: Its type, or None where the model does not say.
        proto: Its serialised ValueInfoProto.
    """

    name: str
    type: ValueType | None
    proto: bytes

    @property
    def spec(self) -> TensorSpec:
        """Name, datatype and shape as a user sees them."""
        known = self.type
        if known is None:
            return TensorSpec(self.name, "unknown", None)
        if not known.is_tensor:
            return TensorSpec(self.name, known.kind, known.shape)
        return TensorSpec(self.name, datatype(known.datatype).name, known.shape)


@dataclass(slots=True)
class Weight:
    """An initializer, or a large tensor inside a node.

    Attributes:
        name: Its name; empty inside an attribute.
        datatype: Number of `TensorProto.DataType`.
        shape: Its dimensions.
        nbytes: Size of its elements in bytes.
        range: Where they lie, or None where they are small and part of the structure.
        span: Its field in the structure, tag included (initializers only).
        sparse: Whether it is a sparse initializer.
    """

    name: str
    datatype: int
    shape: tuple[int, ...]
    nbytes: int
    range: Range | None
    span: Span = (0, 0)
    sparse: bool = False


@dataclass(slots=True)
class Node:
    """One operator of the main graph.

    Attributes:
        index: Position in the file.
        op: Domain, operator type, overload.
        name: Its name, often empty.
        inputs: Names of its inputs; empty strings where an optional one is left out.
        outputs: Names of its outputs, likewise.
        captures: Names from outside that its subgraphs use.
        calls: Every operator that its subgraphs use, and in how many places.
        weights: Large tensors inside it: constants, also in its subgraphs.
        span: Its field in the structure, tag included.
        uses: Every value that must be there before it runs, each once.
    """

    index: int
    op: OpId
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captures: tuple[str, ...]
    calls: Mapping[OpId, int]
    weights: Sequence[Weight]
    span: Span
    uses: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Derive `uses`, which planning asks for again and again."""
        self.uses = tuple(dict.fromkeys(filter(None, (*self.inputs, *self.captures))))

    @property
    def label(self) -> str:
        """Its name for messages: operator, and name or position."""
        return f"{self.op[1]} {self.name!r}" if self.name else f"{self.op[1]} (node {self.index})"


@dataclass(slots=True)
class Function:
    """A model-local function.

    Attributes:
        op: What nodes call it by.
        calls: Every operator that its body uses, and in how many places.
        weights: Large tensors inside its body.
        span: Its field in the structure, tag included.
    """

    op: OpId
    calls: Mapping[OpId, int]
    weights: Sequence[Weight]
    span: Span


@dataclass(slots=True)
class Graph:
    """The main graph.

    Attributes:
        name: Its name.
        nodes: Its nodes, in file order.
        inputs: Its inputs, in order, with initializers that may be overridden.
        outputs: Its outputs, in order.
        initializers: Its initializers, dense and sparse, by name.
        values: What the model says of inner values (`value_info`), by name.
        annotations: Span of the quantisation annotation of a tensor, by the tensor's name.
        header: Serialised fields that every slice keeps (metadata).
    """

    name: str = ""
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    initializers: dict[str, Weight] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    annotations: dict[str, Span] = field(default_factory=dict)
    header: bytes = b""

    @property
    def required_inputs(self) -> list[Value]:
        """Inputs that no initializer gives a default."""
        return [value for value in self.inputs if value.name not in self.initializers]


@dataclass(slots=True)
class Model:
    """A model whose weights stay on disk.

    Attributes:
        path: The `.onnx` file.
        structure: Its bytes without weights; spans point into them.
        files: The files that its weights lie in, by location.
        ir_version: Version of the ONNX format.
        producer: Name and version of the program that wrote it.
        opset_imports: Operator set version by domain; the standard domain is the empty string.
        graph: Its main graph.
        functions: Its model-local functions.
        metadata: Its `metadata_props`.
        header: Serialised fields that every slice keeps: versions, opsets, metadata.
    """

    path: Path
    structure: bytes
    files: dict[str, DataFile]
    ir_version: int = 0
    producer: str = ""
    opset_imports: dict[str, int] = field(default_factory=dict)
    graph: Graph = field(default_factory=Graph)
    functions: dict[OpId, Function] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    header: bytes = b""

    @property
    def optional_inputs(self) -> list[Value]:
        """Inputs whose default is an initializer. Before IR version 4 every initializer is an input, and a constant."""
        return [v for v in self.graph.inputs if v.name in self.graph.initializers] if self.ir_version >= 4 else []

    @property
    def weights(self) -> list[Weight]:
        """Every weight once: initializers, and large tensors inside nodes and functions."""
        inner = [weight for node in self.graph.nodes for weight in node.weights]
        inner += [weight for function in self.functions.values() for weight in function.weights]
        return [*self.graph.initializers.values(), *inner]

    @property
    def inner_weights(self) -> list[Weight]:
        """Large tensors in attributes, bodies and functions; not the values of `Constant` nodes of the main graph.

        ONNX Runtime refuses these, and only these, in a file with several hard links.
        """
        nodes = (node for node in self.graph.nodes if node.op != ("", "Constant", ""))
        inner = [weight for node in nodes for weight in node.weights]
        return inner + [weight for function in self.functions.values() for weight in function.weights]

    @property
    def weights_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(weight.nbytes for weight in self.weights)

    def functions_called(self, nodes: Iterable[Node]) -> list[OpId]:
        """The model-local functions that `nodes` need, through subgraphs and other functions too, in file order."""
        if not self.functions:
            return []
        waiting = [op for node in nodes for op in (node.op, *node.calls)]
        found: set[OpId] = set()
        while waiting:
            op = waiting.pop()
            if op in self.functions and op not in found:
                found.add(op)
                waiting += self.functions[op].calls
        return [op for op in self.functions if op in found]
