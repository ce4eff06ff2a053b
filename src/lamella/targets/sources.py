"""What can be deployed: slices, or a plan or model that is sliced first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lamella.errors import UsageError
from lamella.platforms.base import Platform
from lamella.targets.addresses import safe_name
from lamella.targets.base import LEAST_MEMORY_MB
from lamella.targets.state import check_name
from lamella.workflow.manifest import FILE_NAME, read_manifest
from lamella.workflow.parts import InDirectory

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.planner.plan import Plan

    Source = str | Path | InDirectory | Plan | Model


def models_of(
    source: Source | Mapping[str, Source],
    folder: Path,
    *,
    platform: Platform,
    slices: int | Literal["max"] | None = None,
    cold: Literal["sequential", "parallel"] | None = None,
    verify: bool = True,
) -> dict[str, Path]:
    """The slices directory of each model that is to be deployed, by the model's name.

    Args:
        source: What `slices_of` takes, called as its model's file, or several by name.
        folder: Where slices are written that do not exist yet.
        platform: As `slices_of` takes it, like what follows.
        slices: Of each model.
        cold: Likewise.
        verify: Likewise.

    Raises:
        UsageError: A name is none, there is no model, or `slices_of` raises it.
        LamellaError: A model cannot be read, planned or sliced.
    """

    def sliced(one: Source, place: Path) -> Path:
        return slices_of(one, place, platform=platform, slices=slices, cold=cold, verify=verify)

    if not isinstance(source, Mapping):
        directory = sliced(source, folder)
        return {name_of(directory): directory}
    for name in source:
        check_name(name, "name for a model")
    return {name: sliced(one, folder / name) for name, one in source.items()}


def check_named(models: Mapping[str, object], name: str | None, hint: str) -> None:
    """Refuse no model, and several for whose deployment there is no name.

    Raises:
        UsageError: It is so.
    """
    if not models:
        raise UsageError("no model is given to deploy", hint="give at least one")
    if len(models) > 1 and name is None:
        raise UsageError(f"{len(models)} models need a name for their deployment", hint=hint)


def slices_of(
    source: Source,
    folder: Path,
    *,
    platform: Platform,
    slices: int | Literal["max"] | None = None,
    cold: Literal["sequential", "parallel"] | None = None,
    verify: bool = True,
) -> Path:
    """The slices directory of what is to be deployed.

    A plan is sliced as it says; a model is planned for the platform first, with `LEAST_MEMORY_MB` for each function at
    least: what is best for a request may be too slow at starting. Weights are not copied: packaging does that.

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
        return _with_floor(plan(source, platform=platform, slices=slices, cold=cold), platform)
    raise UsageError(
        f"`{type(source).__name__}` is nothing that can be deployed", hint="give a slices directory, a plan, or a model"
    )


def _with_floor(planned: Plan, platform: Platform) -> Plan:
    least_mb = next(iter(platform.limits.memory_sizes(LEAST_MEMORY_MB)), platform.limits.memory_max_mb)
    parts = (replace(part, assigned_memory_mb=max(part.memory_mb, least_mb)) for part in planned.slices)
    return replace(planned, slices=tuple(parts))


def name_of(sliced: Path) -> str:
    """A name from the model's file: `BERT base.onnx` becomes `bert-base`.

    Raises:
        SlicesError: The directory is no slices directory.
    """
    return safe_name(Path(read_manifest(sliced).model).stem)


def named_sources(arguments: Iterable[str]) -> Mapping[str, Path]:
    """Models by their names, as a command line gives several: `PATH`, called by its stem, or `NAME=PATH`.

    Raises:
        UsageError: A name is none, or is given twice.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        name, path = named_source(argument)
        name = name or safe_name((path.absolute().parent if path.name == FILE_NAME else path.absolute()).stem)
        if name in found:
            raise UsageError(
                f"`{found[name]}` and `{path}` would both be the model `{name}`", hint=f"name one: `NAME={path}`"
            )
        found[name] = path
    return found


def named_source(argument: str) -> tuple[str | None, Path]:
    """The name, where one is given, and the path of `[NAME=]PATH`.

    Raises:
        UsageError: The name is none.
    """
    name, mark, path = argument.partition("=")
    if not mark or Path(argument).exists():
        return None, Path(argument)
    return check_name(name, "name for a model"), Path(path)
