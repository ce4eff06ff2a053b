"""Inputs as the command line gives them: files, or made up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lamella.array_files import as_input, datatype_of_spec, read_archive, read_array
from lamella.errors import InputError, UsageError
from lamella.graph.samples import sample_inputs
from lamella.runtime.feeds import check_feeds
from lamella.tensors import Array, TensorSpec, array_from

_ARCHIVE = ".npz"


def feeds(
    arguments: Sequence[str],
    required: Sequence[TensorSpec],
    optional: Sequence[TensorSpec],
    *,
    bounds: Mapping[str, int],
    random: bool,
    seed: int,
) -> dict[str, Array]:
    """Everything that a model takes: what was given, and made-up tensors for the rest, where that is wanted.

    Raises:
        UsageError: An argument makes no sense.
        InputError: An input is missing, unknown, cannot be read, or is of another datatype or shape.
    """
    specs = (*required, *optional)
    given = check_feeds(read_inputs(arguments, specs), (), specs)  # what is given first: the rest follows its sizes
    return check_feeds(completed(given, required, random=random, seed=seed, bounds=bounds), required, optional)


def read_inputs(arguments: Iterable[str], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Read what was given with `--input`.

    Args:
        arguments: Each `NAME=FILE`, `NAME=FILE.npz:KEY`, or `FILE.npz` for all arrays by their names.
        specs: The model's inputs: the datatype of what `.json` holds, and of what NumPy cannot store by itself.

    Raises:
        UsageError: An argument makes no sense.
        InputError: A file cannot be read, or does not hold what it should.
    """
    known = {spec.name: spec for spec in specs}
    found: dict[str, Array] = {}
    for argument in arguments:
        for name, value in _read(argument, known).items():
            if name in found:
                raise UsageError(f"input `{name}` is given twice", hint="give each input once")
            found[name] = value
    return found


def _read(argument: str, known: Mapping[str, TensorSpec]) -> dict[str, Array]:
    name, separator, file = argument.partition("=")
    if not separator or (name not in known and argument.endswith(_ARCHIVE) and Path(argument).is_file()):
        if not argument.endswith(_ARCHIVE):
            raise UsageError(f"`--input {argument}` does not say for which input", hint="write `--input NAME=FILE`")
        return {key: as_input(array, key, known.get(key)) for key, array in _archive(argument).items()}
    spec = known.get(name)
    path, mark, key = file.partition(f"{_ARCHIVE}:")
    if mark and not Path(file).exists():
        return {name: as_input(_pick(f"{path}{_ARCHIVE}", key), name, spec)}
    suffix = Path(file).suffix.lower()
    if suffix == _ARCHIVE:
        return {name: as_input(_pick(file, name), name, spec)}
    if suffix == ".npy":
        return {name: as_input(_load(file), name, spec)}
    if suffix == ".json":
        return {name: _from_json(file, name, spec)}
    raise UsageError(f"`{file}` is no `.npy`, `.npz` or `.json` file", hint="save the input with `numpy.save`")


def _archive(path: str) -> dict[str, Array]:
    with _opened(path) as file:
        return read_archive(file, path)


def _pick(path: str, key: str) -> Array:
    arrays = _archive(path)
    if key not in arrays:
        names = ", ".join(f"`{name}`" for name in arrays) or "none"
        raise InputError(f"`{path}` has no array `{key}`", hint=f"it has {names}; choose with `NAME={path}:ARRAY`")
    return arrays[key]


def _load(path: str) -> Array:
    with _opened(path) as file:
        return read_array(file, path)


def _opened(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> InputError:
    """The error for a file that cannot be read."""
    reason = (error.strerror or str(error)).lower()
    return InputError(f"input file `{path}` cannot be read: {reason}", hint="check the path")


def read_json(path: str, *, hint: str) -> object:
    """What a JSON file holds.

    Raises:
        InputError: It cannot be read, or is not JSON; the hint says what it should hold.
    """
    try:
        value: object = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"input file `{path}` is not valid JSON: {error}", hint=hint) from error
    return value


def _from_json(path: str, name: str, spec: TensorSpec | None) -> Array:
    value = read_json(path, hint="give nested lists")
    kind = None if spec is None else datatype_of_spec(spec)
    if spec is not None and kind is None:
        return value  # type: ignore[return-value]  # a sequence or map as Python has it: the engine checks it
    try:
        return np.asarray(value) if kind is None else array_from(value, kind)
    except (TypeError, ValueError, OverflowError) as error:
        wanted = "" if kind is None else f" of {kind.name}"
        reason = str(error).splitlines()[0]
        raise InputError(
            f"`{path}` holds no tensor{wanted} for input `{name}`: {reason}", hint="give nested lists of equal lengths"
        ) from error


def completed(
    given: Mapping[str, Array],
    specs: Sequence[TensorSpec],
    *,
    random: bool,
    seed: int,
    bounds: Mapping[str, int],
) -> dict[str, Array]:
    """What was given, and made-up tensors for the rest, where that is wanted.

    Named dimensions take the sizes that they have in what was given.

    Raises:
        InputError: Inputs are missing and not to be made up, or cannot be.
    """
    missing = [spec for spec in specs if spec.name not in given]
    if missing and not random:
        names = ", ".join(f"`{spec.name}` {spec.datatype}{_shape(spec)}" for spec in missing)
        counted = "1 input is" if len(missing) == 1 else f"{len(missing)} inputs are"
        raise InputError(
            f"{counted} missing: {names}", hint="give each with `--input NAME=FILE`, or make them up with `--random`"
        )
    sizes = {
        dim: size
        for spec in specs
        if spec.name in given
        for dim, size in zip(spec.shape or (), np.shape(given[spec.name]), strict=False)
        if isinstance(dim, str)
    }
    bound = [_with_sizes(spec, sizes) for spec in missing]
    return {**given, **sample_inputs(bound, bounds=bounds, seed=seed)}


def _with_sizes(spec: TensorSpec, sizes: Mapping[str, int]) -> TensorSpec:
    if spec.shape is None:
        return spec
    return replace(spec, shape=tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape))


def _shape(spec: TensorSpec) -> str:
    return "" if spec.shape is None else f"[{', '.join('?' if dim is None else str(dim) for dim in spec.shape)}]"
