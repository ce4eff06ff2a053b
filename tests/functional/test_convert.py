"""Converted encoders give the answers of transformers' own classes, on random weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers

from lamella.converters import Converted, convert
from lamella.errors import ConversionError, LamellaError, UsageError, VerificationError

BERT = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
}
ROBERTA = {**BERT, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}
DISTILBERT = {"vocab_size": 61, "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 32}


@dataclass(frozen=True)
class Family:
    prefix: str
    settings: dict[str, object]

    def model(self, kind: str, **settings: object) -> torch.nn.Module:
        config = getattr(transformers, f"{self.prefix}Config")(**{**self.settings, **settings})
        torch.manual_seed(7)
        model = getattr(transformers, f"{self.prefix}{kind}")(config).eval()
        for parameter in model.parameters():  # the default weights are so small that errors hide
            torch.nn.init.normal_(parameter, std=0.3)
        return model


FAMILIES = {
    "bert": Family("Bert", BERT),
    "distilbert": Family("DistilBert", DISTILBERT),
    "roberta": Family("Roberta", ROBERTA),
    "xlm-roberta": Family("XLMRoberta", ROBERTA),
    "camembert": Family("Camembert", ROBERTA),
}


@pytest.fixture(autouse=True)
def quiet_progress() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def requests(family: Family) -> Iterator[dict[str, torch.Tensor]]:
    pad = family.settings.get("pad_token_id", 0)
    for batch, sequence in ((1, 1), (1, 9), (3, 14), (2, 30)):
        generator = torch.Generator().manual_seed(sequence)
        ids = torch.randint(2, 61, (batch, sequence), generator=generator)
        mask = torch.ones_like(ids)
        for row in range(1, batch):
            mask[row, sequence - 3 * row :] = 0
            ids[row, sequence - 3 * row :] = pad
        inputs = {"input_ids": ids, "attention_mask": mask}
        if family.prefix == "Bert":
            inputs["token_type_ids"] = torch.randint(0, 2, ids.shape, generator=generator)
        yield inputs


def infer(path: Path, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: v.numpy() for k, v in inputs.items()}), strict=True))


def saved(model: torch.nn.Module, folder: Path, **options: object) -> Path:
    model.save_pretrained(folder, **options)
    return folder


def assert_same_as_transformers(model: torch.nn.Module, family: Family, converted: Converted) -> None:
    for inputs in requests(family):
        with torch.no_grad():
            expected = model(**inputs)
        found = infer(converted.path, inputs)
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name].numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("Model", ["last_hidden_state"]),
        ("ForQuestionAnswering", ["start_logits", "end_logits"]),
        ("ForSequenceClassification", ["logits"]),
        ("ForTokenClassification", ["logits"]),
    ],
)
def test_each_family_and_head_equals_transformers(
    tmp_path: Path, family: Family, kind: str, outputs: list[str]
) -> None:
    labels = {} if kind in ("Model", "ForQuestionAnswering") else {"num_labels": 3}
    model = family.model(kind, **labels)
    converted = convert(saved(model, tmp_path / "model"), tmp_path / "out" / "model.onnx")
    assert [spec.name for spec in converted.outputs] == outputs
    assert converted.verified
    assert converted.max_abs_diff is not None
    assert converted.max_abs_diff < 1e-5
    assert_same_as_transformers(model, family, converted)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"])
@pytest.mark.parametrize("opset", [17, 20, 26])
def test_each_activation_equals_transformers_in_each_opset(tmp_path: Path, activation: str, opset: int) -> None:
    model = FAMILIES["bert"].model("Model", hidden_act=activation)
    converted = convert(saved(model, tmp_path), tmp_path / "model.onnx", opset=opset)
    assert converted.opset == opset
    onnx.checker.check_model(converted.path, full_check=True)
    assert_same_as_transformers(model, FAMILIES["bert"], converted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_half_precision_weights_are_computed_in_float32(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    model = FAMILIES[family].model("Model").to(dtype)
    converted = convert(saved(model, tmp_path), tmp_path / "model.onnx")
    assert_same_as_transformers(model.float(), FAMILIES[family], converted)


def test_weights_in_several_files_are_found_through_their_index(tmp_path: Path) -> None:
    model = FAMILIES["bert"].model("Model")
    folder = saved(model, tmp_path / "model", max_shard_size="8KB")
    converted = convert(folder, tmp_path / "tiny.onnx")
    names = [placement.path.name for placement in converted.files]
    assert len(names) > 2
    assert names[0] == f"tiny.onnx-00001-of-{len(names):05}.safetensors"
    assert_same_as_transformers(model, FAMILIES["bert"], converted)


@pytest.mark.parametrize(
    ("flags", "normalize"),
    [
        (["pooling_mode_mean_tokens"], True),
        (["pooling_mode_cls_token"], True),
        (["pooling_mode_max_tokens"], False),
        (["pooling_mode_mean_tokens", "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens"], False),
    ],
)
@pytest.mark.parametrize("opset", [17, 18])
def test_sentence_transformers_folder_gives_sentence_embeddings(
    tmp_path: Path, flags: list[str], normalize: bool, opset: int
) -> None:
    model = FAMILIES["bert"].model("Model")
    folder = sentence_folder(saved(model, tmp_path), flags, normalize=normalize)
    converted = convert(folder, tmp_path / "model.onnx", opset=opset)
    assert [spec.name for spec in converted.outputs] == ["last_hidden_state", "sentence_embedding"]
    for inputs in requests(FAMILIES["bert"]):
        with torch.no_grad():
            expected = pooled(model(**inputs).last_hidden_state, inputs["attention_mask"], flags)
        if normalize:
            expected = torch.nn.functional.normalize(expected, dim=1)
        found = infer(converted.path, inputs)["sentence_embedding"]
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def sentence_folder(folder: Path, flags: list[str], *, normalize: bool) -> Path:
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] if normalize else [])]
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(dict.fromkeys(flags, True)))
    return folder


def pooled(states: torch.Tensor, mask: torch.Tensor, flags: list[str]) -> torch.Tensor:
    wide = mask.unsqueeze(-1).float()
    total, count = (states * wide).sum(1), wide.sum(1)
    known = {
        "pooling_mode_cls_token": states[:, 0],
        "pooling_mode_max_tokens": states.masked_fill(wide == 0, -1e9).max(1).values,
        "pooling_mode_mean_tokens": total / count,
        "pooling_mode_mean_sqrt_len_tokens": total / count.sqrt(),
    }
    return torch.cat([known[flag] for flag in known if flag in flags], dim=1)


def test_old_layer_norm_names_are_understood(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = FAMILIES["bert"].model("Model")
    saved(model, tmp_path)
    renamed = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in model.state_dict().items()
    }
    save_file(renamed, tmp_path / "model.safetensors")
    assert_same_as_transformers(model, FAMILIES["bert"], convert(tmp_path, tmp_path / "model.onnx"))


def test_masked_language_model_becomes_its_encoder_and_says_so(tmp_path: Path) -> None:
    model = FAMILIES["roberta"].model("ForMaskedLM")
    converted = convert(saved(model, tmp_path / "model"), tmp_path / "model.onnx")
    assert "the head of `RobertaForMaskedLM` is left out" in (converted.note or "")
    assert_same_as_transformers(model.roberta, FAMILIES["roberta"], converted)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(FAMILIES["bert"].model("Model"), tmp_path / "model")


def test_output_in_the_source_folder_refers_to_the_weights_directly(folder: Path) -> None:
    before = sorted(os.listdir(folder))
    converted = convert(folder, folder / "model.onnx")
    assert sorted(os.listdir(folder)) == sorted([*before, "model.onnx"])
    assert [placement.method for placement in converted.files] == ["in-place"]
    assert (folder / "model.onnx").stat().st_size < 40_000


def test_output_elsewhere_gets_a_hard_link_to_the_weights(folder: Path, tmp_path: Path) -> None:
    converted = convert(folder, tmp_path / "new" / "deep" / "tiny.onnx")
    assert sorted(os.listdir(tmp_path / "new" / "deep")) == ["tiny.onnx", "tiny.onnx.safetensors"]
    assert converted.files[0].method == "hard-link"
    assert converted.files[0].path.samefile(folder / "model.safetensors")


def test_hugging_face_cache_of_links_converts_into_its_own_folder(folder: Path, tmp_path: Path) -> None:
    blob, snapshot = tmp_path / "blobs" / "0a1b2c", tmp_path / "snapshots" / "main"
    blob.parent.mkdir()
    snapshot.mkdir(parents=True)
    (folder / "model.safetensors").rename(blob)
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/0a1b2c"))
    (snapshot / "config.json").symlink_to(folder / "config.json")
    converted = convert(snapshot, snapshot / "model.onnx")
    assert converted.files[0].path == snapshot / "model.onnx.safetensors"
    assert converted.files[0].method == "hard-link"
    assert not converted.files[0].path.is_symlink()


def test_converting_again_replaces_the_output(folder: Path, tmp_path: Path) -> None:
    first = convert(folder, tmp_path / "tiny.onnx", opset=17).path.read_bytes()
    second = convert(folder, tmp_path / "tiny.onnx", opset=17).path.read_bytes()
    third = convert(folder, tmp_path / "tiny.onnx", opset=21).path.read_bytes()
    assert first == second != third


def test_file_in_the_way_of_the_weights_is_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx.safetensors").write_bytes(b"mine")
    with pytest.raises(UsageError, match="is not a copy of") as caught:
        convert(folder, tmp_path / "tiny.onnx")
    assert caught.value.hint == "remove it or choose another output"
    assert (tmp_path / "tiny.onnx.safetensors").read_bytes() == b"mine"
    assert not (tmp_path / "tiny.onnx").exists()


def test_difference_is_an_error_that_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lamella.converters.bert.reference import Reference

    right = Reference.infer
    monkeypatch.setattr(
        Reference, "infer", lambda self, inputs: {name: value + 0.5 for name, value in right(self, inputs).items()}
    )
    with pytest.raises(VerificationError, match=r"output `last_hidden_state` differs .* by 0\.5") as caught:
        convert(folder, tmp_path / "out" / "tiny.onnx")
    assert caught.value.exit_status == 1
    assert os.listdir(tmp_path / "out") == []
    assert not convert(folder, tmp_path / "out" / "tiny.onnx", verify=False).verified


def test_not_a_number_is_a_difference(tmp_path: Path) -> None:
    model = FAMILIES["bert"].model("Model")
    torch.nn.init.constant_(model.encoder.layer[1].output.LayerNorm.bias, float("nan"))
    with pytest.raises(VerificationError, match="`last_hidden_state` differs"):
        convert(saved(model, tmp_path), tmp_path / "model.onnx")


def set_config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 5000)


def indexed(weight_map: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return change


def modules(*kinds: str) -> Callable[[Path], None]:
    entries = [{"type": f"sentence_transformers.models.{kind}", "path": ""} for kind in kinds]
    return write("modules.json", json.dumps(entries))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("config.json"), "has no `config.json`"),
        (drop("model.safetensors"), "has neither `model.safetensors` nor `model.safetensors.index.json`"),
        (pickled, "holds its weights as `pytorch_model.bin`, not as `model.safetensors`"),
        (truncated, "lies outside of the file's"),
        (write("config.json", "{"), "`.*config.json` is not valid JSON"),
        (write("config.json", "[]"), "is not a JSON object"),
        (write("config.json", "{}"), "has no `model_type`"),
        (write("config.json", '{"a": 1, "a": 2}'), "the name 'a' comes twice"),
        (write("config.json", "[" * 100_000), "nested too deeply"),
        (set_config(model_type="gpt2"), "has the `model_type` 'gpt2', which is no encoder"),
        (set_config(is_decoder=True), "sets `is_decoder`"),
        (set_config(position_embedding_type="relative_key"), "`position_embedding_type` is 'relative_key'"),
        (set_config(hidden_act="mish"), "the activation 'mish' is not supported"),
        (set_config(hidden_size="24"), "`hidden_size` in `config.json` is '24', not a number from 1"),
        (set_config(hidden_size=True), "`hidden_size` in `config.json` is 'True', not a number from 1"),
        (set_config(num_attention_heads=5), "24 hidden units cannot be divided among 5 attention heads"),
        (set_config(num_hidden_layers=10**7), "no tensor `encoder.layer.2.attention.self.query.weight`"),
        (set_config(layer_norm_eps=-1), "`layer_norm_eps` in `config.json` is '-1'"),
        (set_config(vocab_size=62), r"`embeddings.word_embeddings.weight` has the shape \[61, 24\], and .* \[62, 24\]"),
        (set_config(architectures=["BertForQuestionAnswering"]), "no tensor `qa_outputs.weight`"),
        (set_config(model_type="distilbert", dim=24, n_layers=2, n_heads=4, hidden_dim=40), "no tensor `transformer"),
        (indexed([]), "has no `weight_map` object"),
        (indexed({"a": "../part.safetensors"}), "refers to '../part.safetensors', outside of itself"),
        (indexed({"a": "/etc/passwd"}), "refers to '/etc/passwd', outside of itself"),
        (indexed({"a": "gone.safetensors"}), "gone.safetensors` is missing"),
        (indexed({"a": "part.safetensors"}), "says that `part.safetensors` holds `a`, and it does not"),
        (indexed({}), "0 tensors named `embeddings.word_embeddings.weight`, not one"),
        (modules("Transformer", "Pooling", "Dense"), "chains Transformer, Pooling, Dense"),
        (modules("Transformer", "Pooling"), "turns no pooling on"),
        (write("modules.json", "{}"), "is not a list of JSON objects"),
    ],
)
def test_bad_folder_is_one_line_with_a_hint(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(LamellaError, match=message) as caught:
        convert(folder, tmp_path / "out" / "model.onnx")
    assert caught.value.exit_status == 2
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("output", "opset", "message"),
    [
        ("model.pb", None, "is no `.onnx` file"),
        ("model.onnx", 16, r"opset 16 is out of range \(17 to 26\)"),
        ("model.onnx", 27, "opset 27 is out of range"),
    ],
)
def test_bad_call_is_a_usage_error(folder: Path, output: str, opset: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        convert(folder, folder / output, opset=opset)
    assert caught.value.hint


def test_unknown_source_lists_what_is_supported(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="does not exist") as caught:
        convert(tmp_path / "nothing", tmp_path / "model.onnx")
    assert caught.value.hint == (
        "give a Hugging Face folder (`config.json`, `model.safetensors`) of "
        "bert, distilbert, roberta, xlm-roberta, camembert"
    )
    (tmp_path / "file.txt").touch()
    with pytest.raises(ConversionError, match="is nothing that Lamella converts"):
        convert(tmp_path / "file.txt", tmp_path / "model.onnx")
