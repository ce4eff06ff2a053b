"""The encoders that share BERT's arithmetic, and how each names its settings and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class LayerNames:
    """Weights of one layer, below `layer`, in which `{}` is the layer's number."""

    layer: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str


@dataclass(frozen=True, slots=True)
class ClassifierNames:
    """Weights of a sequence classifier: linear, activation, linear on the first token.

    Attributes:
        dense: The first one; below the encoder's own prefix where it starts with a dot.
        activation: An ONNX operator.
        projection: The second one.
    """

    dense: str
    activation: Literal["Tanh", "Relu"]
    projection: str


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between the families; the arithmetic of a layer is one.

    Attributes:
        model_types: Values of `model_type` in `config.json`.
        token_types: `input`: `token_type_ids` is an input. `first`: there is a table of them, but the tokenizer gives
            none, so that row 0 is always taken (RoBERTa). `none`: there is no table (DistilBERT).
        positions: `index`: 0, 1, 2, ... `after-padding`: counted over the tokens that are no padding, from
            `pad_token_id + 1` (RoBERTa).
        layer: Names of a layer's weights.
        classifier: Names of a sequence classifier's weights.
        settings: Names of settings in `config.json`, where they are not BERT's.
        layer_norm_eps: Where the architecture fixes it; None where `config.json` says.
    """

    model_types: tuple[str, ...]
    token_types: Literal["input", "first", "none"]
    positions: Literal["index", "after-padding"]
    layer: LayerNames
    classifier: ClassifierNames
    settings: Mapping[str, str] = field(default_factory=dict)
    layer_norm_eps: float | None = None


_BERT_LAYER = LayerNames(
    layer="encoder.layer.{}",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    intermediate="intermediate.dense",
    output="output.dense",
    output_norm="output.LayerNorm",
)
_DISTILBERT_LAYER = LayerNames(
    layer="transformer.layer.{}",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm",
    intermediate="ffn.lin1",
    output="ffn.lin2",
    output_norm="output_layer_norm",
)

FAMILIES = (
    Family(
        model_types=("bert",),
        token_types="input",
        positions="index",
        layer=_BERT_LAYER,
        classifier=ClassifierNames(".pooler.dense", "Tanh", "classifier"),
    ),
    Family(
        model_types=("distilbert",),
        token_types="none",
        positions="index",
        layer=_DISTILBERT_LAYER,
        classifier=ClassifierNames("pre_classifier", "Relu", "classifier"),
        settings={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
        },
        layer_norm_eps=1e-12,
    ),
    Family(
        model_types=("roberta", "xlm-roberta", "camembert"),
        token_types="first",
        positions="after-padding",
        layer=_BERT_LAYER,
        classifier=ClassifierNames("classifier.dense", "Tanh", "classifier.out_proj"),
    ),
)
MODEL_TYPES = tuple(name for family in FAMILIES for name in family.model_types)
