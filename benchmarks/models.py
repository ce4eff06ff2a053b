"""Make the models that the benchmarks run on: real architectures, random weights, always the same bytes.

    python benchmarks/models.py                  # the large ones, 7.4 GB, in build/bench-models
    python benchmarks/models.py resnet50 vgg19   # these two

A model that is already there is left alone. Beside each stands `NAME.json`: files with size and SHA-256, parameters,
and the most bytes of activations that are alive at once for the inputs that the benchmarks use.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import networks
import numpy as np
import numpy.typing as npt
import onnx
from modelfile import Written, write_external, write_inline
from network import Network
from networks import Transformer

FORMAT = 2  # raise it when the same name would come out with other bytes: cached files are then made again
SEED = 2026
CACHE = Path(__file__).resolve().parent.parent / "build" / "bench-models"

Array = npt.NDArray[np.generic]
Inputs = dict[str, Array]


class Facts(TypedDict):
    """What stands in a model's `NAME.json`."""

    format: int
    seed: int
    files: list[Written]
    parameters: int
    activation_bytes: int


@dataclass(frozen=True)
class Recipe:
    """How one model is made and what it is fed.

    Attributes:
        build: Makes its graph.
        external: Whether the weights stand in a data file beside the `.onnx` file.
        sequence: Tokens per input, for transformers.
        vocabulary: Token ids are drawn below this.
        ids_only: Whether a transformer takes nothing but token ids.
    """

    build: Callable[[], Network]
    external: bool = False
    sequence: int = 0
    vocabulary: int = 0
    ids_only: bool = False


_BERT_BASE = Transformer(hidden=768, layers=12, heads=12, vocabulary=30522, positions=512)
_BERT_LARGE = Transformer(hidden=1024, layers=24, heads=16, vocabulary=30522, positions=512)
_MINILM = Transformer(hidden=384, layers=6, heads=12, vocabulary=30522, positions=512)
_DISTILBERT = Transformer(hidden=768, layers=6, heads=12, vocabulary=30522, positions=512)
_GPT2 = Transformer(hidden=768, layers=12, heads=12, vocabulary=50257, positions=1024)
_DECODER_5GB = Transformer(hidden=2048, layers=24, heads=16, vocabulary=8192, positions=1024)


def _bert(name: str, size: Transformer) -> Recipe:
    return Recipe(lambda: networks.bert(name, size), sequence=128, vocabulary=size.vocabulary)


RECIPES: Mapping[str, Recipe] = {
    "resnet50": Recipe(networks.resnet50),
    "bert-base": _bert("bert-base", _BERT_BASE),
    "vgg19": Recipe(networks.vgg19),
    "bert-large": Recipe(
        lambda: networks.bert("bert-large", _BERT_LARGE), sequence=128, vocabulary=_BERT_LARGE.vocabulary
    ),
    "transformer-5gb": Recipe(
        lambda: networks.decoder("transformer-5gb", _DECODER_5GB),
        external=True,
        sequence=64,
        vocabulary=_DECODER_5GB.vocabulary,
        ids_only=True,
    ),
    "mobilenet-v1": Recipe(networks.mobilenet_v1),
    "squeezenet": Recipe(networks.squeezenet),
    "resnet18": Recipe(networks.resnet18),
    "minilm": _bert("minilm", _MINILM),
    "distilbert": _bert("distilbert", _DISTILBERT),
    "gpt2": Recipe(lambda: networks.decoder("gpt2", _GPT2), sequence=64, vocabulary=_GPT2.vocabulary, ids_only=True),
}

LARGE = ("resnet50", "bert-base", "vgg19", "bert-large", "transformer-5gb")


@dataclass(frozen=True)
class BenchModel:
    """A model on disk.

    Attributes:
        name: Its name in `RECIPES`.
        path: The `.onnx` file.
        files: All its files.
        size_bytes: Their sizes together.
        sha256: Digest of each file, by file name.
        parameters: Elements of all weights.
        activation_bytes: Most bytes of intermediate values alive at once, in file order, for `inputs(name)`.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    size_bytes: int
    sha256: dict[str, str]
    parameters: int
    activation_bytes: int


def make(name: str, cache: Path = CACHE) -> BenchModel:
    """Return the model, made first where it is not in the cache.

    Cost: writes the model's size to disk, in memory of a few MB above the imports.
    """
    found = _cached(name, cache)
    if found is not None:
        return found
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{name}.onnx"
    manifest = path.with_suffix(".json")
    manifest.unlink(missing_ok=True)
    recipe = RECIPES[name]
    network = recipe.build()
    model = network.model()
    write = write_external if recipe.external else write_inline
    written = write(model, network.weights, path, seed=SEED)
    facts: Facts = {
        "format": FORMAT,
        "seed": SEED,
        "files": written,
        "parameters": sum(math.prod(weight.shape) for weight in network.weights),
        "activation_bytes": activation_bytes(model, {name: value.shape for name, value in inputs(name).items()}),
    }
    manifest.write_text(json.dumps(facts, indent=2) + "\n")
    return _described(name, cache, facts)


def _cached(name: str, cache: Path) -> BenchModel | None:
    manifest = cache / f"{name}.json"
    if not manifest.exists():
        return None
    facts: Facts = json.loads(manifest.read_text())
    if (facts["format"], facts["seed"]) != (FORMAT, SEED):
        return None
    found = _described(name, cache, facts)
    complete = all(file.exists() for file in found.files)
    return found if complete and sum(file.stat().st_size for file in found.files) == found.size_bytes else None


def _described(name: str, cache: Path, facts: Facts) -> BenchModel:
    files = facts["files"]
    return BenchModel(
        name=name,
        path=cache / f"{name}.onnx",
        files=tuple(cache / file["file"] for file in files),
        size_bytes=sum(file["size_bytes"] for file in files),
        sha256={file["file"]: file["sha256"] for file in files},
        parameters=facts["parameters"],
        activation_bytes=facts["activation_bytes"],
    )


def inputs(name: str) -> Inputs:
    """The benchmark's input for a model: one image, or one sequence; always the same."""
    recipe = RECIPES[name]
    random = np.random.default_rng(SEED)
    if not recipe.sequence:
        return {"image": random.standard_normal((1, 3, 224, 224), dtype=np.float32)}
    shape = (1, recipe.sequence)
    ids = random.integers(0, recipe.vocabulary, shape, dtype=np.int64)
    if recipe.ids_only:
        return {"input_ids": ids}
    return {"input_ids": ids, "attention_mask": np.ones(shape, np.int64), "token_type_ids": np.zeros(shape, np.int64)}


def save_inputs(name: str, path: Path) -> None:
    """Write the benchmark's input for a model as an `.npz` file."""
    np.savez(path, allow_pickle=False, **inputs(name))


def activation_bytes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Most bytes of intermediate values alive at once: nodes run in file order, values go after their last use."""
    graph = model.graph
    symbols: dict[str, int] = {}
    for value in graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            symbols[dim.dim_param] = size
    sizes = {v.name: _value_bytes(v, symbols) for v in [*graph.value_info, *graph.output, *graph.input]}
    last_use = {name: index for index, node in enumerate(graph.node) for name in [*node.output, *node.input]}
    last_use.update({value.name: len(graph.node) for value in graph.output})
    alive = peak = sum(sizes[value.name] for value in graph.input)
    for index, node in enumerate(graph.node):
        alive += sum(sizes[name] for name in node.output)
        peak = max(peak, alive)
        ended = {name for name in [*node.input, *node.output] if name in sizes and last_use[name] == index}
        alive -= sum(sizes[name] for name in ended)
    return peak


def _value_bytes(value: onnx.ValueInfoProto, symbols: Mapping[str, int]) -> int:
    tensor = value.type.tensor_type
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    return itemsize * math.prod(symbols[dim.dim_param] if dim.dim_param else dim.dim_value for dim in tensor.shape.dim)


def main() -> None:
    """Make the models named on the command line, or the large ones."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; default: {', '.join(LARGE)}"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the models (default: build/bench-models)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(RECIPES))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    for name in arguments.names or LARGE:
        started = time.perf_counter()
        made = make(name, arguments.cache)
        seconds = time.perf_counter() - started
        print(f"{name}: {made.size_bytes / 1e6:,.0f} MB, {made.parameters / 1e6:,.1f} M parameters, {seconds:.1f} s")


if __name__ == "__main__":
    main()
