"""The function that a model is checked against."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lamella.checking.report import Check, Origin, Quantity, Verdict, source_of
from lamella.errors import UsageError
from lamella.packaging.closure import Closure
from lamella.planner.cost import CostModel
from lamella.platforms.base import Architecture, Limits, Platform


@dataclass(frozen=True)
class Setting:
    """A platform's function.

    Attributes:
        platform: Its limits and speeds.
        architecture: Its processors.
        memory_mb: Its memory.
        largest: Whether that is the platform's largest.
        closure: What its package holds beside the model.
        batch: Rows in one request.
    """

    platform: Platform
    architecture: Architecture
    memory_mb: int
    largest: bool
    closure: Closure
    batch: int

    @property
    def limits(self) -> Limits:
        """The platform's."""
        return self.platform.limits

    @property
    def cost_model(self) -> CostModel:
        """What estimates are made with."""
        return CostModel(self.platform, self.architecture, self.closure.unzipped_bytes)

    @property
    def image_hint(self) -> str:
        """How an image is checked, where the platform has both packages and images."""
        images = "container-image" in self.platform.profiles and self.platform.profile != "container-image"
        return ", or ship a container image (`--profile container-image`)" if images else ""

    def against(
        self,
        limit: str,
        title: str,
        value: int | float | None,
        *,
        origin: Origin = "counted",
        unit: str = "bytes",
        above: Verdict = "violated",
        hint: str | None = None,
        detail: str | None = None,
    ) -> Check:
        """A value against a limit of the platform; without either, nothing is checked.

        Args:
            limit: A field of `Limits`.
            title: For people.
            value: What the model takes.
            origin: How that was found.
            unit: Of both.
            above: The verdict where it takes more.
            hint: What to do then.
            detail: What else there is to say.
        """
        allowed: Quantity = getattr(self.limits, limit)
        found = Check(limit, title, value, allowed, unit, "skipped", origin, source_of(self.platform, limit), detail)
        if value is None or not isinstance(allowed, int | float):
            return found
        if value <= allowed:
            return replace(found, verdict="ok")
        return replace(found, verdict=above, hint=hint)


def memory_of(platform: Platform, wanted: int | None) -> int:
    """The memory that was asked for, or the platform's largest.

    Raises:
        UsageError: The platform has no functions of that size.
    """
    limits = platform.limits
    if wanted is None:
        return limits.memory_sizes_mb[-1] if limits.memory_sizes_mb else limits.memory_max_mb
    sizes = limits.memory_sizes(wanted) if wanted >= 0 else []
    if sizes and sizes[0] == wanted:
        return wanted
    offered = f"from {limits.memory_min_mb} to {limits.memory_max_mb} MB in steps of {limits.memory_step_mb} MB"
    if limits.memory_sizes_mb:
        offered = f"of {', '.join(str(size) for size in limits.memory_sizes_mb)} MB"
    raise UsageError(f"{platform.title} has no function of {wanted} MB", hint=f"it offers memory {offered}")
