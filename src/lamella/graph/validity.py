"""Checks that a model's graph is consistent, before anything relies on it."""

from __future__ import annotations

from collections.abc import Iterable

from lamella.errors import MalformedModelError
from lamella.graph.model import Graph, Model, OpId

_AGAIN = "export the model again"
_MOST_IR_VERSION, _MOST_OPSET_VERSION = 255, (1 << 31) - 1
_MOST_NODES = 1_000_000


def check(model: Model) -> None:
    """Check versions, names, and that every value used is made somewhere.

    Raises:
        MalformedModelError: They are inconsistent; the message names the value and the node.
    """
    if not 1 <= model.ir_version <= _MOST_IR_VERSION:
        raise MalformedModelError(f"IR version {model.ir_version} is none that ONNX has", hint=_AGAIN)
    if model.ir_version >= 3 and not model.opset_imports:
        raise MalformedModelError("the model imports no operator set", hint=_AGAIN)
    for domain, version in model.opset_imports.items():
        if not 1 <= version <= _MOST_OPSET_VERSION:
            raise MalformedModelError(f"operator set `{domain or 'ai.onnx'}` has version {version}", hint=_AGAIN)
    graph = model.graph
    _check_unique((v.name for v in graph.inputs), "inputs")
    _check_unique((v.name for v in graph.outputs), "outputs")
    made = _check_single_assignment(graph)
    _check_uses(graph, made)
    _check_functions(model)


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
            raise MalformedModelError(
                f"two {what} are named `{name}`" if name else f"one of the {what} has no name", hint=_AGAIN
            )
        seen.add(name)


def _check_functions(model: Model) -> None:
    """Refuse functions that call themselves, or that a few bytes of make more nodes than anything can run.

    ONNX forbids recursion. ONNX's shape inference and ONNX Runtime put a function's body where it is called.
    """
    nodes: dict[OpId, int] = {}
    for op in model.functions:
        _count_nodes(model, op, nodes)
    for node in model.graph.nodes:
        total = sum(nodes.get(op, 1) * count for op, count in (*node.calls.items(), (node.op, 1)))
        if total > _MOST_NODES:
            raise MalformedModelError(
                f"{node.label} stands for more than {_MOST_NODES} nodes once its functions are put in place",
                hint="no exporter writes this; do not trust the model",
            )


def _count_nodes(model: Model, start: OpId, nodes: dict[OpId, int]) -> None:
    """Set how many nodes `start`, and every function behind it, stands for."""
    waiting, open_ = [start], set[OpId]()
    while waiting:
        op = waiting[-1]
        calls = model.functions[op].calls
        behind = [inner for inner in calls if inner in model.functions and inner not in nodes]
        if op in nodes or not behind:
            nodes[op] = min(sum(nodes.get(inner, 1) * count for inner, count in calls.items()), _MOST_NODES + 1)
            open_.discard(waiting.pop())
        elif op in open_:
            raise MalformedModelError(f"function `{op[1]}` calls itself", hint=_AGAIN)
        else:
            open_.add(op)
            waiting += behind
