"""Runs the whole backend suite and writes `docs/reference/conformance.md`.

```console
$ python -m tests.conformance.report
```
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import onnxruntime as ort
from tests.conformance.cases import SUITES, all_cases
from tests.conformance.check import COUNTS, Result, check

REPORT = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"

_OPSETS = "ALLOW_RELEASED_ONNX_OPSET_ONLY"  # ONNX Runtime refuses opsets that the newest `onnx` has before it, unless 0


def run_suite() -> list[Result]:
    """The result of every case. About one minute."""
    with _newest_opsets_allowed():
        return [check(case) for case in all_cases()]


@contextmanager
def _newest_opsets_allowed() -> Iterator[None]:
    before = os.environ.get(_OPSETS)
    os.environ[_OPSETS] = "0"
    ort.set_default_logger_severity(4)  # it warns of each
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)
        del os.environ[_OPSETS]
        if before is not None:
            os.environ[_OPSETS] = before


def render(results: Sequence[Result]) -> str:
    """The report, as Markdown."""
    compared = [result for result in results if not result.excluded]
    lines = [
        _INTRODUCTION.format(
            passed=sum(not result.failures for result in compared),
            compared=len(compared),
            excluded=len(results) - len(compared),
            models=len(results),
            onnx=version("onnx"),
            onnxruntime=version("onnxruntime"),
        ),
        *(_row(suite, [r for r in results if r.suite == suite]) for suite in SUITES),
        _NOTES,
        *_names(sorted(result.name for result in compared if result.half_crosses)),
        _EXCLUDED,
        *_exclusions(results),
        *_failures(compared),
    ]
    return "\n".join(lines) + "\n"


_INTRODUCTION = """\
# Conformance

Every model of the ONNX backend suite that ships inside the `onnx` package is run whole by ONNX Runtime, and cut into
2, 3 and as many slices as it has legal cuts for, written to disk and run from there. Outputs must be equal to the last
bit: tensors of every type, strings, sequences, maps and optionals. Neither side optimises the graph. Two slices also
run with copied weights, one in memory at a time (equal to the last bit), and with the default optimisation (equal
within tolerance). CI makes this page again and fails if it differs; `python -m tests.conformance.report` writes it.

**{passed} of {compared} models pass**, with onnx {onnx} and onnxruntime {onnxruntime}.
ONNX Runtime itself cannot run the other {excluded} of the {models}.

| suite | models | that run whole | that pass | in 2 slices | in 3 | in as many as possible | most slices |
|---|---:|---:|---:|---:|---:|---:|---:|"""

_NOTES = """
A model of one node, as most of these are, has no cut: it runs as a single slice, and counts in the column `in as many
as possible` only. `node` are the models for single operators, and what their definitions expand to; `light` are
AlexNet, DenseNet-121, Inception v1 and v2, ResNet-50, ShuffleNet, SqueezeNet, VGG-19 and ZFNet-512.

## Half precision across a cut

ONNX Runtime computes an operator that has no kernel for half precision in FP32, and hands the result on in FP32 where
the next one is of that kind too. Where a cut lies between them, the value is rounded. So these models may differ in
the last bits, and pass within tolerance:
"""

_EXCLUDED = """
## Excluded

ONNX Runtime does not run these models whole. This is its own error:
"""


def _row(suite: str, results: Sequence[Result]) -> str:
    compared = [result for result in results if not result.excluded]
    equal = [sum(str(count) in result.slices for result in compared) for count in COUNTS]
    most = max((result.slices.get("max", 0) for result in compared), default=0)
    passed = sum(not result.failures for result in compared)
    return f"| {suite} | {len(results)} | {len(compared)} | {passed} | {' | '.join(map(str, equal))} | {most} |"


def _exclusions(results: Iterable[Result]) -> Iterator[str]:
    names: dict[str, list[str]] = defaultdict(list)
    for result in results:
        if result.excluded:
            names[result.excluded].append(result.name)
    yield "| models | reason |"
    yield "|---:|---|"
    order = sorted(names, key=lambda reason: (-len(names[reason]), reason))
    for reason in order:
        yield f"| {len(names[reason])} | {reason} |"
    for reason in order:
        yield from ("", f"### {reason}", "", *_names(sorted(names[reason])))


def _names(names: Sequence[str]) -> Iterator[str]:
    yield ", ".join(f"`{name}`" for name in names) or "None."


def _failures(results: Iterable[Result]) -> Iterator[str]:
    failed = [result for result in results if result.failures]
    if failed:
        yield from ("", "## Failed", "")
        yield from (f"- `{result.name}`: {'; '.join(result.failures)}" for result in failed)


if __name__ == "__main__":
    REPORT.write_text(render(run_suite()))
