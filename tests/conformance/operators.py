"""Runs ONNX's models for single operators in every engine, and writes `docs/reference/engines.md`.

    python -m tests.conformance.operators

Each model's answer is compared with the one that comes with it. An engine that ends its process costs that model only.
"""

import multiprocessing
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_node_model_tests

from lamella.engines.base import EngineOptions, Session
from lamella.engines.opening import EngineName, open_engine
from lamella.errors import LamellaError
from lamella.tensors import Array

REPORT = Path(__file__).parents[2] / "docs" / "reference" / "engines.md"
RIGHT, REFUSED, OTHER, ENDED = "right", "refused", "another answer", "ends the process"
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "opencv": "cv2"}
CASE_S = 120

HEAD = """# Operators in each engine

Every model for a single operator of the ONNX backend suite, and what their definitions expand to, whole, in every
engine, with the engine's own optimisations: {count} models of tensors alone, with onnx {onnx}. An answer is right where
no element is off by more than a hundredth of its size plus 0.001, and none is random. `python -m
tests.conformance.operators` writes this page.

| engine | right | refused | another answer | ends the process |
|---|---:|---:|---:|---:|
"""
LISTS = """
What is refused is an error before anything is computed, or instead of an answer. **Another answer** is what to look for
before a model goes into an engine: compare its outputs with ONNX Runtime's, on real inputs. These are the operators:
"""


def tensors_alone(case: TestCase) -> bool:
    """Whether a case has data, takes and gives tensors alone, and draws no random numbers."""
    if "bernoulli" in case.name:
        return False
    return bool(case.data_sets) and all(isinstance(x, np.ndarray) for part in case.data_sets[0] for x in part)


def verdict(engine: EngineName, case: TestCase) -> str:
    """What becomes of a case in an engine."""
    weights = {tensor.name for tensor in case.model.graph.initializer}
    names = [value.name for value in case.model.graph.input if value.name not in weights]
    given, expected = case.data_sets[0]
    if len(given) != len(names):
        names = names[: len(given)]  # the rest are optional, and left out
    try:
        session: Session = open_engine(engine).load(case.model.SerializeToString(), EngineOptions())
        found = session.infer(dict(zip(names, given, strict=True)))
        answers = [open_engine(engine).to_array(found[value.name]) for value in case.model.graph.output]
    except LamellaError:
        return REFUSED
    return RIGHT if all(same(a, b) for a, b in zip(answers, expected, strict=True)) else OTHER


def same(found: Array, expected: Array) -> bool:
    """Whether an answer is the expected one."""
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    if expected.dtype.kind in "OU":
        return bool(np.array_equal(found, expected))
    kind = np.complex128 if expected.dtype.kind == "c" else np.float64
    return bool(np.allclose(found.astype(kind), expected.astype(kind), rtol=1e-2, atol=1e-3, equal_nan=True))


def serve(engine: EngineName, pipe: Connection) -> None:
    """Answer each name of a case with its verdict."""
    warnings.simplefilter("ignore")
    cases = {case.name: case for case in load_node_model_tests()}
    while True:
        pipe.send(verdict(engine, cases[pipe.recv()]))


def verdicts(engine: EngineName, names: Sequence[str]) -> dict[str, str]:
    """Verdicts of all cases; whoever ends the process does not keep the others from theirs."""
    context = multiprocessing.get_context("spawn")
    found: dict[str, str] = {}
    process, pipe = None, None
    for name in names:
        if process is None or pipe is None:
            pipe, inside = context.Pipe()
            process = context.Process(target=serve, args=(engine, inside), daemon=True)
            process.start()
            inside.close()
        try:
            pipe.send(name)
            found[name] = pipe.recv() if pipe.poll(CASE_S) else ENDED
        except (EOFError, OSError):
            found[name] = ENDED
        if found[name] == ENDED:
            process.kill()
            process.join()
            process = None
    if process is not None:
        process.kill()
        process.join()
    return found


def page(results: Mapping[str, Mapping[str, str]]) -> str:
    """The report."""
    lines = [HEAD.format(count=len(next(iter(results.values()))), onnx=onnx.__version__).rstrip("\n")]
    for engine, found in results.items():
        version = __import__(PACKAGES[engine]).__version__.partition("-")[0]
        counts = [sum(v == kind for v in found.values()) for kind in (RIGHT, REFUSED, OTHER, ENDED)]
        lines.append(f"| `{engine}` {version} | " + " | ".join(map(str, counts)) + " |")
    lines.append(LISTS.rstrip("\n"))
    for engine, found in results.items():
        for kind in (OTHER, ENDED):
            cases = [name for name, verdict in found.items() if verdict == kind]
            if cases:
                lines += ["", f"## `{engine}`: {kind}", "", ", ".join(f"`{name}`" for name in sorted(cases))]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all, and write the report."""
    names = [case.name for case in load_node_model_tests() if tensors_alone(case)]
    results = {engine: verdicts(engine, names) for engine in get_args(EngineName)}
    REPORT.write_text(page(results))


if __name__ == "__main__":
    main()
