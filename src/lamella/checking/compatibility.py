"""Whether the engine in the package knows what the model is written in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from lamella.checking.report import Check
from lamella.checking.setting import Setting
from lamella.engines.base import EngineOptions
from lamella.engines.onnxruntime import OnnxRuntimeEngine
from lamella.errors import EngineError
from lamella.graph.model import Model

_PLAIN_OPSET, _PLAIN_IR = 17, 8
_FIRST_FOR_ARM64 = (1, 26)
_NO_SUCH_VERSION = 1 << 16


def compatibility_checks(setting: Setting, model: Model) -> Iterator[Check]:
    """Operator sets and format of a model against the engine.

    The engine is asked, with models of one node: the highest version that it loads is what it supports. Operator sets
    that it does not know at all have no versions; whether their operators are there, loading the model shows.
    """
    for domain, wanted in sorted(model.opset_imports.items()):
        title = f"opset of {domain or 'ai.onnx'}"
        yield _version_check(setting, "opset", title, wanted, highest_opset(domain), "export the model for opset")
    highest = highest_ir_version()
    yield _version_check(
        setting, "ir_version", "IR version", model.ir_version, highest, "save the model with IR version"
    )
    yield from _arm64(setting)


def _arm64(setting: Setting) -> Iterator[Check]:
    if setting.architecture != "arm64":
        return
    name, _, found = setting.closure.engine.partition(" ")
    known = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    allowed = ".".join(str(part) for part in _FIRST_FOR_ARM64)
    fits = known >= _FIRST_FOR_ARM64
    yield Check(
        "engine_version",
        f"{name} on arm64, at least",
        found,
        allowed,
        "version",
        "ok" if fits else "violated",
        "counted",
        "older ones abort where `/sys/devices/system/cpu` is missing, as it is in functions",
        hint=None if fits else f"install {name} {allowed} or newer, or choose x86_64",
    )


def _version_check(setting: Setting, limit: str, title: str, wanted: int, highest: int | None, way_out: str) -> Check:
    fits = highest is None or wanted <= highest
    return Check(
        limit,
        title,
        wanted,
        highest,
        "version",
        "ok" if fits else "violated",
        "counted",
        setting.closure.engine,
        detail="the engine does not know this domain: its operators come from a library" if highest is None else None,
        hint=None if fits else f"{way_out} {highest}",
    )


@cache
def highest_opset(domain: str) -> int | None:
    """The highest version of an operator set that the engine loads; None where it takes any, knowing none."""
    return _highest(lambda version: _loads(domain, version, _PLAIN_IR))


@cache
def highest_ir_version() -> int | None:
    """The highest version of the ONNX format that the engine loads."""
    return _highest(lambda version: _loads("", _PLAIN_OPSET, version))


def _highest(accepts: Callable[[int], bool]) -> int | None:
    """The highest version that is accepted, where all below it are too: bisection. None where all are."""
    low, high = 0, _NO_SUCH_VERSION
    if accepts(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepts(middle) else (low, middle)
    return low


def _loads(domain: str, opset: int, ir_version: int) -> bool:
    """Whether the engine loads a model of one node that imports this operator set."""
    from onnx import TensorProto, helper

    imports = {"": _PLAIN_OPSET, domain: opset}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
    opsets = [helper.make_opsetid(name, version) for name, version in imports.items()]
    probe = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    try:
        OnnxRuntimeEngine().load(probe.SerializeToString(), EngineOptions()).close()
    except EngineError:
        return False
    return True
