"""Checks that a model's graph is consistent, before anything relies on it."""

from __future__ import annotations

from collections.abc import Iterable

from lamella.errors import MalformedModelError
from lamella.graph.model import Graph, Model

_AGAIN = "export the model again"


def check(model: Model) -> None:
    """Check versions, names, and that every value used is made somewhere.

    Raises:
        MalformedModelError: They are inconsistent; the message names the value and the node.
    """
    if model.ir_version < 1:
        raise MalformedModelError(f"IR version {model.ir_version} is none that ONNX has", hint=_AGAIN)
    if model.ir_version >= 3 and not model.opset_imports:
        raise MalformedModelError("the model imports no operator set", hint=_AGAIN)
    for domain, version in model.opset_imports.items():
        if version < 1:
            raise MalformedModelError(f"operator set `{domain or 'ai.onnx'}` has version {version}", hint=_AGAIN)
    graph = model.graph
    made = _check_single_assignment(graph)
    _check_uses(graph, made)
    _check_unique((v.name for v in graph.inputs), "inputs")
    _check_unique((v.name for v in graph.outputs), "outputs")


def _check_single_assignment(graph: Graph) -> set[str]:
    made = {value.name for value in graph.inputs} | graph.initializers.keys()
    for node in graph.nodes:
        for name in node.outputs:
            if name in made:
                raise MalformedModelError(f"`{name}` is made twice, the second time by {node.label}", hint=_AGAIN)
            if name:
                made.add(name)
    return made


def _check_uses(graph: Graph, made: set[str]) -> None:
    for node in graph.nodes:
        for name in node.uses:
            if name not in made:
                raise MalformedModelError(f"{node.label} uses `{name}`, which nothing makes", hint=_AGAIN)
    for value in graph.outputs:
        if value.name not in made:
            raise MalformedModelError(f"output `{value.name}` is made by nothing", hint=_AGAIN)


def _check_unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen or not name:
            raise MalformedModelError(f"two {what} are named `{name}`" if name else f"one of the {what} has no name")
        seen.add(name)
