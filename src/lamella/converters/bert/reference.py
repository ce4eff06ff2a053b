"""The encoder's arithmetic a second time, in NumPy and as transformers does it: what the ONNX file is checked against.

It shares the weights' names with the graph, and nothing else. Weights are read through memory maps, one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lamella.converters.bert.config import Activation, EncoderConfig
from lamella.converters.bert.pooling import Mode, Sentences
from lamella.converters.bert.weights import Weights
from lamella.converters.safetensors import StoredTensor
from lamella.tensors import Array, Tensors

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True, slots=True)
class Reference:
    """An encoder with its head.

    Attributes:
        config: Its settings.
        weights: Its weights.
        sentences: What a sentence-transformers folder asks for.
    """

    config: EncoderConfig
    weights: Weights
    sentences: Sentences

    def infer(self, inputs: Tensors) -> Tensors:
        """Compute the outputs. Reads every weight once; keeps none."""
        with np.errstate(over="ignore"):  # the exponential of a far negative gate is 0, as it should be
            return self._infer({name: np.asarray(value, np.int64) for name, value in inputs.items()})

    def _infer(self, inputs: Mapping[str, Integers]) -> Tensors:
        mask = inputs["attention_mask"]
        hidden = self._embed(inputs)
        for index in range(self.config.num_hidden_layers):
            hidden = self._layer(hidden, mask, f".{self.config.family.layer.layer.format(index)}")
        match self.config.head:
            case "question-answering":
                logits = self._linear(hidden, "qa_outputs")
                return {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
            case "token-classification":
                return {"logits": self._linear(hidden, "classifier")}
            case "sequence-classification":
                return {"logits": self._classify(hidden[:, 0])}
        outputs = {"last_hidden_state": hidden}
        if self.sentences.modes:
            outputs["sentence_embedding"] = self._sentence_embedding(hidden, mask)
        return outputs

    def _embed(self, inputs: Mapping[str, Integers]) -> Floats:
        ids, family = inputs["input_ids"], self.config.family
        embedded = self._rows("word", ids)
        if family.token_types != "none":
            embedded = embedded + self._rows("token_type", inputs.get("token_type_ids", np.zeros_like(ids)))
        positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        if family.positions == "after-padding":
            real = ids != self.config.pad_token_id
            positions = np.where(real, np.cumsum(real, axis=1), 0) + self.config.pad_token_id
        return self._norm(embedded + self._rows("position", positions), ".embeddings.LayerNorm")

    def _layer(self, hidden: Floats, mask: Integers, at: str) -> Floats:
        names = self.config.family.layer
        query, key, value = (
            self._heads(self._linear(hidden, f"{at}.{name}")) for name in (names.query, names.key, names.value)
        )
        scores = np.einsum("bhqd,bhkd->bhqk", query, key) / np.float32(math.sqrt(self.config.head_size))
        scores = np.where(mask[:, None, None, :] != 0, scores, scores + np.finfo(np.float32).min)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        context = np.einsum("bhqk,bhkd->bqhd", scores / scores.sum(axis=-1, keepdims=True), value)
        attended = self._linear(context.reshape(hidden.shape), f"{at}.{names.attention_output}")
        hidden = self._norm(hidden + attended, f"{at}.{names.attention_norm}")
        inner = _activate(self._linear(hidden, f"{at}.{names.intermediate}"), self.config.hidden_act)
        return self._norm(hidden + self._linear(inner, f"{at}.{names.output}"), f"{at}.{names.output_norm}")

    def _heads(self, value: Floats) -> Floats:
        batch, sequence, _ = value.shape
        return value.reshape(batch, sequence, self.config.num_attention_heads, -1).transpose(0, 2, 1, 3)

    def _classify(self, first: Floats) -> Floats:
        names = self.config.family.classifier
        dense = self._linear(first, names.dense)
        return self._linear(np.tanh(dense) if names.activation == "Tanh" else np.maximum(dense, 0), names.projection)

    def _sentence_embedding(self, hidden: Floats, mask: Integers) -> Floats:
        pooled = np.concatenate([_pool(hidden, mask != 0, mode) for mode in self.sentences.modes], axis=-1)
        if self.sentences.normalized:
            pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)
        return pooled.astype(np.float32)

    def _linear(self, value: Floats, name: str) -> Floats:
        weight = _read(self.weights.find(f"{name}.weight", (None, value.shape[-1])))
        return value @ weight.T + _read(self.weights.find(f"{name}.bias", (weight.shape[0],)))

    def _norm(self, value: Floats, name: str) -> Floats:
        scale, bias = (_read(self.weights.find(f"{name}.{part}", (None,))) for part in ("weight", "bias"))
        centred = value - value.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        normed: Floats = centred / np.sqrt(variance + np.float32(self.config.layer_norm_eps))
        return normed * scale + bias

    def _rows(self, table: str, ids: Integers) -> Floats:
        stored = self.weights.find(f".embeddings.{table}_embeddings.weight", (None, self.config.hidden_size))
        return _map(stored)[ids].astype(np.float32)


def _map(stored: StoredTensor) -> Array:
    return np.memmap(stored.file, stored.datatype.dtype, "r", stored.offset, stored.shape)


def _read(stored: StoredTensor) -> Floats:
    return _map(stored).astype(np.float32, copy=False)


def _activate(value: Floats, kind: Activation) -> Floats:
    gate: npt.NDArray[np.floating]
    if kind == "relu":
        gate = np.greater(value, 0).astype(np.float32)
    elif kind == "silu":
        gate = 1 / (1 + np.exp(-value))
    elif kind == "gelu-tanh":
        inner = np.float32(math.sqrt(2 / math.pi)) * (value + np.float32(0.044715) * value**3)
        gate = (1 + np.tanh(inner)) / 2
    else:
        gate = (1 + _erf(value / np.float32(math.sqrt(2))).astype(np.float32)) / 2
    return value * gate.astype(np.float32, copy=False)


def _pool(hidden: Floats, kept: npt.NDArray[np.bool_], mode: Mode) -> Floats:
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        highest: Floats = np.where(kept[..., None], hidden, np.float32(-1e9)).max(axis=1)
        return highest
    count = np.maximum(kept.sum(axis=1, keepdims=True), 1e-9)
    total = np.where(kept[..., None], hidden, 0).sum(axis=1)
    mean: Floats = (total / (count if mode == "mean" else np.sqrt(count))).astype(np.float32)
    return mean


def sample_inputs(config: EncoderConfig) -> list[Tensors]:
    """Inputs that a comparison should try: one token, an odd length, and two batches with padding."""
    rng = np.random.default_rng(0)
    sizes = ((1, 1), (1, 7), (2, 16), (3, 5))
    return [_sample(config, rng, batch, min(sequence, config.max_tokens)) for batch, sequence in sizes]


def _sample(config: EncoderConfig, rng: np.random.Generator, batch: int, sequence: int) -> dict[str, Integers]:
    kept = np.arange(sequence) < np.linspace(sequence, 1, batch).round()[:, None]
    ids = rng.integers(0, config.vocab_size, (batch, sequence))
    if config.family.positions == "after-padding":
        pad = min(config.pad_token_id, config.vocab_size - 1)
        ids = np.where(kept, np.where(ids == pad, (pad + 1) % config.vocab_size, ids), pad)
    inputs = {"input_ids": ids, "attention_mask": kept.astype(np.int64)}
    if config.family.token_types == "input":
        inputs["token_type_ids"] = rng.integers(0, config.type_vocab_size, (batch, sequence))
    return inputs
