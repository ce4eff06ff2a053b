"""Texts as a model's inputs: tokens, by the tokeniser that lies beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import ItemError, MissingDependencyError, TaskError
from lamella.tasks.base import Item
from lamella.tasks.files import ModelFiles
from lamella.tasks.specs import fixed
from lamella.tensors import Array, TensorSpec, datatype

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"

# Names that exporters of TensorFlow and of MLPerf's reference give them.
_OTHER_NAMES = {"input_mask": MASK, "segment_ids": TYPES, "input": IDS}
_USUAL = 512
"""Tokens that models take where nobody says it."""

_NO_LIMIT = 1_000_000
"""Above it, `model_max_length` is the number that transformers writes where nobody knows the limit."""


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How texts become tokens.

    Attributes:
        tokenizer: The tokeniser's file, beside the model or anywhere.
        max_tokens: The most tokens of one row, special ones included; by default what the model takes.
    """

    tokenizer: str = "tokenizer.json"
    max_tokens: int | None = None


class TextInput:
    """Fills a model's inputs for tokens, whichever of the three it has.

    Args:
        specs: The model's inputs.
        options: How texts become tokens.
        beside: The model's files.
        most: The most tokens where the options do not say it, if the model takes as many; None for what it takes.
        task: The task's name, for errors.

    Raises:
        TaskError: The model has no such inputs, or there is no tokeniser.
        MissingDependencyError: `tokenizers` is not installed.
    """

    def __init__(
        self, specs: Sequence[TensorSpec], options: TextOptions, beside: ModelFiles, *, most: int | None, task: str
    ) -> None:
        self._fills = {spec.name: spec for spec in specs if _meaning(spec.name) in (IDS, MASK, TYPES)}
        ids = [spec for spec in self._fills.values() if _meaning(spec.name) == IDS]
        if not ids:
            raise TaskError(
                f"the model has no input `{IDS}`, and the task `{task}` takes texts", hint="choose another task"
            )
        self._fixed, self.batch = fixed(ids[0], 1), fixed(ids[0], 0)
        self.max_tokens = self._longest(options.max_tokens, most, beside)
        self._file = _tokenizer_file(options.tokenizer, beside)
        self.tokenizer = _opened(self._file)
        self._pad_id, self._pad_type = _padding(self.tokenizer, beside)
        self.tokenizer.no_padding()

    @property
    def filled(self) -> list[str]:
        """The inputs that it fills."""
        return list(self._fills)

    def rows(self, encoded: Sequence[Encoding]) -> dict[str, Array]:
        """The model's inputs, a row an encoding, padded at the end to the longest or to what the model takes."""
        length = self._fixed or max(len(one.ids) for one in encoded)
        fill = {IDS: self._pad_id, MASK: 0, TYPES: self._pad_type}
        found: dict[str, Array] = {}
        for name, spec in self._fills.items():
            meaning = _meaning(name)
            rows = np.full((len(encoded), length), fill[meaning], datatype(spec.datatype).dtype)
            for row, one in zip(rows, encoded, strict=True):
                values = {IDS: one.ids, MASK: one.attention_mask, TYPES: one.type_ids}[meaning]
                row[: len(values)] = values
            found[name] = rows
        return found

    def _longest(self, wanted: int | None, most: int | None, beside: ModelFiles) -> int:
        limits = [n for n in (self._fixed, _limit_of(beside)) if n is not None]
        if wanted is None:
            return min(([] if most is None else [most]) + limits, default=_USUAL)
        if limits and wanted > min(limits):
            raise TaskError(f"`max_tokens` is {wanted}, and the model takes {min(limits)}", hint="set it lower")
        return wanted


def text_of(item: Item, index: int) -> str:
    """The text of an item; bytes are UTF-8.

    Raises:
        ItemError: It is no text, or an empty one.
    """
    if isinstance(item, Mapping):
        raise ItemError("is no text", item=index, hint="give text, and no JSON object")
    try:
        text = item if isinstance(item, str) else item.decode()
        text.encode()  # half of a surrogate pair, which JSON can hold
    except UnicodeError as error:
        raise ItemError("is no text: it is not Unicode", item=index, hint="give it in UTF-8") from error
    if not text.strip():
        raise ItemError("is an empty text", item=index, hint="give at least one word")
    return text


def _meaning(name: str) -> str:
    plain = name.rpartition("/")[2].partition(":")[0]
    return _OTHER_NAMES.get(plain, plain)


def _limit_of(beside: ModelFiles) -> int | None:
    """Positions that the model has. RoBERTa and its kin start two after the padding's."""
    config = beside.read("config.json")
    positions, kind = config.get("max_position_embeddings"), str(config.get("model_type", ""))
    said = beside.read("tokenizer_config.json").get("model_max_length")
    found = []
    if isinstance(positions, int) and positions > 0:
        found.append(positions - 2 if kind in ("roberta", "xlm-roberta", "camembert", "mpnet") else positions)
    if isinstance(said, int) and 0 < said < _NO_LIMIT:
        found.append(said)
    return min(found, default=None)


def _tokenizer_file(name: str, beside: ModelFiles) -> Path:
    file = beside.resolve(name)
    if not file.is_file():
        where = f" in `{beside.folder}`" if beside.folder is not None and not file.is_absolute() else ""
        raise TaskError(
            f"there is no `{name}`{where}",
            hint="put the model's `tokenizer.json` beside it, or say where it is",
        )
    return file


def _opened(file: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "texts need the library `tokenizers`", hint="install it with `pip install 'lamella[text]'`"
        ) from error
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        reason = str(error).splitlines()[0]
        raise TaskError(f"`{file}` is no tokeniser: {reason}", hint="give the model's own `tokenizer.json`") from error


def _padding(tokenizer: Tokenizer, beside: ModelFiles) -> tuple[int, int]:
    """The token of padding, and its type. It is masked: 0 is as good where nobody says it."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"]), int(tokenizer.padding["pad_type_id"])
    said = beside.read("config.json").get("pad_token_id")
    for token in ("[PAD]", "<pad>"):
        if (number := tokenizer.token_to_id(token)) is not None:
            return int(number), 0
    return (said if isinstance(said, int) else 0), 0
