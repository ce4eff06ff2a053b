"""The graphs of the benchmarked models, in the form in which PyTorch's exporter writes them.

Convolutions have their batch normalisation folded in, linear layers are `MatMul` + `Add` in the transformers and
`Gemm` in the classifiers, GELU is spelt out with `Erf`, and every intermediate value has its `value_info`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from network import Network
from onnx import TensorProto

# What a transformer's sub-layers add to the residual stream, so that its tokens stay apart with random weights.
RESIDUAL_GAIN = 0.3


def mobilenet_v1() -> Network:
    """MobileNet-V1 (1.0, 224; Howard et al. 2017): 4.2 million parameters, 17 MB; depthwise convolutions."""
    net = Network("mobilenet-v1")
    x = net.input("image", TensorProto.FLOAT, ["batch", 3, 224, 224])
    x, channels = _clipped(net, _conv(net, x, "stem", 3, 32, kernel=3, stride=2)), 32
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for index, width in enumerate(widths):
        stride = 2 if index in (1, 3, 5, 11) else 1
        x = _conv(net, x, f"{index}.depthwise", channels, channels, kernel=3, stride=stride, group=channels)
        x = _clipped(net, _conv(net, _clipped(net, x), f"{index}.pointwise", channels, width, kernel=1))
        channels = width
    x = net.node("Flatten", net.node("GlobalAveragePool", x), axis=1)
    net.output(_gemm(net, x, "fc", channels, 1000), "logits", ["batch", 1000])
    return net


def _clipped(net: Network, x: str) -> str:
    """ReLU6."""
    return net.node("Clip", x, net.scalar(0.0), net.scalar(6.0))


def squeezenet() -> Network:
    """SqueezeNet 1.1: 1.2 million parameters, 5 MB; fire modules."""
    net = Network("squeezenet")
    x = net.input("image", TensorProto.FLOAT, ["batch", 3, 224, 224])
    x, channels = net.node("Relu", _conv(net, x, "stem", 3, 64, kernel=3, stride=2)), 64
    for index, squeezed in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if index in (0, 2, 4):
            x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        inner = net.node("Relu", _conv(net, x, f"fire{index}.squeeze", channels, squeezed, kernel=1))
        wide = [
            net.node("Relu", _conv(net, inner, f"fire{index}.expand{kernel}", squeezed, 4 * squeezed, kernel=kernel))
            for kernel in (1, 3)
        ]
        x, channels = net.node("Concat", *wide, axis=1), 8 * squeezed
    x = net.node("GlobalAveragePool", net.node("Relu", _conv(net, x, "classifier", channels, 1000, kernel=1)))
    net.output(net.node("Flatten", x, axis=1), "logits", ["batch", 1000])
    return net


def resnet18() -> Network:
    """ResNet-18: 11.7 million parameters, 47 MB."""
    net = Network("resnet18")
    x, channels = _resnet_stem(net), 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            x = _basic_block(net, x, f"layer{stage + 1}.{block}", channels, width, stride=stride)
            channels = width
    x = net.node("Flatten", net.node("GlobalAveragePool", x), axis=1)
    net.output(_gemm(net, x, "fc", channels, 1000), "logits", ["batch", 1000])
    return net


def _resnet_stem(net: Network) -> str:
    x = net.input("image", TensorProto.FLOAT, ["batch", 3, 224, 224])
    x = net.node("Relu", _conv(net, x, "stem", 3, 64, kernel=7, stride=2))
    return net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


def _basic_block(net: Network, x: str, name: str, channels: int, width: int, *, stride: int) -> str:
    y = net.node("Relu", _conv(net, x, f"{name}.conv1", channels, width, kernel=3, stride=stride))
    y = _conv(net, y, f"{name}.conv2", width, width, kernel=3, gain=0.5)
    if channels != width:
        x = _conv(net, x, f"{name}.downsample", channels, width, kernel=1, stride=stride, gain=0.7)
    return net.node("Relu", net.node("Add", y, x))


def resnet50() -> Network:
    """ResNet-50 (v1.5): 25.5 million parameters, 102 MB."""
    net = Network("resnet50")
    x, channels = _resnet_stem(net), 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = _bottleneck(net, x, f"layer{stage + 1}.{block}", channels, width, stride=stride)
            channels = 4 * width
    x = net.node("GlobalAveragePool", x)
    x = _gemm(net, net.node("Flatten", x, axis=1), "fc", channels, 1000)
    net.output(x, "logits", ["batch", 1000])
    return net


def _bottleneck(net: Network, x: str, name: str, channels: int, width: int, *, stride: int) -> str:
    y = net.node("Relu", _conv(net, x, f"{name}.conv1", channels, width, kernel=1))
    y = net.node("Relu", _conv(net, y, f"{name}.conv2", width, width, kernel=3, stride=stride))
    y = _conv(net, y, f"{name}.conv3", width, 4 * width, kernel=1, gain=0.5)
    if channels != 4 * width:
        x = _conv(net, x, f"{name}.downsample", channels, 4 * width, kernel=1, stride=stride, gain=0.7)
    return net.node("Relu", net.node("Add", y, x))


def _conv(  # noqa: PLR0913 - the sizes of a convolution
    net: Network,
    x: str,
    name: str,
    c_in: int,
    c_out: int,
    *,
    kernel: int,
    stride: int = 1,
    gain: float = 1.0,
    group: int = 1,
) -> str:
    """A convolution scaled so that it keeps the variance of rectified activations (He et al. 2015)."""
    scale = gain * math.sqrt(2 * group / (c_in * kernel * kernel))
    weight = net.weight(f"{name}.weight", (c_out, c_in // group, kernel, kernel), scale=scale)
    bias = net.weight(f"{name}.bias", (c_out,), scale=0.05)
    return net.node(
        "Conv", x, weight, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=group
    )


def _gemm(net: Network, x: str, name: str, c_in: int, c_out: int, *, gain: float = 1.0) -> str:
    weight = net.weight(f"{name}.weight", (c_out, c_in), scale=gain / math.sqrt(c_in))
    return net.node("Gemm", x, weight, net.weight(f"{name}.bias", (c_out,), scale=0.01), alpha=1.0, beta=1.0, transB=1)


def vgg19() -> Network:
    """VGG-19: 143.7 million parameters, 575 MB, of which 411 MB in one fully connected layer."""
    net = Network("vgg19")
    x, channels = net.input("image", TensorProto.FLOAT, ["batch", 3, 224, 224]), 3
    for stage, (layers, width) in enumerate(((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))):
        for layer in range(layers):
            x = net.node("Relu", _conv(net, x, f"features.{stage}.{layer}", channels, width, kernel=3))
            channels = width
        x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", x, axis=1)
    x = net.node("Relu", _gemm(net, x, "classifier.0", 25088, 4096, gain=math.sqrt(2)))
    x = net.node("Relu", _gemm(net, x, "classifier.3", 4096, 4096, gain=math.sqrt(2)))
    net.output(_gemm(net, x, "classifier.6", 4096, 1000), "logits", ["batch", 1000])
    return net


@dataclass(frozen=True)
class Transformer:
    """Sizes of a transformer.

    Attributes:
        hidden: Width of the residual stream.
        layers: Number of layers.
        heads: Attention heads.
        vocabulary: Rows of the token embedding.
        positions: Rows of the position embedding, the longest sequence.
    """

    hidden: int
    layers: int
    heads: int
    vocabulary: int
    positions: int


def bert(name: str, size: Transformer) -> Network:
    """A BERT encoder with its pooler: post-normalisation, bidirectional, an attention mask as input."""
    net = Network(name)
    ids = net.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    mask = net.input("attention_mask", TensorProto.INT64, ["batch", "sequence"])
    types = net.input("token_type_ids", TensorProto.INT64, ["batch", "sequence"])
    kinds = net.node("Gather", net.weight("embeddings.token_type", (2, size.hidden)), types, axis=0)
    x = net.node("Add", net.node("Add", _tokens(net, ids, size), kinds), _positions(net, ids, size))
    x = _layer_norm(net, x, "embeddings.norm", size)
    mask = net.node("Cast", net.node("Unsqueeze", mask, net.ints(1, 2)), to=TensorProto.FLOAT)
    bias = net.node("Mul", net.node("Sub", net.scalar(1.0), mask), net.scalar(float(np.finfo(np.float32).min)))
    for index in range(size.layers):
        layer = f"encoder.{index}"
        x = _layer_norm(net, net.node("Add", _attention(net, x, bias, layer, size), x), f"{layer}.norm1", size)
        x = _layer_norm(net, net.node("Add", _feed_forward(net, x, layer, size), x), f"{layer}.norm2", size)
    net.output(x, "last_hidden_state", ["batch", "sequence", size.hidden])
    first = net.node("Gather", "last_hidden_state", net.constant("zero", np.array(0, np.int64)), axis=1)
    pooled = net.node("Tanh", _linear(net, first, "pooler", size.hidden, size.hidden))
    net.output(pooled, "pooled", ["batch", size.hidden])
    return net


def decoder(name: str, size: Transformer) -> Network:
    """A GPT-2-like decoder without its head: pre-normalisation, one causal mask for all layers."""
    net = Network(name)
    ids = net.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    x = net.node("Add", _tokens(net, ids, size), _positions(net, ids, size))
    length = net.node("Slice", net.node("Shape", ids), net.ints(1), net.ints(2), net.ints(0))
    causal = net.constant("causal", np.tril(np.ones((1, 1, size.positions, size.positions), np.bool_)))
    both = net.node("Concat", length, length, axis=0)
    causal = net.node("Slice", causal, net.ints(0, 0), both, net.ints(2, 3))
    net.declare(causal, TensorProto.BOOL, [1, 1, "sequence", "sequence"])
    bias = net.node("Where", causal, net.scalar(0.0), net.scalar(float(np.finfo(np.float32).min)))
    for index in range(size.layers):
        layer = f"decoder.{index}"
        x = net.node("Add", x, _attention(net, _layer_norm(net, x, f"{layer}.norm1", size), bias, layer, size))
        x = net.node("Add", x, _feed_forward(net, _layer_norm(net, x, f"{layer}.norm2", size), layer, size))
    net.output(_layer_norm(net, x, "norm", size), "last_hidden_state", ["batch", "sequence", size.hidden])
    return net


def _tokens(net: Network, ids: str, size: Transformer) -> str:
    return net.node("Gather", net.weight("embeddings.tokens", (size.vocabulary, size.hidden)), ids, axis=0)


def _positions(net: Network, ids: str, size: Transformer) -> str:
    """Position embeddings of as many positions as the sequence has."""
    length = net.node("Slice", net.node("Shape", ids), net.ints(1), net.ints(2), net.ints(0))
    every = net.constant("position_ids", np.arange(size.positions, dtype=np.int64)[None])
    positions = net.node("Slice", every, net.ints(0), length, net.ints(1))
    net.declare(positions, TensorProto.INT64, [1, "sequence"])
    return net.node("Gather", net.weight("embeddings.positions", (size.positions, size.hidden)), positions, axis=0)


def _attention(net: Network, x: str, bias: str, name: str, size: Transformer) -> str:
    hidden, heads = size.hidden, size.heads
    split = net.ints(0, 0, heads, hidden // heads)
    projected = (_linear(net, x, f"{name}.{part}", hidden, hidden) for part in ("query", "key", "value"))
    q, k, v = (net.node("Reshape", value, split) for value in projected)
    q, k, v = (net.node("Transpose", t, perm=p) for t, p in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3])))
    scores = net.node("Div", net.node("MatMul", q, k), net.scalar(math.sqrt(hidden / heads)))
    weights = net.node("Softmax", net.node("Add", scores, bias), axis=-1)
    context = net.node("Transpose", net.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    context = net.node("Reshape", context, net.ints(0, 0, hidden))
    return _linear(net, context, f"{name}.output", hidden, hidden, gain=RESIDUAL_GAIN)


def _feed_forward(net: Network, x: str, name: str, size: Transformer) -> str:
    x = _linear(net, x, f"{name}.up", size.hidden, 4 * size.hidden)
    erf = net.node("Erf", net.node("Div", x, net.scalar(math.sqrt(2))))
    x = net.node("Mul", net.node("Mul", x, net.node("Add", erf, net.scalar(1.0))), net.scalar(0.5))
    return _linear(net, x, f"{name}.down", 4 * size.hidden, size.hidden, gain=RESIDUAL_GAIN)


def _linear(net: Network, x: str, name: str, c_in: int, c_out: int, *, gain: float = 1.0) -> str:
    product = net.node("MatMul", x, net.weight(f"{name}.weight", (c_in, c_out), scale=gain / math.sqrt(c_in)))
    return net.node("Add", net.weight(f"{name}.bias", (c_out,)), product)


def _layer_norm(net: Network, x: str, name: str, size: Transformer) -> str:
    weight = net.weight(f"{name}.weight", (size.hidden,), mean=1.0)
    return net.node("LayerNormalization", x, weight, net.weight(f"{name}.bias", (size.hidden,)), axis=-1, epsilon=1e-12)


def residual_chain(nodes: int, *, width: int) -> Network:
    """At least `nodes` nodes: blocks of MatMul, Add, Relu and a skip around them, and a longer skip around every 16."""
    net = Network(f"chain-{nodes}")
    x = far = net.input("x", TensorProto.FLOAT, ["batch", width])
    for index in range(-(-nodes * 16 // 65)):
        y = net.node("Relu", _linear(net, x, f"{index}", width, width, gain=RESIDUAL_GAIN))
        x = net.node("Add", y, x)
        if index % 16 == 15:
            x = far = net.node("Add", x, far)
    net.output(x, "y", ["batch", width])
    return net
