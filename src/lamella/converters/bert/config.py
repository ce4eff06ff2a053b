"""The settings of an encoder, from its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lamella.converters.bert.families import FAMILIES, MODEL_TYPES, Family
from lamella.errors import ConversionError, MalformedModelError

Activation = Literal["gelu", "gelu-tanh", "relu", "silu"]
Head = Literal["none", "question-answering", "sequence-classification", "token-classification"]

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_HEADS: dict[str, Head] = {
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
}
# The widest encoder of these families, XLM-RoBERTa XXL, has 4,096, 48, 32 and 16,384.
_SIZE_LIMIT = 1 << 24


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What the arithmetic depends on.

    Attributes:
        family: Names, and the treatment of positions and token types.
        architecture: First entry of `architectures`; None if there is none.
        head: What comes after the encoder.
        layer_norm_eps: Added to the variance in each layer norm.
        type_vocab_size: 0 where there is no table of token types.
        pad_token_id: The token that takes no position, where the family counts them; 0 otherwise.

    The others are named as in BERT's `config.json`.
    """

    family: Family
    architecture: str | None
    head: Head
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    vocab_size: int
    type_vocab_size: int
    hidden_act: Activation
    layer_norm_eps: float
    pad_token_id: int

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def max_tokens(self) -> int:
        """Longest sequence that has a position for each token."""
        reserved = self.pad_token_id + 1 if self.family.positions == "after-padding" else 0
        return self.max_position_embeddings - reserved


def parse_config(config: Mapping[str, object]) -> EncoderConfig:
    """Read and check an encoder's settings; sizes must be there, as transformers always writes them.

    Raises:
        ConversionError: The model is of another family, or uses what the converter does not know.
        MalformedModelError: A setting has an impossible value.
    """
    family = _family(config)
    _refuse_variants(config)
    architecture = _architecture(config)
    parsed = EncoderConfig(
        family=family,
        architecture=architecture,
        head=next((head for suffix, head in _HEADS.items() if (architecture or "").endswith(suffix)), "none"),
        hidden_size=_size(config, family, "hidden_size"),
        num_hidden_layers=_size(config, family, "num_hidden_layers"),
        num_attention_heads=_size(config, family, "num_attention_heads"),
        intermediate_size=_size(config, family, "intermediate_size"),
        max_position_embeddings=_size(config, family, "max_position_embeddings"),
        vocab_size=_size(config, family, "vocab_size"),
        type_vocab_size=0 if family.token_types == "none" else _size(config, family, "type_vocab_size"),
        hidden_act=_activation(config.get(family.settings.get("hidden_act", "hidden_act"), "gelu")),
        layer_norm_eps=family.layer_norm_eps or _epsilon(config.get("layer_norm_eps", 1e-12)),
        pad_token_id=_pad_token(config) if family.positions == "after-padding" else 0,
    )
    return _checked(parsed)


def _family(config: Mapping[str, object]) -> Family:
    model_type = config.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    found = "no `model_type`" if model_type is None else f"the `model_type` {str(model_type)[:60]!r}"
    raise ConversionError(
        f"`config.json` has {found}, which is no encoder that Lamella converts",
        hint=f"supported are: {', '.join(MODEL_TYPES)}; export others with their framework's own ONNX exporter",
    )


def _refuse_variants(config: Mapping[str, object]) -> None:
    hint = "export it with its framework's own ONNX exporter"
    for flag in ("is_decoder", "add_cross_attention"):
        if config.get(flag):
            raise ConversionError(f"`config.json` sets `{flag}`; only encoders are converted", hint=hint)
    kind = config.get("position_embedding_type", "absolute")
    if kind not in ("absolute", None):
        raise ConversionError(
            f"`position_embedding_type` is {str(kind)[:60]!r}; only 'absolute' is converted", hint=hint
        )


def _architecture(config: Mapping[str, object]) -> str | None:
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None


def _size(config: Mapping[str, object], family: Family, name: str) -> int:
    name = family.settings.get(name, name)
    value = config.get(name)
    if type(value) is not int or not 0 < value <= _SIZE_LIMIT:
        raise MalformedModelError(
            f"`{name}` in `config.json` is {str(value)[:60]!r}, not a number from 1 to {_SIZE_LIMIT}",
            hint="correct it, or download the model again",
        )
    return value


def _pad_token(config: Mapping[str, object]) -> int:
    value = config.get("pad_token_id", 1)
    if type(value) is not int or not 0 <= value <= _SIZE_LIMIT:
        raise MalformedModelError(
            f"`pad_token_id` in `config.json` is {str(value)[:60]!r}, which is no token",
            hint="set it to the tokenizer's padding token",
        )
    return value


def _epsilon(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise MalformedModelError(
            f"`layer_norm_eps` in `config.json` is {str(value)[:60]!r}, not a number from 0 to 1",
            hint="correct it, or download the model again",
        )
    return float(value)


def _activation(value: object) -> Activation:
    known = _ACTIVATIONS.get(str(value))
    if known is None:
        raise ConversionError(
            f"the activation {str(value)[:60]!r} is not supported", hint=f"supported are: {', '.join(_ACTIVATIONS)}"
        )
    return known


def _checked(config: EncoderConfig) -> EncoderConfig:
    if config.hidden_size % config.num_attention_heads:
        raise MalformedModelError(
            f"{config.hidden_size} hidden units cannot be divided among {config.num_attention_heads} attention heads",
            hint="correct `config.json`, or download the model again",
        )
    if config.max_tokens < 1:
        raise MalformedModelError(
            f"{config.max_position_embeddings} positions leave none after the padding token {config.pad_token_id}",
            hint="correct `config.json`, or download the model again",
        )
    return config
