"""What comes after the encoder: hidden states, a task's head, or a sentence's embedding; as ONNX nodes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from lamella.converters.bert.graph import EncoderGraph
from lamella.converters.bert.pooling import Mode, Sentences
from lamella.tensors import TensorSpec

Outputs = list[tuple[TensorSpec, ir.Value]]
# As sentence-transformers has them.
MASKED_VALUE, SMALLEST_COUNT, SMALLEST_NORM = -1e9, 1e-9, 1e-12


def add_outputs(graph: EncoderGraph, hidden: ir.Value, sentences: Sentences) -> Outputs:
    """Add the nodes between the encoder and the model's outputs.

    Args:
        graph: The encoder's graph.
        hidden: Its result, `[batch * sequence, hidden]`.
        sentences: What a sentence-transformers folder asks for.

    Returns:
        `logits`, or `start_logits` and `end_logits`, where the model has such a head; otherwise `last_hidden_state`,
        and `sentence_embedding` if there is a pooling.
    """
    match graph.config.head:
        case "question-answering":
            return _question_answering(graph, hidden)
        case "token-classification":
            return _token_classification(graph, hidden)
        case "sequence-classification":
            return _sequence_classification(graph, hidden)
    width = graph.config.hidden_size
    states = graph.reshaped(hidden, [width], name="last_hidden_state")
    outputs: Outputs = [(TensorSpec("last_hidden_state", "FP32", ("batch", "sequence", width)), states)]
    if sentences.modes:
        spec = TensorSpec("sentence_embedding", "FP32", ("batch", width * len(sentences.modes)))
        outputs.append((spec, _Pooling(graph, states).embed(sentences)))
    return outputs


def _question_answering(graph: EncoderGraph, hidden: ir.Value) -> Outputs:
    flat = graph.linear(hidden, "qa_outputs", size=2, inputs=graph.config.hidden_size)
    logits = graph.reshaped(flat, [2], name="qa_outputs.split")
    outputs: Outputs = []
    for index, name in enumerate(("start_logits", "end_logits")):
        axis = graph.writer.constant(index, f"qa_outputs.{index}")
        value = graph.writer.op("Gather", logits, axis, name=name, axis=2)
        outputs.append((TensorSpec(name, "FP32", ("batch", "sequence")), value))
    return outputs


def _token_classification(graph: EncoderGraph, hidden: ir.Value) -> Outputs:
    labels = _labels(graph, "classifier")
    flat = graph.linear(hidden, "classifier", size=labels, inputs=graph.config.hidden_size)
    value = graph.reshaped(flat, [labels], name="logits")
    return [(TensorSpec("logits", "FP32", ("batch", "sequence", labels)), value)]


def _sequence_classification(graph: EncoderGraph, hidden: ir.Value) -> Outputs:
    width, names = graph.config.hidden_size, graph.config.family.classifier
    states = graph.reshaped(hidden, [width], name="last_hidden_state")
    first = graph.writer.op("Gather", states, graph.writer.constant(0, "first_token"), name="first_token_state", axis=1)
    dense = graph.linear(first, names.dense, size=width, inputs=width)
    active = graph.writer.op(names.activation, dense, name="classifier.activation")
    labels = _labels(graph, names.projection)
    logits = graph.linear(active, names.projection, size=labels, inputs=width)
    return [(TensorSpec("logits", "FP32", ("batch", labels)), logits)]


def _labels(graph: EncoderGraph, name: str) -> int:
    return graph.weights.find(f"{name}.weight", (None, graph.config.hidden_size)).shape[0]


@dataclass(frozen=True, slots=True)
class _Pooling:
    graph: EncoderGraph
    states: ir.Value

    def embed(self, sentences: Sentences) -> ir.Value:
        writer = self.graph.writer
        parts = [self._pool(mode) for mode in sentences.modes]
        pooled = parts[0] if len(parts) == 1 else writer.op("Concat", *parts, name="pooling.joined", axis=-1)
        if not sentences.normalized:
            return pooled
        axes = writer.constant([-1], "pooling.last_axis")
        square = writer.op("Mul", pooled, pooled, name="normalize.square")
        total = writer.op("ReduceSum", square, axes, name="normalize.total", keepdims=1)
        smallest = writer.constant(SMALLEST_NORM, "normalize.smallest")
        norm = writer.op("Max", writer.op("Sqrt", total, name="normalize.norm"), smallest, name="normalize.divisor")
        return writer.op("Div", pooled, norm, name="normalize")

    def _pool(self, mode: Mode) -> ir.Value:
        writer = self.graph.writer
        if mode == "cls":
            return writer.op("Gather", self.states, writer.constant(0, "first_token"), name="pooling.cls", axis=1)
        if mode == "max":
            return self._maximum()
        count = writer.op_once(
            "Max", self._count(), writer.constant(SMALLEST_COUNT, "pooling.least"), name="pooling.count"
        )
        divisor = count if mode == "mean" else writer.op("Sqrt", count, name="pooling.count_sqrt")
        return writer.op("Div", self._sum(), divisor, name=f"pooling.{mode}")

    def _mask(self) -> ir.Value:
        writer = self.graph.writer
        axes = writer.constant([2], "pooling.mask_axes")
        wide = writer.op_once("Unsqueeze", self.graph.input("attention_mask"), axes, name="pooling.wide_mask")
        return writer.op_once("Cast", wide, name="pooling.mask", to=ir.DataType.FLOAT.value)

    def _count(self) -> ir.Value:
        axes = self.graph.writer.constant([1], "pooling.token_axis")
        return self.graph.writer.op_once("ReduceSum", self._mask(), axes, name="pooling.tokens", keepdims=0)

    def _sum(self) -> ir.Value:
        writer = self.graph.writer
        axes = writer.constant([1], "pooling.token_axis")
        kept = writer.op_once("Mul", self.states, self._mask(), name="pooling.kept")
        return writer.op_once("ReduceSum", kept, axes, name="pooling.sum", keepdims=0)

    def _maximum(self) -> ir.Value:
        writer = self.graph.writer
        kept = writer.op("Cast", self._mask(), name="pooling.is_kept", to=ir.DataType.BOOL.value)
        states = writer.op(
            "Where", kept, self.states, writer.constant(MASKED_VALUE, "pooling.masked"), name="pooling.candidates"
        )
        if writer.opset < 18:  # the axes became an input in 18
            return writer.op("ReduceMax", states, name="pooling.max", axes=[1], keepdims=0)
        return writer.op(
            "ReduceMax", states, writer.constant([1], "pooling.token_axis"), name="pooling.max", keepdims=0
        )
