"""One case of the backend suite: the whole model against its slices, through files on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import onnx
from tests.conformance.cases import Case, Item, ramp
from tests.conformance.whole import plain_session, run_whole, same

import lamella
from lamella.errors import PlanError
from lamella.graph import Model
from lamella.planner import Plan
from lamella.slicing.differences import difference

COUNTS: tuple[int | Literal["max"], ...] = (2, 3, "max")

_HALF_FLOATS = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


@dataclass
class Result:
    """What became of one case.

    Attributes:
        suite: The case's suite.
        name: The case's name.
        excluded: Why there is nothing to compare with; empty where there is.
        slices: For each of `COUNTS`, how many slices gave the whole's result; a count that the model has too few legal
            cuts for is missing.
        half_crosses: Whether a value of half precision crosses a cut, so that results may differ in the last bits.
        failures: What differed or failed.
    """

    suite: str
    name: str
    excluded: str = ""
    slices: dict[str, int] = field(default_factory=dict)
    half_crosses: bool = False
    failures: list[str] = field(default_factory=list)


def check(case: Case) -> Result:
    """Run one case whole, and in each number of slices that it has cuts for."""
    result = Result(case.suite, case.name)
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(case.content)
        try:
            feeds = _feeds(case, path)
            expected = run_whole(path, feeds)
            again = run_whole(path, feeds)
        except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises is why there is nothing to compare with
            result.excluded = _reason(error)
            return result
        if not all(same(expected[name], again[name]) for name in expected):
            result.excluded = "random outputs: two runs of the whole model differ"
            return result
        try:
            _check_slices(lamella.load(path), Path(folder), feeds, expected, result)
        except Exception as error:  # noqa: BLE001 - the other cases go on
            result.failures.append(f"{type(error).__name__}: {error}")
    return result


def _feeds(case: Case, path: Path) -> dict[str, Item]:
    inputs = plain_session(path).get_inputs()
    if case.inputs is None:
        return {spec.name: ramp(spec.shape) for spec in inputs}
    return dict(zip((spec.name for spec in inputs), case.inputs, strict=True))


def _check_slices(
    model: Model, folder: Path, feeds: Mapping[str, Item], expected: Mapping[str, Item], result: Result
) -> None:
    for count in COUNTS:
        try:
            plan = lamella.plan(model, slices=count)
        except PlanError:
            continue
        directory = folder / f"{count}.slices"
        lamella.slice(plan, directory, verify=False)
        with lamella.Pipeline(directory, optimization="none", threads=1) as pipeline:
            actual = pipeline.infer(feeds)
        _compare(plan, expected, actual, result)
        if not result.failures:
            result.slices[str(count)] = len(plan.slices)
    if "2" in result.slices:
        _check_other_modes(model, folder, feeds, expected, result)


def _compare(plan: Plan, expected: Mapping[str, Item], actual: Mapping[str, Item], result: Result) -> None:
    different = [name for name in expected if not (name in actual and same(expected[name], actual[name]))]
    half_crosses = _half_floats_cross(plan)
    result.half_crosses |= half_crosses
    if (different or actual.keys() != expected.keys()) and not (half_crosses and _close(expected, actual)):
        result.failures.append(f"{len(plan.slices)} slices: {different or list(actual)} differ")


def _half_floats_cross(plan: Plan) -> bool:
    """Whether a half-precision value goes from one slice to another.

    ONNX Runtime computes an operator that has no half-precision kernel in FP32, and keeps what goes straight to
    another such operator in FP32 too; at a cut it is rounded.
    """
    made = {name for part in plan.slices for name in part.outputs}
    crossing = {name for part in plan.slices for name in part.inputs if name in made}
    types = (plan.values[name].type for name in crossing)
    return any(kind is not None and kind.datatype in _HALF_FLOATS for kind in types)


def _check_other_modes(
    model: Model, folder: Path, feeds: Mapping[str, Item], expected: Mapping[str, Item], result: Result
) -> None:
    """Two slices with weights of their own, one in memory at a time; and as they run by default, optimised."""
    plan = lamella.plan(model, slices=2)
    directory = folder / "copied.slices"
    lamella.slice(plan, directory, copy_weights=True, verify=False)
    with lamella.Pipeline(directory, optimization="none", low_memory=True, threads=1) as pipeline:
        _compare(plan, expected, pipeline.infer(feeds), result)
    with lamella.Pipeline(folder / "2.slices") as pipeline:
        if not _close(expected, pipeline.infer(feeds)):
            result.failures.append("2 slices, optimised, are beyond tolerance")


def _close(expected: Mapping[str, Item], actual: Mapping[str, Item]) -> bool:
    return expected.keys() == actual.keys() and all(
        same(expected[name], actual[name]) or difference(name, expected[name], actual[name]).ok for name in expected
    )


def _reason(error: Exception) -> str:
    """The error's class and what it says, without names and numbers."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    for part, meaning in _MEANINGS.items():
        if part in text:
            return f"`{kind}`: {meaning}"
    return f"`{kind}`: {re.sub(r'^.*Status Message: |^.* : |/onnxruntime_src/.*', '', text)[:120]}"


_MEANINGS = {
    "Could not find an implementation for": "no kernel for the operator's version and types",
    "Failed to find kernel for": "no kernel for the operator's version and types",
    "Unsupported model IR version": "an IR version newer than it takes",
    "is not a registered function/op": "an operator that it does not know",
    "layout_ == 0 was false": "recurrent operators with `layout = 1`",
    "bound to different types": "a type error in its own expansion of the operator",
    "Unrecognized attribute": "an attribute that it does not know",
    "attn_mask == nullptr": "`Attention` with both a mask and `nonpad_kv_seqlen`",
    "IsScalarOr1Element": "`ConvInteger` with a zero point for each channel",
    "not defined for empty set": "`ReduceMax` of an empty set of booleans",
}
