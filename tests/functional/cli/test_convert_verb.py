"""`lamella convert`; what converters do is tested in `test_convert.py`."""

from pathlib import Path

import pytest
import torch
from tests.functional.cli.conftest import Lamella
from transformers import BertConfig, BertForMaskedLM


@pytest.fixture
def source(folder: Path) -> str:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=40, **size)).save_pretrained(folder / "bert")
    return "bert"


def test_json_has_the_keys_of_the_contract(lamella: Lamella, source: str) -> None:
    result = lamella("convert", source, "-o", "bert.onnx", "--opset", "18", "--json")
    assert result.status == 0, result.err
    shown = result.json
    assert shown["schema"] == "lamella.convert/1"
    assert shown["verified"] is True
    assert 0 <= shown["max_abs_diff"] < 1e-4
    assert shown["opset"] == 18
    assert shown["model"] == "bert.onnx"
    assert shown["inputs"][0]["name"] == "input_ids"
    assert shown["note"] in result.err
    assert result.err.startswith("note: ")


def test_converted_model_goes_through_the_other_verbs(lamella: Lamella, source: str) -> None:
    result = lamella("convert", source, "-o", "bert.onnx", "--no-verify")
    assert result.status == 0
    assert "verified  no" in result.out
    assert lamella("slice", "bert.onnx", "--slices", "2").status == 0
    assert lamella("run", "bert.slices", "--random", "--low-memory").status == 0
    assert lamella("verify", "bert.onnx", "bert.slices").status == 0


def test_output_is_required(lamella: Lamella, source: str) -> None:
    result = lamella("convert", source)
    assert result.status == 2
    assert result.err == "error: `lamella convert` needs `--output`\nhint: see `lamella convert --help`\n"
