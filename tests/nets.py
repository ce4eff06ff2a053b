"""One small network in Caffe's, TensorFlow's and ONNX's form, with the same weights. Each builder returns a path.

`image` through a convolution, ReLU, pooling over each 2x2, and a matrix to `scores`, with Softmax: FP32[1, 3, 8, 8] to
FP32[1, 5]. TensorFlow has its image as [1, 8, 8, 3].
"""

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper
from tests import models
from tests.wire import VARINT, entry, message, number, tag

CHANNELS, SIZE, KERNELS, CLASSES = 3, 8, 4, 5
_random = np.random.default_rng(3)
KERNEL = _random.standard_normal((KERNELS, CHANNELS, 3, 3)).astype(np.float32)
SHIFT = _random.standard_normal(KERNELS).astype(np.float32)
DENSE = _random.standard_normal((CLASSES, KERNELS * SIZE * SIZE // 4)).astype(np.float32) / 8
IMAGE = _random.standard_normal((1, CHANNELS, SIZE, SIZE)).astype(np.float32)


def onnx(path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "shift"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense"], ["dense_out"], transB=1),
        helper.make_node("Softmax", ["dense_out"], ["scores"], axis=1),
    ]
    weights = {"kernel": KERNEL, "shift": SHIFT, "dense": DENSE}
    inputs = [models.floats("image", [1, CHANNELS, SIZE, SIZE])]
    outputs = [models.floats("scores", [1, CLASSES])]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    return models.save(path, helper.make_graph(nodes, "net", inputs, outputs, initializers))


_PROTOTXT = """
name: "net"  # what follows is Caffe's text form
layer { name: "entrance" type: "Input" top: "image" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "conv" type: "Convolution" bottom: "image" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: MAX, kernel_size: 2; stride: 2 }
}
layer {
  name: 'dense' type: "InnerProduct" bottom: "pool" top: "dense"
  inner_product_param { num_output: 5 bias_term: false }
}
layer { name: "last" type: "Softmax" bottom: "dense" top: "scores" }
"""


def caffe(path: Path) -> Path:
    """A `.prototxt`, and a `.caffemodel` beside it (caffe.proto: NetParameter, LayerParameter, BlobProto)."""
    path.write_text(_PROTOTXT)
    content = message(1, "net") + b"".join(
        message(100, message(1, name), message(2, kind), *(message(7, _blob(value)) for value in values))
        for name, kind, values in (("conv", "Convolution", [KERNEL, SHIFT]), ("dense", "InnerProduct", [DENSE]))
    )
    path.with_suffix(".caffemodel").write_bytes(content)
    return path


def _blob(value: np.ndarray) -> bytes:
    return message(5, value.tobytes()) + message(7, *(number(1, size) for size in value.shape))


FLOAT, INT32 = 1, 3  # tensorflow/core/framework/types.proto


def tensorflow(path: Path, *, head: bool = True) -> Path:
    """A frozen graph (graph.proto, node_def.proto, attr_value.proto); without its `head`, it gives `pool`."""
    pooling = [_list("ksize", 1, 2, 2, 1), _list("strides", 1, 2, 2, 1), _attribute("padding", message(2, "VALID"))]
    transposed = KERNEL.transpose(2, 3, 1, 0)
    rows = DENSE.reshape(CLASSES, KERNELS, SIZE // 2, SIZE // 2).transpose(2, 3, 1, 0).reshape(-1, CLASSES)
    nodes = [
        _node("image", "Placeholder", _type("dtype"), _attribute("shape", message(7, _shape(1, SIZE, SIZE, CHANNELS)))),
        _constant("kernel", transposed),
        _constant("shift", SHIFT),
        _node(
            *("conv", "Conv2D", _type(), _list("strides", 1, 1, 1, 1), _attribute("padding", message(2, "SAME"))),
            *(_attribute("data_format", message(2, "NHWC")),),
            inputs=("image", "kernel"),
        ),
        _node("biased", "BiasAdd", _type(), _attribute("data_format", message(2, "NHWC")), inputs=("conv", "shift")),
        _node("relu", "Relu", _type(), inputs=("biased",)),
        _node("pool", "MaxPool", _type(), *pooling, _attribute("data_format", message(2, "NHWC")), inputs=("relu",)),
    ]
    if head:
        nodes += [
            _constant("size", np.int32([-1, rows.shape[0]])),
            _node("flat", "Reshape", _type(), _type("Tshape", INT32), inputs=("pool", "size")),
            _constant("dense", rows),
            _node("dense_out", "MatMul", _type(), inputs=("flat", "dense")),
            _node("scores", "Softmax", _type(), inputs=("dense_out",)),
        ]
    path.write_bytes(b"".join(message(1, node) for node in nodes) + message(4, number(1, 1087)))
    return path


def _node(name: str, op: str, *attributes: bytes, inputs: tuple[str, ...] = ()) -> bytes:
    return b"".join((message(1, name), message(2, op), *(message(3, given) for given in inputs), *attributes))


def _constant(name: str, value: np.ndarray) -> bytes:
    kind = INT32 if value.dtype == np.int32 else FLOAT
    tensor = number(1, kind) + message(2, _shape(*value.shape)) + message(4, np.ascontiguousarray(value).tobytes())
    return _node(name, "Const", _type("dtype", kind), _attribute("value", message(8, tensor)))


def _attribute(key: str, value: bytes) -> bytes:
    return entry(5, key, value)


def _type(key: str = "T", kind: int = FLOAT) -> bytes:
    return _attribute(key, tag(6, VARINT) + bytes([kind]))


def _list(key: str, *values: int) -> bytes:
    return _attribute(key, message(1, *(number(3, value) for value in values)))


def _shape(*sizes: int) -> bytes:
    return b"".join(message(2, number(1, size)) for size in sizes)
