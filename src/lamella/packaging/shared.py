"""The two layers of every package: the engine with what it imports, and Lamella's own function side."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.closure import DISTRIBUTIONS, pinned
from lamella.packaging.compiled import compile_sources
from lamella.packaging.installed import installed_files, installed_key, is_portable
from lamella.packaging.interpreter import Interpreter
from lamella.packaging.layers import Layer, ensure_layer
from lamella.packaging.own import own_files
from lamella.packaging.wheels import UNUSED, WheelsError, download_wheels, unpack_wheel
from lamella.slicing.placement import copy
from lamella.tensors import TensorSpec, datatype

_FIRST_FOREIGN = 16  # from this datatype on, NumPy needs `ml_dtypes`


def extra_distributions(specs: Iterable[TensorSpec]) -> tuple[str, ...]:
    """What a function needs beside NumPy and an engine: `ml_dtypes` for some datatypes."""
    is_foreign = any(datatype(spec.datatype).onnx >= _FIRST_FOREIGN for spec in specs)
    return ("ml_dtypes",) if is_foreign else ()


def engine_layer(interpreter: Interpreter, *, cache: Path, extra: Sequence[str] = ()) -> Layer:
    """The engine, NumPy and `extra` distributions, in the versions that are installed here; see `libraries_layer`."""
    return libraries_layer(interpreter, (*DISTRIBUTIONS, *extra), cache=cache)


def libraries_layer(interpreter: Interpreter, names: Sequence[str], *, cache: Path) -> Layer:
    """Distributions in the versions that are installed here.

    For this machine's Python they are copied from where they are installed. For others, and where what is installed was
    built for this machine alone, wheels of the same versions are fetched with pip (some 40 MB).

    Raises:
        PackageError: A distribution is not installed, cannot be fetched, or the cache cannot be written.
    """
    if interpreter.here or (interpreter.is_running and all(map(is_portable, names))):
        key, write = [installed_key(name) for name in names], _write_installed
    else:
        key, write = [pinned(name) for name in names], partial(_write_fetched, interpreter)

    def fill(folder: Path) -> None:
        write(names, folder)
        if interpreter.compiles:
            compile_sources(folder)

    return ensure_layer(cache, (*_general_key(interpreter), *UNUSED, *key), fill)


def own_layer(interpreter: Interpreter, *, cache: Path, s3: bool = False, engine: bool = True) -> Layer:
    """Lamella's own function side.

    Args:
        interpreter: The function's Python.
        cache: The cache's root.
        s3: Whether the function reads from or writes to an S3 store.
        engine: Whether it runs a slice.

    Raises:
        PackageError: The cache cannot be written.
    """
    sources = own_files(s3=s3, engine=engine)

    def fill(folder: Path) -> None:
        for path, data in sources.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        if interpreter.compiles:
            compile_sources(folder)

    digests = (f"{path} {hashlib.sha256(data).hexdigest()}" for path, data in sources.items())
    return ensure_layer(cache, (*_general_key(interpreter), *digests), fill)


def _general_key(interpreter: Interpreter) -> tuple[str, ...]:
    system = sys.platform if interpreter.here else "linux"
    compiler = sys.implementation.cache_tag if interpreter.compiles else ""
    return interpreter.python, interpreter.architecture, system, compiler or ""


def _write_installed(names: Sequence[str], folder: Path) -> None:
    for name in names:
        for path, source in installed_files(name).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            copy(source, folder / path)


def _write_fetched(interpreter: Interpreter, names: Sequence[str], folder: Path) -> None:
    requirements = [pinned(name) for name in names]
    with tempfile.TemporaryDirectory(prefix="lamella-wheels-") as fetched:
        try:
            wheels = download_wheels(
                requirements, Path(fetched), python=interpreter.python, architecture=interpreter.architecture
            )
            for wheel in wheels:
                unpack_wheel(wheel, folder)
        except WheelsError as error:
            raise PackageError(
                f"Python {interpreter.python} on {interpreter.architecture}: {error}",
                hint="connect to the package index, or install versions here that it has for that Python",
            ) from error
