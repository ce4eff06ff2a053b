"""BERT-family encoders from a Hugging Face folder, without torch and without loading a weight.

BERT, DistilBERT, RoBERTa, XLM-RoBERTa and CamemBERT; alone, with a head for question answering, sequence or token
classification, or with the pooling of a sentence-transformers folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lamella.converters.base import Converted
from lamella.converters.bert.config import parse_config
from lamella.converters.bert.families import MODEL_TYPES
from lamella.converters.bert.graph import EncoderGraph, input_specs
from lamella.converters.bert.heads import add_outputs
from lamella.converters.bert.pooling import read_sentences
from lamella.converters.bert.reference import Reference, sample_inputs
from lamella.converters.bert.weights import locate
from lamella.converters.huggingface import read_config, read_weights
from lamella.converters.onnx_writer import GraphWriter, checked_opset
from lamella.converters.parity import compare
from lamella.converters.staging import name_beside, staged
from lamella.slicing.placement import Placement


@dataclass(frozen=True, slots=True)
class BertConverter:
    """Converts BERT-family encoders from a Hugging Face folder."""

    @property
    def describes(self) -> str:
        """What it converts."""
        return f"a Hugging Face folder (`config.json`, `model.safetensors`) of {', '.join(MODEL_TYPES)}"

    def accepts(self, source: str) -> bool:
        """Whether the source is a folder."""
        return Path(source).is_dir()

    def convert(self, source: str, output: Path, *, opset: int | None, verify: bool) -> Converted:
        """Write an `.onnx` file that refers to the folder's weights; see `Converter.convert`."""
        version = checked_opset(opset)
        sentences = read_sentences(Path(source))
        config = parse_config(read_config(sentences.folder))
        weights = locate(read_weights(sentences.folder))
        files = {stored.file for stored in weights.stored.values()}
        writer = GraphWriter(version, {file: name_beside(file, output) for file in files})
        graph = EncoderGraph(config, weights, writer)
        outputs = add_outputs(graph, graph.encode(), sentences)
        difference = None
        with staged(output, writer.files) as stage:
            writer.save(stage.partial, inputs=input_specs(config), outputs=outputs)
            if verify:
                reference = Reference(config, weights, sentences)
                difference = compare(stage.partial, sample_inputs(config), reference.infer)
        return Converted(
            path=output,
            opset=version,
            verified=verify,
            max_abs_diff=difference,
            inputs=input_specs(config),
            outputs=tuple(spec for spec, _ in outputs),
            files=stage.placements,
            note="; ".join([*map(_placed, stage.placements), *_head_left_out(config.architecture, config.head)]),
        )


CONVERTER = BertConverter()


def _placed(placement: Placement) -> str:
    if placement.method == "copy":
        return f"the weights were copied to `{placement.path}` ({placement.reason})"
    if placement.method == "in-place":
        return f"the weights are those of `{placement.path}`"
    return f"`{placement.path}` is a hard link to the weights: ONNX Runtime takes it, `onnx.load` wants a copy"


def _head_left_out(architecture: str | None, head: str) -> list[str]:
    if head != "none" or architecture is None or architecture.endswith("Model"):
        return []
    return [f"the head of `{architecture}` is left out: the outputs are the encoder's"]
