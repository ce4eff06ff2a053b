"""What can be deployed: slices, or a plan or model that is sliced first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lamella.errors import UsageError
from lamella.platforms.base import Platform
from lamella.workflow.manifest import FILE_NAME
from lamella.workflow.parts import InDirectory

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.planner.plan import Plan


def slices_of(
    source: str | Path | InDirectory | Plan | Model,
    folder: Path,
    *,
    platform: Platform,
    slices: int | Literal["max"] | None = None,
    cold: Literal["sequential", "parallel"] | None = None,
    verify: bool = True,
) -> Path:
    """The slices directory of what is to be deployed.

    A plan is sliced as it says; a model is planned for the platform first. Weights are not copied: packaging does that.

    Args:
        source: A slices directory, what `lamella.slice` returned, a plan or its file, a model or its file.
        folder: Where slices are written that do not exist yet.
        platform: What a model is planned for.
        slices: How many slices, for a model, or `"max"` for one at every legal cut; by default what is best on the
            platform.
        cold: What kind of start a model is planned for.
        verify: Compare new slices with the whole model.

    Raises:
        UsageError: The source is sliced already, and `slices` is given.
        LamellaError: It cannot be read, planned or sliced.
    """
    existing = _existing(source)
    if existing is not None:
        if slices is not None:
            given = source if isinstance(source, (str, Path)) else existing
            raise UsageError(f"`{given}` holds slices already", hint="leave the number of slices out")
        return existing
    from lamella.slicing.write import slice as write_slices

    planned = _planned(source, platform, slices, cold)
    return write_slices(planned, folder, verify=verify).directory


def _existing(source: object) -> Path | None:
    if isinstance(source, InDirectory):
        return source.directory.absolute()
    if not isinstance(source, (str, Path)):
        return None
    path = Path(source).absolute()
    if path.name == FILE_NAME:
        return path.parent
    return path if path.is_dir() else None


def _planned(
    source: object,
    platform: Platform,
    slices: int | Literal["max"] | None,
    cold: Literal["sequential", "parallel"] | None,
) -> Plan:
    from lamella.graph.model import Model
    from lamella.planner.plan import Plan, plan
    from lamella.planner.plan_file import read_plan

    if isinstance(source, (str, Path)) and str(source).lower().endswith(".json"):
        source = read_plan(source)
    if isinstance(source, Plan):
        if slices is not None:
            raise UsageError("a plan says already where to cut", hint="leave the number of slices out")
        return source
    if isinstance(source, (str, Path, Model)):
        if slices == "max":  # which is chosen for no platform
            return plan(source, slices=slices)
        return plan(source, platform=platform, slices=slices, cold=cold)
    raise UsageError(
        f"`{type(source).__name__}` is nothing that can be deployed", hint="give a slices directory, a plan, or a model"
    )
