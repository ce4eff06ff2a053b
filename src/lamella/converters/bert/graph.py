"""The encoder's arithmetic as ONNX nodes.

Tokens are flattened to `[batch * sequence, hidden]` once, so that each linear layer is one `Gemm(transB=1)` on the
weight as PyTorch keeps it, `[out, in]`: nothing has to be transposed, hence nothing read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from lamella.converters.bert.config import EncoderConfig
from lamella.converters.bert.weights import Weights
from lamella.converters.onnx_writer import GraphWriter
from lamella.tensors import TensorSpec

# What transformers adds to the scores of masked tokens: `torch.finfo(torch.float32).min`.
FLOAT32_LOWEST = -3.4028234663852886e38
_INT64, _BOOL, _FLOAT = ir.DataType.INT64.value, ir.DataType.BOOL.value, ir.DataType.FLOAT.value


def input_specs(config: EncoderConfig) -> tuple[TensorSpec, ...]:
    """The inputs, named as transformers and its ONNX exporters name them."""
    names = ["input_ids", "attention_mask"]
    if config.family.token_types == "input":
        names.append("token_type_ids")
    return tuple(TensorSpec(name, "INT64", ("batch", "sequence")) for name in names)


@dataclass(frozen=True, slots=True)
class EncoderGraph:
    """Writes an encoder's nodes.

    Attributes:
        config: The encoder's settings.
        weights: Its weights.
        writer: Where the nodes go.
    """

    config: EncoderConfig
    weights: Weights
    writer: GraphWriter

    def encode(self) -> ir.Value:
        """Add the whole encoder; its output is `[batch * sequence, hidden]`."""
        hidden = self._embed()
        bias = self._mask_bias(self.input("attention_mask"))
        for index in range(self.config.num_hidden_layers):
            hidden = self._layer(hidden, bias, index)
        return hidden

    def linear(self, value: ir.Value, name: str, *, size: int | None, inputs: int) -> ir.Value:
        """Add `value @ weight.T + bias`; `name` is the layer's, as `Weights.find` takes it."""
        weight = self.weights.find(f"{name}.weight", (size, inputs))
        bias = self.weights.find(f"{name}.bias", (weight.shape[0],))
        w, b = (self.writer.as_float(self.writer.weight(stored), stored, name=stored.name) for stored in (weight, bias))
        return self.writer.op("Gemm", value, w, b, name=name.removeprefix("."), transB=1)

    def reshaped(self, value: ir.Value, sizes: list[int], *, name: str) -> ir.Value:
        """Split the first axis into `[batch, sequence]` again, and the rest into `sizes`."""
        tail = "x".join(map(str, sizes))
        rest = self.writer.constant(sizes, f"sizes_{tail}")
        shape = self.writer.op_once("Concat", self.batch_sequence, rest, name=f"batch_sequence_{tail}", axis=0)
        return self.writer.op("Reshape", value, shape, name=name)

    @property
    def batch_sequence(self) -> ir.Value:
        """The sizes of the first two axes, which the flattened tokens have lost."""
        return self.writer.op_once("Shape", self.input("input_ids"), name="batch_sequence")

    def input(self, name: str) -> ir.Value:
        """The value of one of the model's inputs."""
        return self.writer.input(next(spec for spec in input_specs(self.config) if spec.name == name))

    def _embed(self) -> ir.Value:
        config, op = self.config, self.writer.op
        embedded = self._lookup(self.input("input_ids"), "word", config.vocab_size)
        if config.family.token_types != "none":
            types = self._lookup(self._token_types(), "token_type", config.type_vocab_size)
            embedded = op("Add", embedded, types, name="embeddings.with_token_types")
        positions = self._lookup(self._positions(), "position", config.max_position_embeddings)
        embedded = op("Add", embedded, positions, name="embeddings.with_positions")
        flat = self.writer.constant([-1, config.hidden_size], "flat")
        return self._norm(op("Reshape", embedded, flat, name="embeddings.flat"), ".embeddings.LayerNorm")

    def _lookup(self, ids: ir.Value, table: str, rows: int) -> ir.Value:
        stored = self.weights.find(f".embeddings.{table}_embeddings.weight", (rows, self.config.hidden_size))
        name = f"embeddings.{table}"
        # The rows are cast, not the table: a vocabulary is large, a request is not.
        return self.writer.as_float(
            self.writer.op("Gather", self.writer.weight(stored), ids, name=name), stored, name=name
        )

    def _token_types(self) -> ir.Value:
        if self.config.family.token_types == "input":
            return self.input("token_type_ids")
        return self.writer.constant(0, "first_token_type")

    def _positions(self) -> ir.Value:
        op, constant, input_ids = self.writer.op, self.writer.constant, self.input("input_ids")
        if self.config.family.positions == "index":
            shape = op("Shape", input_ids, name="positions.shape")
            length = op("Gather", shape, constant(1, "positions.axis"), name="positions.length", axis=0)
            return op("Range", constant(0, "positions.start"), length, constant(1, "positions.step"), name="positions")
        pad = constant(self.config.pad_token_id, "pad_token_id")
        padding = op("Equal", input_ids, pad, name="positions.padding")
        tokens = op("Cast", op("Not", padding, name="positions.is_token"), name="positions.tokens", to=_INT64)
        counted = op("CumSum", tokens, constant(1, "positions.axis"), name="positions.counted")
        return op("Add", op("Mul", counted, tokens, name="positions.masked"), pad, name="positions")

    def _mask_bias(self, attention_mask: ir.Value) -> ir.Value:
        op, constant = self.writer.op, self.writer.constant
        kept = op("Cast", attention_mask, name="mask.kept", to=_BOOL)
        bias = op("Where", kept, constant(0.0, "mask.zero"), constant(FLOAT32_LOWEST, "mask.lowest"), name="mask.flat")
        return op("Unsqueeze", bias, constant([1, 2], "mask.axes"), name="mask")

    def _layer(self, hidden: ir.Value, bias: ir.Value, index: int) -> ir.Value:
        config, names = self.config, self.config.family.layer
        at, width = f".{names.layer.format(index)}", config.hidden_size
        context = self._attention(hidden, bias, at)
        attended = self.linear(context, f"{at}.{names.attention_output}", size=width, inputs=width)
        hidden = self._norm_sum(attended, hidden, f"{at}.{names.attention_norm}")
        inner = self.linear(hidden, f"{at}.{names.intermediate}", size=config.intermediate_size, inputs=width)
        active = self._activation(inner, f"{at[1:]}.activation")
        outer = self.linear(active, f"{at}.{names.output}", size=width, inputs=config.intermediate_size)
        return self._norm_sum(outer, hidden, f"{at}.{names.output_norm}")

    def _attention(self, hidden: ir.Value, bias: ir.Value, at: str) -> ir.Value:
        config, names, op, constant = self.config, self.config.family.layer, self.writer.op, self.writer.constant
        heads = [config.num_attention_heads, config.head_size]
        parts = []
        for name, order in ((names.query, [0, 2, 1, 3]), (names.key, [0, 2, 3, 1]), (names.value, [0, 2, 1, 3])):
            flat = self.linear(hidden, f"{at}.{name}", size=config.hidden_size, inputs=config.hidden_size)
            split = self.reshaped(flat, heads, name=f"{at[1:]}.{name}.split")
            parts.append(op("Transpose", split, name=f"{at[1:]}.{name}.heads", perm=order))
        query, key, value = parts
        at = f"{at[1:]}.attention"
        products = op("MatMul", query, key, name=f"{at}.products")
        scale = constant(config.head_size**-0.5, "attention.scale")
        scores = op("Add", op("Mul", products, scale, name=f"{at}.scaled"), bias, name=f"{at}.scores")
        weighted = op(
            "MatMul", op("Softmax", scores, name=f"{at}.probabilities", axis=-1), value, name=f"{at}.weighted"
        )
        joined = op("Transpose", weighted, name=f"{at}.joined", perm=[0, 2, 1, 3])
        return op("Reshape", joined, constant([-1, config.hidden_size], "flat"), name=f"{at}.context")

    def _norm_sum(self, value: ir.Value, residual: ir.Value, name: str) -> ir.Value:
        return self._norm(self.writer.op("Add", value, residual, name=f"{name[1:]}.sum"), name)

    def _norm(self, value: ir.Value, name: str) -> ir.Value:
        stored = [self.weights.find(f"{name}.{part}", (self.config.hidden_size,)) for part in ("weight", "bias")]
        scale, bias = (self.writer.as_float(self.writer.weight(part), part, name=part.name) for part in stored)
        epsilon = self.config.layer_norm_eps
        return self.writer.op("LayerNormalization", value, scale, bias, name=name[1:], axis=-1, epsilon=epsilon)

    def _activation(self, value: ir.Value, name: str) -> ir.Value:
        op, constant, kind = self.writer.op, self.writer.constant, self.config.hidden_act
        if kind == "relu":
            return op("Relu", value, name=name)
        if kind == "silu":
            return op("Mul", value, op("Sigmoid", value, name=f"{name}.gate"), name=name)
        if self.writer.opset >= 20:
            return op("Gelu", value, name=name, approximate="tanh" if kind == "gelu-tanh" else "none")
        if kind == "gelu-tanh":
            return self._gelu_tanh(value, name)
        # In the order of operations that ONNX Runtime fuses into its own Gelu.
        scaled = op("Div", value, constant(math.sqrt(2.0), "gelu.sqrt_2"), name=f"{name}.scaled")
        gate = op("Add", op("Erf", scaled, name=f"{name}.erf"), constant(1.0, "gelu.one"), name=f"{name}.gate")
        return op("Mul", op("Mul", value, gate, name=f"{name}.gated"), constant(0.5, "gelu.half"), name=name)

    def _gelu_tanh(self, value: ir.Value, name: str) -> ir.Value:
        op, constant = self.writer.op, self.writer.constant
        cube = op("Pow", value, constant(3.0, "gelu.three"), name=f"{name}.cube")
        small = op("Mul", cube, constant(0.044715, "gelu.cubic"), name=f"{name}.small")
        total = op("Add", value, small, name=f"{name}.total")
        scaled = op("Mul", total, constant(math.sqrt(2.0 / math.pi), "gelu.sqrt_2_pi"), name=f"{name}.scaled")
        gate = op("Add", op("Tanh", scaled, name=f"{name}.tanh"), constant(1.0, "gelu.one"), name=f"{name}.gate")
        return op("Mul", op("Mul", value, constant(0.5, "gelu.half"), name=f"{name}.halved"), gate, name=name)
