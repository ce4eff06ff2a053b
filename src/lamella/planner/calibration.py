"""A platform's speeds, corrected for one model by what its profile measured."""

from __future__ import annotations

from dataclasses import replace

from lamella.graph.model import Model
from lamella.planner.profile import Profile
from lamella.planner.residency import model_held_bytes
from lamella.platforms import load_platform
from lamella.platforms.base import MB, Speeds

IN_A_FUNCTION = 0.97
"""Share of a processor's speed that is left inside a function that gets its time by quota.

Fitted to two runs of `benchmarks/estimates.py`: estimates with this share are right at the median. An earlier run on a
busier machine gave 0.88.
"""

_LEAST, _MOST = 0.25, 4.0  # a profile corrects an estimate; beyond that, one of the two is wrong


def calibrated(speeds: Speeds, profile: Profile, model: Model, activations_bytes: int, *, here: bool) -> Speeds:
    """The speeds and memory factors at which the estimates for the whole model are those that were measured.

    Operators take what was measured, scaled by the platform's speed over this machine's (`node_times`); where the
    platform is this machine, by what a function gets of it. Creating a session is scaled by the measured time over what
    the `local` platform's speeds give. Memory is the same everywhere: weights take what was measured beyond the
    activations, where that is more than estimated: a session alone takes less than a function does.

    Args:
        speeds: The platform's.
        profile: Of the model.
        model: The model.
        activations_bytes: Activations of the whole model at their worst moment.
        here: Whether the platform is this machine: then its speeds and the runtime's start are what was measured.
    """
    local = load_platform("local").speeds
    usual_ms = local.session_ms_per_node * len(model.graph.nodes)
    usual_ms += local.session_ms_per_mb * model.weights_bytes / MB
    session = _bounded(profile.session_ms / usual_ms) if usual_ms else 1.0
    held = model_held_bytes(model)
    measured = profile.machine.floor_bytes + profile.peak_bytes
    left = measured - local.floor_mb * MB - speeds.activations_factor * activations_bytes
    if here:
        machine = profile.machine
        speeds = replace(
            speeds,
            gflops_per_vcpu=IN_A_FUNCTION * machine.gflops,
            memory_gb_s=IN_A_FUNCTION * machine.memory_gb_s,
            runtime_init_ms=machine.runtime_ms,
        )
    return replace(
        speeds,
        session_ms_per_node=speeds.session_ms_per_node * session,
        session_ms_per_mb=speeds.session_ms_per_mb * session,
        weights_factor=max(speeds.weights_factor, _bounded(left / held)) if held > MB else speeds.weights_factor,
    )


def _bounded(ratio: float) -> float:
    return min(_MOST, max(_LEAST, ratio))
