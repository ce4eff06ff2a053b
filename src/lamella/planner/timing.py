"""How long each operator takes on a platform: from what it computes and moves, or from a profile. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lamella.graph.model import Model, Value
from lamella.planner.flow import flow_of, topological_order
from lamella.planner.profile import Profile
from lamella.planner.work import works_of
from lamella.platforms.base import Speeds

_FUSED = {"Add", "BatchNormalization", "Clip", "HardSigmoid", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Tanh"}


def node_times(
    model: Model,
    values: Mapping[str, Value],
    dims: Mapping[str, int],
    speeds: Speeds,
    profile: Profile | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
) -> list[float]:
    """Milliseconds of each node, by its index, on one virtual processor of a platform.

    Without a profile: the time of the node's work, and what any operator takes; nothing for what engines compute within
    the convolution before it. With one: the measured time, times how much longer that work takes on the platform, and
    for `dims`, than it took on the profile's machine for the profile's. Nodes that depend on weights alone take no
    time: the engine computes them when it loads the model.

    Args:
        model: The model.
        values: Types by name, as `planner.sizes.value_sizes` finds them.
        dims: Sizes of the symbolic dimensions.
        speeds: The platform's.
        profile: Of this model, from `read_profile` or `measure_profile`.
        sizes: Bytes by name for values of unknown shape, as `value_sizes` measures them.
    """
    constant = flow_of(model).constant
    works = works_of(model, values, dims, sizes=sizes)
    there = [work.milliseconds(gflops=speeds.gflops_per_vcpu, memory_gb_s=speeds.memory_gb_s) for work in works]
    if profile is None:
        each_ms = speeds.operator_us / 1000
        free = constant | _within_convolutions(model)
        return [0.0 if index in free else each_ms + time for index, time in enumerate(there)]
    machine = profile.machine
    if dict(profile.dims) != dict(dims):
        works = works_of(model, values, profile.dims, sizes=sizes)
    here = [work.milliseconds(gflops=machine.gflops, memory_gb_s=machine.memory_gb_s) for work in works]
    usual = machine.gflops / speeds.gflops_per_vcpu
    return [
        measured * (wanted / spent if spent else usual)
        for measured, wanted, spent in zip(profile.node_ms, there, here, strict=True)
    ]


def _within_convolutions(model: Model) -> set[int]:
    """Nodes that ONNX Runtime computes while it writes a convolution's result, which nothing else takes.

    https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html: `Conv Add`, `Conv Mul`,
    `Conv BatchNorm` and `Conv Activation` fusion.
    """
    nodes = model.graph.nodes
    outputs = {value.name for value in model.graph.outputs}
    users = Counter(name for node in nodes for name in node.uses)
    open_ends: set[str] = set()
    found: set[int] = set()
    for index in topological_order(model):
        node = nodes[index]
        if node.op[1] in _FUSED and not open_ends.isdisjoint(node.inputs):
            found.add(index)
        elif node.op[1] != "Conv":
            continue
        open_ends.update(name for name in node.outputs if users[name] == 1 and name not in outputs)
    return found
