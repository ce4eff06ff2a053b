"""The files that a model is made of, and which files a model may point at.

A model is untrusted: the paths in its external data are checked before anything is opened (CVE-2022-25882,
CVE-2024-27318, CVE-2024-5187 and CVE-2025-51480 are what happened elsewhere).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from lamella.errors import MalformedModelError, ModelError, UnsafeModelError, UnsupportedModelError

_MEMORY_MARK = "_ORT_MEM_ADDR_"  # ONNX Runtime takes such a location for a pointer into its own memory

_LONGEST_PATH, _SHOWN = 4096, 80
_TEXT = re.compile(rb"[\t\n\r -~]+")

_FOREIGN = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model itself", "fetch it with `git lfs pull`"),
    (4, b"ORTM", "in ONNX Runtime's `.ort` format", "give the `.onnx` model that it was made from"),
    (0, b"PK\x03\x04", "a zip archive, such as PyTorch and Keras write", "export it to ONNX first"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    *((0, bytes([0x80, protocol]), "a Python pickle", "export it to ONNX first") for protocol in range(2, 6)),
    (5, b'\0\0\0{"', "a safetensors file", "convert the folder that it lies in, with `lamella convert`"),
    (0, b"\x89HDF", "an HDF5 file, such as Keras writes", "export it to ONNX first"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it to ONNX first"),
    (0, b"GGUF", "a GGUF model", "give the ONNX export of this model"),
    (
        0,
        b'<?xml version="1.0"?>\n<net ',
        "OpenVINO's IR",
        "give the ONNX model that it was made from; `lamella run` runs it",
    ),
    (0, b"<", "a web page", "download the model file itself"),
    (0, b"{", "JSON text", "save it as binary protobuf, with `onnx.save(model, 'model.onnx')`"),
    (0, b"ir_version:", "ONNX text", "save it as binary protobuf, with `onnx.save(model, 'model.onnx')`"),
)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file that holds weights.

    Attributes:
        location: Its name in the structure's external data, relative to the model's folder.
        path: The file itself, links resolved.
        size: Its size in bytes.
    """

    location: str
    path: Path
    size: int


def open_model(path: Path) -> tuple[int, DataFile]:
    """Open a model file for reading; return the descriptor, which the caller closes, and what it is.

    Raises:
        ModelError: There is no such file, or it cannot be read.
        UnsupportedModelError: It is a known format other than ONNX.
    """
    if "\0" in str(path):
        raise ModelError(f"`{path}` is no file name", hint="check the path")
    if not _is_portable(path.name):
        raise ModelError(
            f"`{path.name}` is a file name that external data cannot refer to",
            hint="rename it to plain text, without `:` or `\\`",
        )
    real = Path(os.path.realpath(path))
    size = _regular_size(real, f"`{path}`", ModelError)
    try:
        descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise ModelError(f"`{path}` cannot be read: {error.strerror}", hint="check its permissions") from error
    try:
        _refuse_foreign(os.pread(descriptor, 32, 0), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, DataFile(path.name, real, size)


def _is_portable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not PureWindowsPath(name).drive and "\\" not in name


def _refuse_foreign(head: bytes, path: Path) -> None:
    if not head:
        raise MalformedModelError(f"`{path}` is empty", hint="export or download the model again")
    for offset, magic, what, hint in _FOREIGN:
        if head[offset:].startswith(magic):
            raise UnsupportedModelError(f"`{path}` is {what}", hint=hint)
    if _TEXT.fullmatch(head):
        raise UnsupportedModelError(f"`{path}` is text", hint="download the model file itself")


def _regular_size(path: Path, label: str, kind: type[ModelError]) -> int:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise kind(
            f"{label} cannot be read: {reason}", hint="check the path; a model needs all of its files"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise kind(f"{label} is a folder", hint="give the `.onnx` file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise kind(f"{label} is not a regular file", hint="copy it to a regular file first")
    return status.st_size


class DataFiles:
    """Resolves the locations in a model's external data, each once."""

    def __init__(self, model_path: Path, model: DataFile) -> None:
        self._folder = model_path.parent
        self._model = model
        self._found: dict[str, DataFile] = {}

    def resolve(self, location: str, tensor: str) -> DataFile:
        """The file at `location`, for the tensor of that label.

        Raises:
            UnsafeModelError: It is absolute, or leaves the model's folder, by name or through a link.
            MalformedModelError: There is no such regular file.
        """
        found = self._found.get(location)
        if found is None:
            found = self._found[location] = self._resolve(location, tensor)
        return found

    def _resolve(self, location: str, tensor: str) -> DataFile:
        label = f"external data {location[:_SHOWN]!r}{'...' * (len(location) > _SHOWN)} of tensor {tensor}"
        _check_name(location, label)
        path = Path(os.path.realpath(self._folder / location))
        self._check_inside(path, label)
        size = _regular_size(path, label, MalformedModelError)
        return DataFile(str(PurePosixPath(location)), path, size)

    def _check_inside(self, path: Path, label: str) -> None:
        folder = Path(os.path.realpath(self._folder))
        # The Hugging Face cache keeps model and data as two links into one folder of blobs.
        same_store = self._model.path.parent != folder and path.parent == self._model.path.parent
        if not (path.is_relative_to(folder) or same_store):
            raise UnsafeModelError(
                f"{label} is a link that leaves the model's folder",
                hint="copy the data file into the model's folder if you trust it",
            )


def _check_name(location: str, label: str) -> None:
    if len(location) > _LONGEST_PATH or min(location, default="\0") < " " or _MEMORY_MARK in location:
        raise MalformedModelError(f"{label} is no file name", hint="export the model again")
    windows = PureWindowsPath(location)
    if PurePosixPath(location).is_absolute() or windows.drive or windows.root:
        raise UnsafeModelError(
            f"{label} is an absolute path", hint="the data file must lie in the model's folder; save the model again"
        )
    if ".." in windows.parts or ".." in PurePosixPath(location).parts:
        raise UnsafeModelError(
            f"{label} leaves the model's folder", hint="the data file must lie in the model's folder; save it again"
        )


def read_range(entries: dict[str, str], expected: int, file: DataFile, tensor: str) -> tuple[int, int]:
    """(offset, length) that external data entries claim, checked against the file and the tensor's size in bytes.

    Raises:
        MalformedModelError: They are no numbers, lie outside the file, or do not match `expected`.
    """
    offset = _number(entries.get("offset", "0"), "offset", tensor)
    length = _number(entries.get("length", str(expected)), "length", tensor)
    if length != expected:
        raise MalformedModelError(
            f"external data of tensor {tensor} is {length} bytes long, but its shape and datatype take {expected}",
            hint="model and data file do not belong together; export or download both again",
        )
    if offset + length > file.size:
        raise MalformedModelError(
            f"external data of tensor {tensor} ends at byte {offset + length}, but `{file.location}` has {file.size}",
            hint="the data file is truncated or belongs to another model; download it again",
        )
    return offset, length


def _number(text: str, key: str, tensor: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise MalformedModelError(
            f"external data of tensor {tensor} has {key} {text[:40]!r}, which is no byte count",
            hint="the file is damaged; export it again",
        )
    return int(text)
