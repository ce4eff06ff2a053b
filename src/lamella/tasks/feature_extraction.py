"""`feature-extraction`: a vector for a text or an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamella.tasks.base import Answer, Item, Prepared, State
from lamella.tasks.files import ModelFiles
from lamella.tasks.image_options import ImageOptions
from lamella.tasks.pixels import ImageInput
from lamella.tasks.pooling import Floats, Pooling, normalized, pool, pooling_beside
from lamella.tasks.settings import changed, check_names, names_of, picked
from lamella.tasks.specs import check_filled, check_rows, chosen, output_of, rank
from lamella.tasks.texts import TextInput, TextOptions, text_of
from lamella.tensors import Tensors, TensorSpec

NAME = "feature-extraction"

_OUTPUTS = ("sentence_embedding", "text_embeds", "image_embeds", "token_embeddings", "last_hidden_state")


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """How a vector comes out of the model.

    Attributes:
        pooling: How the vectors of tokens become one; several are joined. By default what sentence-transformers' files
            beside the model say, or else the mean for texts, and the first token's for images. An output that is one
            vector already is left as it is.
        normalize: Whether vectors get length 1; by default what sentence-transformers' files say.
        output: The output to take; by default the one that is named like a vector of the whole, or of tokens.
    """

    pooling: Pooling | tuple[Pooling, ...] | None = None
    normalize: bool = False
    output: str | None = None


class FeatureExtraction:
    """Makes vectors of texts or images, whichever the model takes.

    Items are texts, or the bytes of image files. An answer is `{"embedding": [...]}`.

    Args:
        inputs: The model's inputs.
        outputs: The model's outputs.
        beside: The model's files.
        settings: Settings of `FeatureOptions`; for texts those of `TextOptions`, for images those of `ImageOptions` and
            `preset`.

    Raises:
        UsageError: A setting makes no sense.
        TaskError: The model does not suit the task.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        beside: ModelFiles,
        settings: Mapping[str, object],
    ) -> None:
        of_images = any(rank(spec) == 4 for spec in inputs)
        kinds = (ImageOptions,) if of_images else (TextOptions,)
        preset = ("preset",) if of_images else ()
        check_names(settings, (*preset, *names_of(FeatureOptions, *kinds)), NAME)
        pooling, normalize = pooling_beside(beside)
        start = FeatureOptions(pooling=pooling or (("cls",) if of_images else ("mean",)), normalize=normalize)
        self._options = changed(start, picked(settings, FeatureOptions), NAME)
        others = {name: value for name, value in settings.items() if name not in names_of(FeatureOptions)}
        self._source = _Images(inputs, others, beside) if of_images else _Texts(inputs, others, beside)
        check_filled(inputs, self._source.filled, NAME)
        self._output = self._chosen(outputs)

    @property
    def batch(self) -> int | None:
        """Items that the model takes at once; None for any number."""
        return self._source.batch

    def preprocess(self, items: Sequence[Item]) -> Prepared:
        """Tokens of texts, cut off where the model ends; or pixel values of images."""
        return self._source.prepare(items)

    def postprocess(self, outputs: Tensors, states: Sequence[State]) -> list[Answer]:
        """A vector for each item, as a list of numbers."""
        name = self._output.name
        array = check_rows(output_of(outputs, name, (2, 3, 4)), name, len(states))
        vectors = self._pooled(array, states)
        if self._options.normalize:
            vectors = normalized(vectors)
        return [{"embedding": vector.tolist()} for vector in vectors]

    def _pooled(self, array: Floats, states: Sequence[State]) -> Floats:
        if array.ndim == 4:  # a map of features: the mean over the image
            mean: Floats = array.mean(axis=(2, 3))
            return mean
        if array.ndim == 2:
            return array
        counts = np.array([state.get("tokens", array.shape[1]) for state in states], np.intp)
        pooling = self._options.pooling or ()
        return pool(array, counts, (pooling,) if isinstance(pooling, str) else pooling)

    def _chosen(self, outputs: Sequence[TensorSpec]) -> TensorSpec:
        if self._options.output is not None:
            return chosen(self._options.output, "output", outputs)
        by_name = {spec.name: spec for spec in outputs}
        return next((by_name[name] for name in _OUTPUTS if name in by_name), outputs[0])


class _Images:
    def __init__(self, inputs: Sequence[TensorSpec], settings: Mapping[str, object], beside: ModelFiles) -> None:
        self._input = ImageInput(inputs, settings, beside, task=NAME)
        self.filled, self.batch = self._input.filled, self._input.batch

    def prepare(self, items: Sequence[Item]) -> Prepared:
        inputs, placements = self._input.prepare(items)
        return Prepared(inputs, [{} for _ in placements])


class _Texts:
    def __init__(self, inputs: Sequence[TensorSpec], settings: Mapping[str, object], beside: ModelFiles) -> None:
        config = beside.read("sentence_bert_config.json")
        longest = config.get("max_seq_length")
        options = changed(TextOptions(), settings, NAME)
        self._input = TextInput(inputs, options, beside, most=longest if isinstance(longest, int) else None, task=NAME)
        self._input.tokenizer.enable_truncation(self._input.max_tokens)
        self._lower = config.get("do_lower_case") is True
        self.filled, self.batch = self._input.filled, self._input.batch

    def prepare(self, items: Sequence[Item]) -> Prepared:
        texts = [text_of(item, index).strip() for index, item in enumerate(items)]
        encoded = self._input.tokenizer.encode_batch([text.lower() if self._lower else text for text in texts])
        return Prepared(self._input.rows(encoded), [{"tokens": len(one.ids)} for one in encoded])
