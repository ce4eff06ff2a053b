"""`function.json`: what a function is told about itself, in the root folder of its package.

Packaging fills it in. `inputs`, `outputs` and `optional_inputs` are those of the slice file's graph, with datatypes and
shapes, since the function side has no reader of ONNX files. The slice file lies at `model_folder/file`; with `package`,
`image` and `mount` its weights lie beside it, as in the slices directory.

With `object-store` the slice file is in the package and its weights are not: `objects` names every file that it refers
to and where that lies in a store, and `weights` every tensor in those files. A tensor of the main graph's initializers
has its name there; one inside a node (a `Constant`, a branch of an `If`, a function's body, a sparse initializer) has
None, since no engine takes it by name: its bytes alone (and those of 4-bit tensors) are written to a file when the
function starts. A tensor that `weights` lacks would be read as zeros. Of a model from
`lamella.load(slice_file)`, these are the `range`s of `graph.initializers` (those that are not sparse) by name, and all
others that the slice file refers to.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from lamella.errors import SlicesError
from lamella.runtime import json_fields as fields
from lamella.tensors import TensorSpec

FILE_NAME = "function.json"
SCHEMA = "lamella.function/1"
TASK_ROOT_VARIABLE = "LAMBDA_TASK_ROOT"

Delivery = Literal["package", "image", "object-store", "mount"]
"""How the model reaches the function: inside the zip, inside an OCI image, fetched at INIT, or mapped from a mount."""

_HINT = "build the package again"


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """A file of weights in an object store.

    Attributes:
        file: Its location as the slice file refers to it.
        uri: Where it lies.
        size: Its size in bytes.
        sha256: Its digest, or None where it was never computed; then it is not verified.
    """

    file: str
    uri: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class WeightTensor:
    """A tensor in such a file.

    Attributes:
        name: The initializer's name, or None where it is inside a node.
        datatype: Name of its datatype, as in `lamella.tensors.DATATYPES`.
        shape: Its dimensions.
        file: Location of the file.
        offset: Its first byte.
        length: Its bytes.
    """

    name: str | None
    datatype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionConfig:
    """One function.

    Attributes:
        name: Its name in the deployment.
        slice: Index of the slice that it runs.
        file: The slice file, relative to the model folder.
        inputs: What it must be given.
        outputs: What it gives.
        optional_inputs: Weights that the caller may override.
        delivery: How the model reaches it.
        model_folder: Where the slice file lies: relative to the package, or absolute for `mount`.
        objects: With `object-store`: what is fetched at INIT.
        weights: With `object-store`: the tensors in those files.
        optimized: Whether the graph was optimised before it was cut, so that the engine may load it as it is.
    """

    name: str
    slice: int
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...] = ()
    delivery: Delivery = "package"
    model_folder: str = "model"
    objects: tuple[ObjectFile, ...] = ()
    weights: tuple[WeightTensor, ...] = ()
    optimized: bool = False

    def slice_path(self, folder: Path) -> Path:
        """The slice file of the package in `folder`."""
        return folder / self.model_folder / self.file

    def encoded(self) -> bytes:
        """The content of `function.json`; the same function always gives the same bytes."""
        return (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n").encode()

    def write(self, folder: Path) -> None:
        """Write `function.json` into `folder`."""
        (folder / FILE_NAME).write_bytes(self.encoded())


def package_folder(holding: str = FILE_NAME) -> Path:
    """The package's root: what the platform says if that holds such a file, or else where `lamella` lies."""
    given = os.environ.get(TASK_ROOT_VARIABLE)
    if given and (Path(given) / holding).is_file():
        return Path(given)
    return Path(__file__).parents[2]


def read_function(folder: Path) -> FunctionConfig:
    """Read `function.json` from the root folder of a package.

    Raises:
        SlicesError: There is none, or it is damaged or of another version.
    """
    path = folder / FILE_NAME
    try:
        content = fields.members(json.loads(path.read_text(encoding="utf-8")))
        if content["schema"] != SCHEMA:
            raise SlicesError(f"`{path}` is of another version", hint=f"{_HINT} with this one")
        function = _function(content)
    except FileNotFoundError as error:
        raise SlicesError(f"`{folder}` is no function's package: it has no `{FILE_NAME}`", hint=_HINT) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise SlicesError(f"`{path}` is damaged: {reason}", hint=_HINT) from error
    return function


def _function(content: dict[str, object]) -> FunctionConfig:
    function = FunctionConfig(
        name=fields.text(content["name"]),
        slice=fields.size(content["slice"]),
        file=_location(content["file"]),
        inputs=fields.specs(content["inputs"]),
        outputs=fields.specs(content["outputs"]),
        optional_inputs=fields.specs(content["optional_inputs"]),
        delivery=_delivery(content["delivery"]),
        model_folder=fields.text(content["model_folder"]),
        objects=tuple(_object(entry) for entry in fields.objects(content["objects"])),
        weights=tuple(_weight(entry) for entry in fields.objects(content["weights"])),
        optimized=content["optimized"] is True,
    )
    _check_ranges(function)
    return function


def _check_ranges(function: FunctionConfig) -> None:
    held = {entry.file: entry.size for entry in function.objects}
    for weight in function.weights:
        if weight.offset + weight.length > held.get(weight.file, 0):
            raise ValueError(f"weight `{weight.name}` lies outside of `{weight.file}`")


def _object(entry: dict[str, object]) -> ObjectFile:
    digest = entry["sha256"]
    return ObjectFile(
        _location(entry["file"]),
        fields.text(entry["uri"]),
        fields.size(entry["size"]),
        None if digest is None else fields.text(digest),
    )


def _weight(entry: dict[str, object]) -> WeightTensor:
    name = entry["name"]
    return WeightTensor(
        None if name is None else fields.text(name),
        fields.text(entry["datatype"]),
        fields.sizes(entry["shape"]),
        _location(entry["file"]),
        fields.size(entry["offset"]),
        fields.size(entry["length"]),
    )


def _location(value: object) -> str:
    """A path that stays in its folder: files are made at these."""
    location = PurePosixPath(fields.text(value))
    if location.is_absolute() or ".." in location.parts or not location.name:
        raise ValueError(f"`{location}` is no file in a folder")
    return str(location)


def _delivery(value: object) -> Delivery:
    for known in get_args(Delivery):
        if value == known:
            delivery: Delivery = known
            return delivery
    raise ValueError(f"`{value!r:.40}` is no way to deliver a model")
