"""Objects as the inputs of a request, by what their keys end with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError  # noqa: N812 - a class that zlib names as a variable

import numpy as np

from lamella.errors import InputError, UnsupportedModelError
from lamella.tensors import Array, Datatype, TensorSpec, datatype, native
from lamella.wire import decode, decode_parts

MOST_BYTES = 256 << 20
"""Largest object, and most that an archive may become: what one request may hold."""

SUFFIXES = (".npy", ".npz", ".json", ".bin", ".frame")
_DAMAGED = (ValueError, EOFError, OSError, KeyError, BadZipFile, ZlibError, NotImplementedError, RuntimeError)
_DAMAGED_HINT = "save it again with `numpy.save`; arrays of Python objects are not read, as they could run code"


def read_inputs(key: str, content: bytes, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The arrays in an object, by the names of the inputs.

    Args:
        key: Its key, whose end says what it is: `.npy` is the only input, `.npz` has inputs by name, `.json` is a
            request of the Open Inference Protocol, `.bin` and `.frame` are frames of the wire format.
        content: Its bytes; arrays may be views of them.
        specs: The inputs that the model takes.

    Raises:
        InputError: It is none of these, or damaged.
    """
    suffix = next((suffix for suffix in SUFFIXES if key.lower().endswith(suffix)), None)
    if suffix is None:
        raise InputError(
            f"`{key}` is none of {', '.join(f'`{known}`' for known in SUFFIXES)}",
            hint="give tensors; images and texts need a task, which no deployment has yet",
        )
    if suffix == ".json":
        return decode_parts(content, b"")
    if suffix in (".bin", ".frame"):
        return decode(content)
    arrays = _archive(key, content) if suffix == ".npz" else {_only(specs): _array(key, content)}
    known = {spec.name: spec for spec in specs}
    return {name: _native(array, name, known.get(name)) for name, array in arrays.items()}


def _only(specs: Sequence[TensorSpec]) -> str:
    if len(specs) != 1:
        names = ", ".join(f"`{spec.name}`" for spec in specs)
        raise InputError(f"a `.npy` object is one input, and the model has {len(specs)}: {names}", hint="give a `.npz`")
    return specs[0].name


def _array(key: str, content: bytes) -> Array:
    try:
        found = np.load(BytesIO(content), allow_pickle=False)
    except (*_DAMAGED, MemoryError) as error:
        raise _damaged(key, error) from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"`{key}` is an archive, not one array", hint="end its name in `.npz`")
    return found


def _archive(key: str, content: bytes) -> dict[str, Array]:
    try:
        with ZipFile(BytesIO(content)) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > MOST_BYTES:
            raise InputError(
                f"`{key}` becomes {size:,} bytes, above the limit of {MOST_BYTES:,}", hint="give fewer at a time"
            )
        with np.load(BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (*_DAMAGED, MemoryError) as error:
        raise _damaged(key, error) from error


def _damaged(key: str, error: BaseException) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"`{key}` is damaged: {reason}", hint=_DAMAGED_HINT)


def _native(array: Array, name: str, spec: TensorSpec | None) -> Array:
    try:
        return native(array, None if spec is None else _datatype(spec))
    except (TypeError, ValueError) as error:
        raise InputError(f"input `{name}` cannot be used: {error}", hint="save text as UTF-8") from error


def _datatype(spec: TensorSpec) -> Datatype | None:
    try:
        return datatype(spec.datatype)
    except UnsupportedModelError:
        return None  # a sequence, map or optional


def passed_on(outputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The outputs of one model as the inputs of another: by name, or the only one for the only one.

    Raises:
        InputError: An input has no output of its name.
    """
    wanted = [spec.name for spec in specs]
    if set(wanted) <= outputs.keys():
        return {name: outputs[name] for name in wanted}
    if len(wanted) == len(outputs) == 1:
        return {wanted[0]: next(iter(outputs.values()))}
    missing = ", ".join(f"`{name}`" for name in wanted if name not in outputs)
    raise InputError(
        f"no output is called {missing}, which the next deployment takes",
        hint=f"the outputs are {', '.join(f'`{name}`' for name in outputs)}; names must agree where there are several",
    )
