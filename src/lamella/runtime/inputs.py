"""Objects as the inputs of a request, by what their keys end with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

from lamella.array_files import as_input, read_archive, read_array
from lamella.errors import InputError
from lamella.tensors import Array, TensorSpec
from lamella.wire import decode, decode_parts

MOST_BYTES = 256 << 20
"""Largest object, and most that an archive may become: what one request may hold."""

SUFFIXES = (".npy", ".npz", ".json", ".bin", ".frame")


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
    file, known = BytesIO(content), {spec.name: spec for spec in specs}
    is_archive = suffix == ".npz"
    arrays = read_archive(file, key, most_bytes=MOST_BYTES) if is_archive else {_only(specs): read_array(file, key)}
    return {name: as_input(array, name, known.get(name)) for name, array in arrays.items()}


def _only(specs: Sequence[TensorSpec]) -> str:
    if len(specs) != 1:
        names = ", ".join(f"`{spec.name}`" for spec in specs)
        raise InputError(f"a `.npy` object is one input, and the model has {len(specs)}: {names}", hint="give a `.npz`")
    return specs[0].name


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
