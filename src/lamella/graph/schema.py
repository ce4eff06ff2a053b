"""Field numbers of onnx.proto that Lamella reads, and where messages nest.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Names follow that file.
"""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """Messages in which a tensor can be found."""

    MODEL = "ModelProto"
    GRAPH = "GraphProto"
    NODE = "NodeProto"
    ATTRIBUTE = "AttributeProto"
    FUNCTION = "FunctionProto"
    TRAINING = "TrainingInfoProto"
    SPARSE = "SparseTensorProto"
    TENSOR = "TensorProto"


NESTED: dict[Kind, dict[int, Kind]] = {
    Kind.MODEL: {7: Kind.GRAPH, 20: Kind.TRAINING, 25: Kind.FUNCTION},
    Kind.GRAPH: {1: Kind.NODE, 5: Kind.TENSOR, 15: Kind.SPARSE},
    Kind.NODE: {5: Kind.ATTRIBUTE},
    Kind.ATTRIBUTE: {
        5: Kind.TENSOR,
        6: Kind.GRAPH,
        10: Kind.TENSOR,
        11: Kind.GRAPH,
        22: Kind.SPARSE,
        23: Kind.SPARSE,
    },
    Kind.FUNCTION: {7: Kind.NODE, 11: Kind.ATTRIBUTE},
    Kind.TRAINING: {1: Kind.GRAPH, 2: Kind.GRAPH},
    Kind.SPARSE: {1: Kind.TENSOR, 2: Kind.TENSOR},
    Kind.TENSOR: {},
}
"""Kind of the message in each field, for every field through which a tensor can be reached."""

SINGULAR: dict[Kind, frozenset[int]] = {
    Kind.MODEL: frozenset({7}),
    Kind.ATTRIBUTE: frozenset({5, 6, 22}),
    Kind.TRAINING: frozenset({1, 2}),
    Kind.SPARSE: frozenset({1, 2}),
}
"""Those of `NESTED` that may come once. Protobuf merges a second one into the first: half a tensor in each."""


class Model:
    """ModelProto."""

    IR_VERSION, PRODUCER_NAME, PRODUCER_VERSION, GRAPH, OPSET_IMPORT = 1, 2, 3, 7, 8
    METADATA_PROPS, TRAINING_INFO, FUNCTIONS = 14, 20, 25


class Graph:
    """GraphProto."""

    NODE, NAME, INITIALIZER, INPUT, OUTPUT, VALUE_INFO = 1, 2, 5, 11, 12, 13
    QUANTIZATION_ANNOTATION, SPARSE_INITIALIZER = 14, 15


class Node:
    """NodeProto."""

    INPUT, OUTPUT, NAME, OP_TYPE, ATTRIBUTE, DOMAIN, OVERLOAD = 1, 2, 3, 4, 5, 7, 8


class Attribute:
    """AttributeProto."""

    NAME, INT, T, G, INTS, TENSORS, GRAPHS, TYPE = 1, 3, 5, 6, 8, 10, 11, 20


class Function:
    """FunctionProto."""

    NAME, NODE, DOMAIN, ATTRIBUTE_PROTO, OVERLOAD = 1, 7, 10, 11, 13


class Tensor:
    """TensorProto."""

    DIMS, DATA_TYPE, SEGMENT, FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA = 1, 2, 3, 4, 5, 6, 7
    NAME, RAW_DATA, DOUBLE_DATA, UINT64_DATA, EXTERNAL_DATA, DATA_LOCATION = 8, 9, 10, 11, 13, 14


class Sparse:
    """SparseTensorProto."""

    VALUES, INDICES, DIMS = 1, 2, 3


class Entry:
    """StringStringEntryProto."""

    KEY, VALUE = 1, 2


class OperatorSetId:
    """OperatorSetIdProto."""

    DOMAIN, VERSION = 1, 2


class ValueInfo:
    """ValueInfoProto."""

    NAME, TYPE = 1, 2


class Type:
    """TypeProto and the messages in it."""

    TENSOR, SEQUENCE, MAP, OPAQUE, SPARSE_TENSOR, OPTIONAL = 1, 4, 5, 7, 8, 9
    ELEM_TYPE, SHAPE = 1, 2
    SHAPE_DIM, DIM_VALUE, DIM_PARAM = 1, 1, 2
