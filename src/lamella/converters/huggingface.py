"""A model folder as `save_pretrained` writes it: `config.json` and safetensors files, one or several."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lamella.converters.safetensors import StoredTensor, read_tensors
from lamella.errors import ConversionError, MalformedModelError
from lamella.json_files import read_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_config(folder: Path) -> dict[str, object]:
    """Read `config.json`.

    Raises:
        ConversionError: The folder has none.
        MalformedModelError: It is not a JSON object.
    """
    file = folder / "config.json"
    if not file.exists():
        raise ConversionError(f"`{folder}` has no `config.json`", hint="give the folder that `save_pretrained` wrote")
    return read_object(file)


def read_weights(folder: Path) -> dict[str, StoredTensor]:
    """Find every weight of the folder. Reads headers only.

    Raises:
        ConversionError: There are no safetensors files.
        MalformedModelError: One of them, or the index, is damaged.
    """
    if (folder / WEIGHTS).exists():
        return read_tensors(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return _read_indexed(folder)
    pickled = next((name for name in ("pytorch_model.bin", "tf_model.h5") if (folder / name).exists()), None)
    if pickled is not None:
        raise ConversionError(
            f"`{folder}` holds its weights as `{pickled}`, not as `{WEIGHTS}`",
            hint="load it with transformers and save it again with `save_pretrained`, which writes safetensors",
        )
    raise ConversionError(
        f"`{folder}` has neither `{WEIGHTS}` nor `{INDEX}`", hint="download the weights into the same folder"
    )


def _read_indexed(folder: Path) -> dict[str, StoredTensor]:
    index = folder / INDEX
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise MalformedModelError(f"`{index}` has no `weight_map` object", hint="download or save the model again")
    contents = {name: read_tensors(part_of(folder, name)) for name in sorted({str(v) for v in weight_map.values()})}
    found: dict[str, StoredTensor] = {}
    for name, file in weight_map.items():
        if name not in contents[str(file)]:
            raise MalformedModelError(
                f"`{index}` says that `{file}` holds `{name[:200]}`, and it does not",
                hint="download or save the model again",
            )
        found[name] = contents[str(file)][name]
    return found


def part_of(folder: Path, name: str) -> Path:
    """The path of something that a file of the folder names; it must lie in the folder.

    Raises:
        MalformedModelError: The name is absolute, goes up, or does not exist.
    """
    relative = PurePosixPath(name)
    if not name.isprintable() or relative.is_absolute() or ".." in relative.parts:
        raise MalformedModelError(
            f"`{folder}` refers to {name[:200]!r}, outside of itself", hint="download the model from a source you trust"
        )
    path = folder / relative
    if not path.exists():
        raise MalformedModelError(f"`{path}` is missing", hint="download or save the model again")
    return path
