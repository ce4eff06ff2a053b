"""A deployment's own copy of its packages, so that it outlives the cache that they were built in."""

from __future__ import annotations

import shutil
from pathlib import Path

from lamella.packaging.cache import link_or_copy
from lamella.packaging.delivery import MODEL_FOLDER
from lamella.packaging.flushing import flush
from lamella.slicing.placement import copy
from lamella.targets.state import remove_tree


def keep(package: Path, folder: Path) -> Path:
    """A copy of a package's folder under `folder`: the model copied, all else by hard links where these are allowed.

    Args:
        package: The package's folder, named by its digest.
        folder: Where copies are kept.

    Returns:
        The copy: the one that is there, or a new one, whole or not at all.
    """
    kept = folder / package.name
    if kept.is_dir():
        return kept
    partial = folder / f".{package.name}.partial"
    remove_tree(partial)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copytree(package, partial, symlinks=True, copy_function=_link)
    flush(partial)
    partial.rename(kept)
    return kept


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
