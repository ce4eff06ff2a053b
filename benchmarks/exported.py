"""Transformers as torch exports them today: random weights, real depth and width.

    python benchmarks/exported.py    # all of them, 0.6 GB, in build/bench-models: a minute

Needs torch and transformers, as the test suites do. A model that is already there is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models import CACHE, SEED

if TYPE_CHECKING:
    import torch

TOKENS = 128
_TEXT = {"vocab_size": 30522, "max_position_embeddings": 512}
_SIZE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def _distilbert() -> torch.nn.Module:
    from transformers import DistilBertConfig, DistilBertModel

    return DistilBertModel(DistilBertConfig(dim=384, n_layers=6, n_heads=12, hidden_dim=1536, **_TEXT))


def _bert() -> torch.nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig(num_labels=3, **_SIZE, **_TEXT))


def _gpt2() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=384, n_layer=6, n_head=12, vocab_size=50257, use_cache=False))


def _llama() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=4, use_cache=False, **_SIZE, **_TEXT))


def _vit() -> torch.nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(**_SIZE))


def _resnet() -> torch.nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000))


RECIPES: Mapping[str, Callable[[], torch.nn.Module]] = {
    "torch-distilbert": _distilbert,
    "torch-bert": _bert,
    "torch-gpt2": _gpt2,
    "torch-llama": _llama,
    "torch-vit": _vit,
    "torch-resnet50": _resnet,
}


def export(name: str, cache: Path = CACHE) -> Path:
    """The model's file; exported first where it is not there."""
    path = cache / f"{name}.onnx"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        _export(RECIPES[name], partial)
        partial.rename(path)
    return path


def _export(build: Callable[[], torch.nn.Module], path: Path) -> None:
    import torch
    import transformers

    class OfText(torch.nn.Module):
        """A model with the signature that its export is to have, and a plain tuple as its answer."""

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return model(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)

    class OfImages(torch.nn.Module):
        """The same for images."""

        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return model(pixel_values=pixel_values, return_dict=False)

    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(SEED)
    model = build().eval()
    batch = torch.export.Dim("batch")
    if model.main_input_name == "pixel_values":
        outer: torch.nn.Module = OfImages()
        given = {"pixel_values": torch.randn(2, 3, 224, 224)}
        axes = {0: batch}
    else:
        outer = OfText()
        ids = torch.randint(0, model.config.vocab_size, (2, TOKENS))
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        axes = {0: batch, 1: torch.export.Dim("sequence", max=512)}
    outer.model = model
    torch.onnx.export(
        outer.eval(),
        (),
        path,
        kwargs=given,
        dynamo=True,
        dynamic_shapes=dict.fromkeys(given, axes),
        external_data=False,
        verbose=False,
    )


if __name__ == "__main__":
    for _name in RECIPES:
        print(f"{_name}: {export(_name).stat().st_size / 1e6:,.0f} MB")
