"""Quantised operators whose sums may overflow where a processor lacks VNNI.

On x86 with AVX2 or AVX-512 but without VNNI, ONNX Runtime multiplies UINT8 activations with INT8 weights by
`VPMADDUBSW`, which adds two products in 16 bits and saturates: 2 * 255 * 128 is above 32,767. Weights that use 7 bits
(`reduce_range`), whose values stay within -64 to 64, cannot overflow.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "When to use reduce-range and per-channel
quantization".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lamella.checking.report import Check, Verdict
from lamella.checking.setting import Setting
from lamella.checking.subject import Subject
from lamella.graph.model import Model, Node, Value, Weight
from lamella.graph.protobuf import fields
from lamella.graph.references import Range
from lamella.slicing.varints import decode_varints

SAFE = 64
"""Largest weight whose products cannot overflow: 2 * 255 * 64 = 32,640."""

SOURCE = "ONNX Runtime's documentation, Quantize ONNX Models, section on reduce-range"

_SLOTS = {
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "QGemm": (0, 3),
    "QAttention": (0, 1),
}
"""Operators that take quantised values: where the activation and the weight stand among their inputs."""

_DYNAMIC = {"DynamicQuantizeMatMul": 1, "DynamicQuantizeLSTM": 1}
"""Operators that quantise their activation to UINT8 themselves: where the weight stands."""

_FUSED = {"Conv", "Gemm", "MatMul"}
"""Operators that become quantised ones where both inputs come from DequantizeLinear."""

_UINT8, _INT8 = 2, 3
_BLOCK_BYTES = 1 << 22


def saturation_check(setting: Setting, part: Subject) -> Iterator[Check]:
    """The largest weight that meets UINT8 activations. Reads the INT8 weights of such operators, in small blocks.

    At most a warning, since no platform says whether its x86 processors have VNNI.
    Nothing is said where there are none, and on arm64, whose instructions add up in 32 bits.
    """
    if setting.architecture != "x86_64":
        return
    users = _users(part)
    if not users:
        return
    found = [(node, None if weight is None else largest_weight(part.model, weight)) for node, weight in users]
    known = [(size, node) for node, size in found if size is not None]
    full = [node for size, node in known if size > SAFE]
    unread = len(found) - len(known)
    verdict: Verdict = "warning" if full or unread else "ok"
    detail = f"{len(found):,} operators multiply UINT8 with INT8"
    if full:
        detail += f", {len(full):,} of them with weights beyond {SAFE}, the first is {full[0].label}"
    if unread:
        detail += f"; {unread:,} have weights that cannot be read"
    other = ", or choose arm64" if "arm64" in setting.platform.architectures else ""
    hint = f"quantise with `reduce_range`, or to UINT8 weights{other}; without VNNI, results may saturate"
    yield Check(
        "saturation",
        f"INT8 weights{part.label}, largest",
        max((size for size, _ in known), default=None),
        SAFE,
        "",
        verdict,
        "measured",
        SOURCE,
        detail,
        None if verdict == "ok" else hint,
        part.index,
    )


def _users(part: Subject) -> list[tuple[Node, Weight | None]]:
    """The nodes that multiply UINT8 with INT8, each with its weight, if that is an initializer."""
    graph, values = part.model.graph, part.values[1]
    maker = part.flow.maker
    found = []
    for node in graph.nodes:
        pair = _operands(node, graph.nodes, maker)
        if pair is None:
            continue
        activation, weight = pair
        if _kind(values, weight) == _INT8 and (activation is None or _kind(values, activation) == _UINT8):
            found.append((node, graph.initializers.get(weight)))
    return found


def _operands(node: Node, nodes: Sequence[Node], maker: Mapping[str, int]) -> tuple[str | None, str] | None:
    """Names of the quantised activation, where it is not the operator's own, and weight of a node; None without."""
    operator, inputs = node.op[1], node.inputs
    if operator in _SLOTS and len(inputs) > max(_SLOTS[operator]):
        activation, weight = _SLOTS[operator]
        return inputs[activation], inputs[weight]
    if operator in _DYNAMIC and len(inputs) > _DYNAMIC[operator]:
        return None, inputs[_DYNAMIC[operator]]
    if operator in _FUSED and len(inputs) > 1:
        behind = [nodes[maker[name]] for name in inputs[:2] if name in maker]
        if len(behind) == 2 and all(source.op[1] == "DequantizeLinear" for source in behind):
            return behind[0].inputs[0], behind[1].inputs[0]
    return None


def _kind(values: Mapping[str, Value], name: str) -> int:
    value = values.get(name)
    return 0 if value is None or value.type is None else value.type.datatype


def largest_weight(model: Model, weight: Weight) -> int | None:
    """The largest absolute value of an INT8 weight; None where it is stored in a way that is not read here."""
    if weight.sparse:
        return None
    if weight.range is None:
        return _largest_inline(model, weight)
    if weight.range.is_plain:
        return max((_magnitude(np.frombuffer(block, np.int8)) for block in _blocks(model, weight.range)), default=0)
    return _largest_varint(model, weight.range) if weight.range.coding == "int32_data" else None


def _largest_inline(model: Model, weight: Weight) -> int:
    from onnx import TensorProto, numpy_helper

    _, _, _, start, end = next(fields(model.structure, *weight.span))
    return _magnitude(numpy_helper.to_array(TensorProto.FromString(model.structure[start:end])))


def _largest_varint(model: Model, place: Range) -> int:
    largest, rest = 0, b""
    for block in _blocks(model, place):
        numbers, used = decode_varints(rest + block)
        rest = (rest + block)[used:]
        largest = max(largest, _magnitude(numbers.astype(np.uint8).view(np.int8)))
    return largest


def _blocks(model: Model, place: Range) -> Iterator[bytes]:
    with model.files[place.location].path.open("rb") as file:
        for start in range(0, place.length, _BLOCK_BYTES):
            yield os.pread(file.fileno(), min(_BLOCK_BYTES, place.length - start), place.offset + start)


def _magnitude(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> int:
    return int(np.abs(values.astype(np.int16)).max(initial=0))
