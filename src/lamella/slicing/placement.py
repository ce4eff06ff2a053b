"""Getting a file of weights into the folder of the model that refers to it, without reading it.

External data must lie in the model's own folder: since 1.24 ONNX Runtime refuses `../`, absolute paths, and links that
leave the folder. A hard link satisfies it at no cost; where none can be made (another file system, someone else's
file) the kernel copies the bytes.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Literal

from lamella.errors import UsageError
from lamella.slicing.copying import copy_range


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a file of weights lies for the model, and how it came there.

    Attributes:
        path: The file inside the model's folder.
        method: `in-place` (it was there already), `hard-link` (the same bytes under a second name), or `copy`.
        reason: Why it had to be copied; None otherwise.
    """

    path: Path
    method: Literal["in-place", "hard-link", "copy"]
    reason: str | None = None


def place(source: Path, directory: Path, name: str, *, link: bool = True) -> Placement:
    """Make `directory/name` hold what `source` holds.

    A hard link shares its bytes with the source: who writes into the source in place changes both (who replaces it,
    as installers and `git` do, does not).

    Args:
        source: The file; links are followed first, so that the layout of the Hugging Face cache works.
        directory: The model's folder; must exist.
        name: A plain file name.
        link: Whether a hard link will do; else the file is copied.

    Returns:
        The placement. Costs no I/O on the contents, except a copy where no hard link is possible, and a comparison
        where such a copy is there already.

    Raises:
        UsageError: `directory/name` is taken by something else, or cannot be written.
    """
    target = directory / name
    if target.name != name or name in (".", ".."):
        raise UsageError(f"`{name}` is no plain file name", hint="give a name without folders")
    try:
        resolved = source.resolve(strict=True)
        if os.path.lexists(target):
            return _already_there(resolved, target)
        return _link_or_copy(resolved, target, link)
    except OSError as error:
        raise UsageError(
            f"cannot place `{source}` as `{target}`: {error.strerror or error}",
            hint="choose an output folder that exists, is writable and has room for the weights",
        ) from error


def _already_there(source: Path, target: Path) -> Placement:
    if target.is_symlink() and not target.resolve().is_relative_to(target.parent.resolve()):
        raise UsageError(
            f"`{target}` is a link that leaves its folder, and ONNX Runtime refuses such weights",
            hint="remove the link or choose another output",
        )
    if target.is_file():
        if target.samefile(source):
            return Placement(target, "in-place")
        if filecmp.cmp(source, target, shallow=False):
            return Placement(target, "copy", "an identical copy was there already")
    raise UsageError(f"`{target}` exists and is not a copy of `{source}`", hint="remove it or choose another output")


def _link_or_copy(source: Path, target: Path, link: bool) -> Placement:
    reason = "ONNX Runtime reads constants of bodies from no file with several hard links"
    if link:
        try:
            os.link(source, target)
            return Placement(target, "hard-link")
        except OSError as error:
            reason = f"no hard link possible: {error.strerror}"
    write_atomically(target, lambda partial: copy(source, partial))
    return Placement(target, "copy", reason)


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file under a temporary name beside `target`, then rename it.

    Whatever goes wrong, `target` is never half-written, and the temporary file is removed. Several may write at once,
    also threads of one process: what the last one wrote stays.
    """
    partial = target.with_name(f".{target.name}.{token_hex(4)}.partial")
    try:
        write(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Copy a file inside the kernel, as a reflink where the file system has them.

    Raises:
        OSError: Reading or writing failed.
    """
    with source.open("rb") as reader, target.open("wb") as writer:
        copy_range(reader.fileno(), writer.fileno(), 0, 0, os.fstat(reader.fileno()).st_size)
