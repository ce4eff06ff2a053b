"""What the planner estimates for slices on this machine, in the form of what is measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from chain import Transport
from models import BenchModel, inputs

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.planner.estimate import SliceEstimate
    from lamella.planner.plan import Plan
    from lamella.planner.profile import Profile
    from lamella.platforms.base import Platform

PLATFORM = "local"


@dataclass(frozen=True)
class Prediction:
    """Estimates for a plan.

    Attributes:
        warm_ms: A request, all functions warm.
        compute_ms: The operators' part of it, for each function.
        init_ms: From starting a function's process until it can take a request, all functions in turn.
        peak_bytes: Resident memory at the worst moment, for each function.
        gb_ms: Billed time times memory: GB-milliseconds of a warm request, not rounded up.
        usd_per_million: A million warm requests.
    """

    warm_ms: float
    compute_ms: tuple[float, ...]
    init_ms: float
    peak_bytes: tuple[int, ...]
    gb_ms: float
    usd_per_million: float


class Predictor:
    """Predicts what plans of one model cost here.

    Args:
        model: The model.
        profile: Of it, measured here; without one, estimates come from operator statistics and the platform's file.
        transport: What carries requests here, in place of the platform's own.
    """

    def __init__(self, model: BenchModel, *, profile: Profile | None, transport: Transport) -> None:
        from lamella.graph.reader import load
        from lamella.planner.planning import Planning

        loaded = load(model.path)
        dims = dims_of(model, loaded)
        self._planning = Planning(loaded, _platform(transport), profile=profile, dims=dims)

    def predict(self, plan: Plan, memory_mb: Sequence[int]) -> Prediction:
        """The estimates for `plan` with functions of these sizes."""
        from lamella.planner.estimate import Step, estimate
        from lamella.planner.flow import flow_of

        constant = flow_of(plan.model).constant
        parts = [[node for node in part.nodes if node not in constant] for part in plan.slices]
        order = tuple(node for part in parts for node in part)
        segments = next(segments for segments in self._planning.segments if segments.cuts.order == order)
        edges = pairwise((0, *accumulate(map(len, parts))))
        sized = enumerate(zip(edges, memory_mb, strict=True))
        steps = [Step(segments.load(start, end), size, index) for index, ((start, end), size) in sized]
        found = estimate(self._planning.costs, steps)
        return Prediction(
            warm_ms=found.warm_ms,
            compute_ms=tuple(round(float(part.costs.compute_ms), 3) for part in found.slices),
            init_ms=sum(float(part.costs.init_ms) for part in found.slices),
            peak_bytes=tuple(part.peak_bytes for part in found.slices),
            gb_ms=sum(_in_function_ms(part) * part.memory_mb / 1024 for part in found.slices),
            usd_per_million=1e6 * found.warm_usd,
        )


def _in_function_ms(part: SliceEstimate) -> float:
    return float(part.costs.transfer_ms + part.costs.compute_ms)


def _platform(transport: Transport) -> Platform:
    """The platform `local`, with the benchmark's transport for every tensor, and packages of any size."""
    from lamella.platforms.reading import load_platform

    found = load_platform(PLATFORM)
    speeds = replace(
        found.speeds,
        hop_ms=transport.hop_ms,
        handler_ms=transport.handler_ms,
        inline_mb_s=transport.mb_s,
        inline_bytes=1 << 40,
    )
    return replace(found, speeds=speeds, limits=replace(found.limits, package_unzipped_bytes=None))


def dims_of(model: BenchModel, loaded: Model) -> dict[str, int]:
    """Sizes of the symbolic dimensions in the benchmark's input for a model."""
    tensors = inputs(model.name)
    specs = [value.spec for value in loaded.graph.required_inputs]
    pairs = [pair for spec in specs for pair in zip(spec.shape or (), tensors[spec.name].shape, strict=True)]
    return {dim: size for dim, size in pairs if isinstance(dim, str)}


def profile_of(model: BenchModel, *, again: bool) -> Profile:
    """The model's profile on this machine and the benchmark's input, measured first where none lies beside it."""
    from lamella.graph.reader import load
    from lamella.planner.profile import profile_path, read_profile, write_profile
    from lamella.planner.profiling import measure_profile

    path = profile_path(model.path)
    if again or not path.exists():
        write_profile(measure_profile(model.path, inputs=inputs(model.name)), path)
    return read_profile(path, load(model.path))
