"""Whether `slices.json` can be true: its files are there, and its slices fit together."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from lamella.errors import SlicesError

if TYPE_CHECKING:
    from lamella.workflow.manifest import Manifest, SliceEntry

_LARGEST_INDEX = (1 << 63) - 1  # of an INT64, the widest type that picks rows of a table
_DISTRUST = "do not trust these slices; slice the model again"


def check_manifest(manifest: Manifest, directory: Path) -> None:
    """Refuse what slicing cannot have written. Looks at the files' sizes, and reads none.

    Raises:
        SlicesError: A file is missing, outside the directory, or of another size; a slice needs what nothing gives; or
            an output of the model is not made.
    """
    for file, size in (*((s.file, s.size) for s in manifest.slices), *((f.file, f.size) for f in manifest.files)):
        _check_file(directory, file, size)
    _check_ranges(manifest)
    _check_slices(manifest)
    for name, bound in manifest.index_bounds.items():
        if bound > _LARGEST_INDEX:
            raise SlicesError(f"the table that `{name}` picks from cannot have {bound} rows", hint=_DISTRUST)


def _check_file(directory: Path, name: str, size: int) -> None:
    path = directory / name
    pure = PurePosixPath(name)
    outside = pure.is_absolute() or ".." in pure.parts or PureWindowsPath(name).drive or not name or "\0" in name
    if outside or not path.parent.resolve().is_relative_to(directory.resolve()):
        raise SlicesError(f"`slices.json` names `{name}`, outside its directory", hint="do not trust these slices")
    if not path.is_file():
        raise SlicesError(f"`{path}` is no regular file", hint="a slices directory is copied whole, or made again")
    found = path.stat().st_size
    if found != size:
        raise SlicesError(f"`{path}` has {found} bytes instead of {size}", hint="it has changed; slice the model again")


def _check_ranges(manifest: Manifest) -> None:
    sizes = {entry.file: entry.size for entry in manifest.files}
    for part in manifest.slices:
        for weight in part.weights:
            if weight.offset + weight.length > sizes.get(weight.file, -1):
                raise SlicesError(
                    f"weights of slice {part.index} end at byte {weight.offset + weight.length} of `{weight.file}`, "
                    f"which has {sizes.get(weight.file, 0)}",
                    hint=_DISTRUST,
                )


def _check_slices(manifest: Manifest) -> None:
    """Each slice needs only what the caller gives or an earlier one makes, and together they make every output."""
    made = {spec.name for spec in manifest.inputs}
    optional = {spec.name for spec in manifest.optional_inputs}
    for position, part in enumerate(manifest.slices):
        if part.index != position:
            raise _unfit(position, f"says that it is slice {part.index}")
        _check_known(part, part.inputs, made, "which nothing before it makes")
        _check_known(part, part.optional_inputs, optional, "which the model does not offer")
        made.update(part.outputs)
    lacking = [spec.name for spec in manifest.outputs if spec.name not in made]
    if lacking:
        raise SlicesError(f"no slice makes the model's output `{lacking[0]}`", hint=_DISTRUST)


def _check_known(part: SliceEntry, names: tuple[str, ...], known: set[str], otherwise: str) -> None:
    for name in names:
        if name not in known:
            raise _unfit(part.index, f"takes `{name}`, {otherwise}")


def _unfit(index: int, what: str) -> SlicesError:
    return SlicesError(f"slice {index} in `slices.json` {what}", hint=_DISTRUST)
