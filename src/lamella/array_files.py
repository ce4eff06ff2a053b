"""Tensors in files that NumPy writes, `.npy` and `.npz`, from whoever gives them: nothing in them is run."""

from __future__ import annotations

from typing import BinaryIO
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError  # noqa: N812 - a class that zlib names as a variable

import numpy as np

from lamella.errors import InputError, UnsupportedModelError
from lamella.tensors import Array, Datatype, TensorSpec, datatype, native

_DAMAGED = (
    AttributeError,
    BadZipFile,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    ZlibError,
)
"""What NumPy and `zipfile` raise about damaged files: a header that claims terabytes, an encrypted member, ..."""


def read_array(file: BinaryIO, name: str) -> Array:
    """The array in a `.npy` file.

    Args:
        file: Its bytes.
        name: What errors call it.

    Raises:
        InputError: It is damaged, an archive, or holds Python objects.
    """
    try:
        found = np.load(file, allow_pickle=False)
    except _DAMAGED as error:
        raise _damaged(name, error) from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"`{name}` is an archive, not one array", hint="end its name in `.npz`")
    return found


def read_archive(file: BinaryIO, name: str, *, most_bytes: int | None = None) -> dict[str, Array]:
    """The arrays in a `.npz` file, by their names.

    Args:
        file: Its bytes; it can be read from any position.
        name: What errors call it.
        most_bytes: Most that it may become when it is unpacked; None: whatever memory takes.

    Raises:
        InputError: It is damaged or too large, or holds Python objects.
    """
    try:
        if most_bytes is not None:
            _check_size(file, name, most_bytes)
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except _DAMAGED as error:
        raise _damaged(name, error) from error


def _check_size(file: BinaryIO, name: str, most_bytes: int) -> None:
    with ZipFile(file) as members:
        size = sum(member.file_size for member in members.infolist())
    if size > most_bytes:
        raise InputError(
            f"`{name}` becomes {size:,} bytes, above the limit of {most_bytes:,}", hint="give fewer at a time"
        )
    file.seek(0)


def _damaged(name: str, error: BaseException) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    hint = "save it again with `numpy.save`; arrays of Python objects are not read, as they could run code"
    return InputError(f"`{name}` is damaged: {reason}", hint=hint)


def as_input(array: Array, name: str, spec: TensorSpec | None) -> Array:
    """An array from a file as an input: text as it is in memory, and types that NumPy lacks as the model has them.

    Args:
        array: The array.
        name: The input's name.
        spec: What the model takes; None where it has no such input.

    Raises:
        InputError: It holds what no input can.
    """
    try:
        return native(array, None if spec is None else datatype_of_spec(spec))
    except (TypeError, ValueError) as error:
        raise InputError(f"input `{name}` cannot be used: {error}", hint="save text as UTF-8") from error


def datatype_of_spec(spec: TensorSpec) -> Datatype | None:
    """The datatype of a tensor; None for a sequence, map or optional."""
    try:
        return datatype(spec.datatype)
    except UnsupportedModelError:
        return None
