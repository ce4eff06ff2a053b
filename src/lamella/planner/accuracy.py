"""How far estimates are off: what operator statistics say of a model on this machine, against what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lamella.graph.model import Model, Value
from lamella.planner.profile import Profile
from lamella.planner.residency import model_held_bytes
from lamella.planner.timing import node_times
from lamella.platforms import load_platform
from lamella.platforms.base import MB


@dataclass(frozen=True)
class Comparison:
    """One quantity, estimated and measured.

    Attributes:
        quantity: What it is.
        unit: Of both numbers.
        estimated: From operator statistics and the `local` platform's speeds.
        measured: By the profile.
    """

    quantity: str
    unit: str
    estimated: float
    measured: float

    @property
    def error(self) -> float:
        """Share of the measurement by which the estimate is too high, or too low where negative."""
        return self.estimated / self.measured - 1 if self.measured else 0.0


def comparisons(
    model: Model,
    profile: Profile,
    values: Mapping[str, Value],
    sizes: Mapping[str, int],
    activations_bytes: int,
) -> list[Comparison]:
    """Estimates of the whole model on one processor of the profile's machine, beside what the profile measured.

    Args:
        model: The model.
        profile: Of the model.
        values: Types of its values.
        sizes: Bytes of its values.
        activations_bytes: Activations at their worst moment.
    """
    local, machine = load_platform("local").speeds, profile.machine
    here = replace(local, gflops_per_vcpu=machine.gflops, memory_gb_s=machine.memory_gb_s)
    weights_mb = model.weights_bytes / MB
    session_ms = local.session_ms_per_node * len(model.graph.nodes) + local.session_ms_per_mb * weights_mb
    memory_bytes = local.weights_factor * model_held_bytes(model) + local.activations_factor * activations_bytes
    return [
        Comparison(
            "inference", "ms", sum(node_times(model, values, profile.dims, here, sizes=sizes)), profile.measured_ms
        ),
        Comparison("session", "ms", session_ms, profile.session_ms),
        Comparison(
            "peak memory",
            "MB",
            local.floor_mb + memory_bytes / MB,
            (machine.floor_bytes + profile.peak_bytes) / MB,
        ),
    ]
