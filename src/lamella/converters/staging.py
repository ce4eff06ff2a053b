"""An output and the files of weights it refers to appear together, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import UsageError
from lamella.slicing.placement import Placement, place


@dataclass(frozen=True, slots=True)
class Stage:
    """Where to write while nothing is final.

    Attributes:
        partial: The file to write; it becomes the output.
        placements: How each file of weights came beside it.
    """

    partial: Path
    placements: tuple[Placement, ...]


def name_beside(file: Path, output: Path) -> str:
    """The name under which a file of weights lies in the output's folder.

    Its own name if it is there already; otherwise one that starts with the output's, so that it meets nothing else.
    """
    folder = output.parent.resolve()
    if file.parent.resolve() == folder and file.resolve().is_relative_to(folder):
        return file.name
    ending = file.name.removeprefix("model")
    return output.name + (ending if ending.startswith((".", "-")) else f"-{ending}")


@contextmanager
def staged(output: Path, files: Iterable[Path]) -> Iterator[Stage]:
    """Bring files of weights beside an output, and give the block a temporary file to write it to.

    If the block succeeds, the output is replaced. If it raises, the temporary file and what was brought are removed.

    Raises:
        UsageError: The folder cannot be written, or a name in it is taken.
    """
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    brought: list[Path] = []
    placements: list[Placement] = []
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for file in files:
            target = output.parent / name_beside(file, output)
            if not os.path.lexists(target):
                brought.append(target)
            placements.append(place(file, output.parent, target.name))
        yield Stage(partial, tuple(placements))
        os.replace(partial, output)
        brought.clear()
    except OSError as error:
        raise UsageError(
            f"cannot write `{output}`: {error.strerror or error}", hint="choose a folder that is writable and has room"
        ) from error
    finally:
        for left in (partial, *brought):
            left.unlink(missing_ok=True)
