"""The fewest slices that fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lamella.checking.measuring import Figures
from lamella.checking.setting import Setting
from lamella.checking.subject import Subject
from lamella.errors import PlanError
from lamella.planner.cuts import Cuts, cuts_of
from lamella.planner.order import candidate_orders
from lamella.planner.plan import ENGINE_FLOOR_BYTES, plan
from lamella.planner.units import units_of
from lamella.platforms.base import MB

_SESSION_BYTES = 16 * MB  # a session of ONNX Runtime 1.31 was measured to take 10 to 15 MB beside its weights
_COARSE_BYTES = 16 * MB  # larger bounds are given in MiB, smaller ones in KiB

Fits = Callable[[int, int], bool]
"""Whether a slice with these bytes of weights and of activations fits a function."""


@dataclass(frozen=True)
class Cutting:
    """How a model would fit.

    Attributes:
        count: The fewest slices of which each fits a function's memory and package; None where no number does.
        max_memory_bytes: For `lamella slice --max-memory`: a bound under which every slice fits; it may make more.
            None where there is no such bound.
        activations_fit: Whether the activations alone would fit; no cut makes their worst moment smaller.
    """

    count: int | None
    max_memory_bytes: int | None
    activations_fit: bool = True


def fewest_slices(setting: Setting, figures: Figures) -> Cutting:
    """The fewest slices that fit.

    Memory is that of the cost model, scaled to what a run of the whole took. Where a part that cannot be cut does not
    fit, splitting its weight is tried.

    Args:
        setting: The function.
        figures: What the whole takes.
    """
    subject = figures.subject
    room = _package_room(setting, subject)
    floor, weight, activation = _memory_factors(setting, figures)
    most = setting.memory_mb * MB
    bound = int(min(room, (most - floor) / max(weight, activation)))
    if setting.batch > 1:  # `lamella slice` counts the activations of one row
        bound -= int(figures.load.activations_bytes)
    bound -= bound % (MB if bound > _COARSE_BYTES else 1024)
    max_memory_bytes = ENGINE_FLOOR_BYTES + bound
    least = setting.platform.speeds.floor_mb * MB + activation * figures.load.activations_bytes
    activations_fit = bool(least <= most)
    if _whole_fits(setting, figures, room):
        return Cutting(1, max_memory_bytes, activations_fit)

    def fits(weights: int, activations: int) -> bool:
        return weights <= room and floor + weight * weights + activation * activations <= most

    orders = [cuts_of(subject.flow, order, *subject.values) for order in candidate_orders(subject.flow)]
    counts = [count for cuts in orders if (count := fewest(cuts, fits)) is not None]
    if counts:
        bounded = any(fewest(cuts, lambda weights, activations: weights + activations <= bound) for cuts in orders)
        return Cutting(max(2, min(counts)), max_memory_bytes if bounded else None, activations_fit)
    split = _with_splits(subject, max_memory_bytes) if bound > 0 else None
    return Cutting(split, max_memory_bytes, activations_fit)


def fewest(cuts: Cuts, fits: Fits) -> int | None:
    """The fewest slices of this order that all fit, or None: always taking as much as fits is best.

    What a slice needs only grows with its nodes, so a slice that ends later never makes the rest worse off.
    """
    units = units_of(cuts, cuts.positions)
    count = weights = peak = 0
    seen: set[str] = set()
    for own, shared, highest in zip(units.own, units.shared, units.peak, strict=True):
        added = own + sum(size for name, size in shared if name not in seen)
        alone = own + sum(size for _, size in shared)
        if not fits(alone, highest):
            return None
        if count and fits(weights + added, max(peak, highest)):
            weights, peak = weights + added, max(peak, highest)
        else:
            count, weights, peak = count + 1, alone, highest
            seen.clear()
        seen.update(name for name, _ in shared)
    return max(1, count)


def _whole_fits(setting: Setting, figures: Figures, room: float) -> bool:
    in_memory = not figures.killed and figures.peak_bytes <= setting.memory_mb * MB
    return in_memory and float(figures.load.weights_bytes) <= room


def _package_room(setting: Setting, subject: Subject) -> float:
    """Bytes that a package, or else an image, leaves for weights."""
    limits = setting.limits
    limit = limits.image_bytes if limits.package_unzipped_bytes is None else limits.package_unzipped_bytes
    if limit is None:
        return float("inf")
    libraries = sum(library.stat().st_size for library in subject.custom_ops)
    return limit - setting.closure.unzipped_bytes - libraries - len(subject.model.structure)


def _memory_factors(setting: Setting, figures: Figures) -> tuple[float, float, float]:
    """Resident bytes of an empty function, and for each byte of weights and of activations.

    Together they give what the whole was found to take. What that is above the estimate is, up to `_SESSION_BYTES`, a
    session's own, which every slice has in full; the rest grows with the bytes. Weights that the engine copies count as
    often as in the whole.
    """
    speeds, load = setting.platform.speeds, figures.load
    tensors = float(load.inline_bytes + load.object_in_bytes + load.object_out_bytes)
    floor = speeds.floor_mb * MB
    empty = floor + tensors
    estimated = float(setting.cost_model.peak_bytes(load)) - empty
    scale = 1.0
    if figures.measured and estimated > 0:
        excess = figures.peak_bytes - empty - estimated
        empty += min(max(0.0, excess), _SESSION_BYTES)
        scale = max((figures.peak_bytes - empty) / estimated, 0.1)
    copies = float(load.held_bytes) / float(load.weights_bytes) if load.weights_bytes else 1.0
    return empty, scale * max(speeds.weights_factor * copies, 0.1), scale * max(speeds.activations_factor, 0.1)


def _with_splits(subject: Subject, max_memory_bytes: int) -> int | None:
    try:
        return len(plan(subject.model, max_memory_bytes=max_memory_bytes, custom_ops=subject.custom_ops).slices)
    except PlanError:
        return None
