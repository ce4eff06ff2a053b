"""Outputs as the content of an object: JSON, text, or tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Literal
from zipfile import ZipFile

import numpy as np

from lamella.runtime.protocol import json_entry
from lamella.stores.base import MAX_KEY_BYTES
from lamella.tensors import Array, Tensors

Form = Literal["json", "text", "tensors"]
"""How outputs are written where they become an object."""

SUFFIXES: Mapping[Form, str] = {"json": ".json", "text": ".txt", "tensors": ".npz"}

_DIGITS = 16


def written(outputs: Tensors, form: Form, *, head: Mapping[str, object]) -> bytes:
    """Outputs in one of the forms.

    Args:
        outputs: Arrays by name.
        form: `json` as the Open Inference Protocol has it; `text` with a line for each row, numbers separated by
            spaces, after the output's name and a tab where there are several outputs; `tensors` as `.npz`.
        head: What `json` says beside the outputs.
    """
    if form == "json":
        return json.dumps({**head, "outputs": json_entries(outputs)}, allow_nan=False).encode() + b"\n"
    if form == "text":
        return "".join(f"{line}\n" for line in _lines(outputs)).encode()
    return _archive(outputs)


def key_with(key: str, suffix: str) -> str:
    """A key and an ending; where that is too long for a key, a digest stands for what is left out."""
    if len(key.encode()) + len(suffix) <= MAX_KEY_BYTES:
        return key + suffix
    from hashlib import sha256  # which takes 5 ms to import, and is hardly ever needed

    mark = f"~{sha256(key.encode()).hexdigest()[:_DIGITS]}{suffix}"
    return key.encode()[: MAX_KEY_BYTES - len(mark)].decode("utf-8", "ignore") + mark


def json_entries(outputs: Tensors) -> list[dict[str, object]]:
    """Outputs as the Open Inference Protocol has them in JSON."""
    return [json_entry(name, array) for name, array in outputs.items()]


def _plain(array: Array) -> Array:
    """An array of a type that NumPy has itself."""
    return array if array.dtype.kind in "biufcOSU" else array.astype(np.float32)


def _text(item: object) -> str:
    return item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else str(item)


def _lines(outputs: Tensors) -> Iterator[str]:
    for name, array in outputs.items():
        label = f"{name}\t" if len(outputs) > 1 else ""
        is_text = array.dtype.kind in "OSU"
        # A text is a line of its own, whatever is in it: it may hold spaces.
        rows = _plain(array).reshape(-1, 1 if is_text or not array.ndim else max(1, array.shape[-1]))
        for row in rows.tolist():
            yield label + " ".join(" ".join(_text(item).splitlines()) if is_text else str(item) for item in row)


def _archive(outputs: Tensors) -> bytes:
    """As `.npz`, without pickle. Not `numpy.savez`, whose own arguments' names no output could have."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _unpickled(array), allow_pickle=False)
    return buffer.getvalue()


def _unpickled(array: Array) -> Array:
    if array.dtype.kind != "O":
        return array
    texts = np.array([_text(item) for item in array.ravel().tolist()], dtype=str)
    return texts.reshape(array.shape)
