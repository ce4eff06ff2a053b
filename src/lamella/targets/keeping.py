"""A deployment's own copy of its packages, so that it outlives the cache that they were built in."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from lamella.packaging.cache import ensure, has_sizes, link_or_copy
from lamella.packaging.delivery import MODEL_FOLDER
from lamella.slicing.placement import copy
from lamella.targets.state import remove_tree


def keep(package: Path, folder: Path) -> Path:
    """A copy of a package's folder under `folder`: the model copied, all else by hard links where these are allowed.

    Args:
        package: The package's folder, named by its digest.
        folder: Where copies are kept.

    Returns:
        The copy: the one that is there, if its files have their sizes, or a new one, whole or not at all.

    Raises:
        PackageError: It cannot be written.
    """
    kept = folder / package.name
    sizes = [(path.relative_to(package), path.stat().st_size) for path in package.rglob("*") if path.is_file()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure(kept, partial(_copy, package), lambda found: has_sizes(found, ((str(path), size) for path, size in sizes)))
    return kept


def _copy(package: Path, folder: Path) -> None:
    shutil.copytree(package, folder, symlinks=True, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    """The model is copied: ONNX Runtime refuses the weights of bodies in files with several hard links."""
    place = Path(source)
    (copy if place.parent.name == MODEL_FOLDER else link_or_copy)(place, Path(target))


def drop_others(folder: Path, kept: set[str]) -> None:
    """Remove the copies whose folders are not in `kept`."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if str(path) not in kept:
            remove_tree(path)
