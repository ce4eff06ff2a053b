"""What the peers' servers share: ONNX Runtime as everyone opens it, requests as bytes, texts put together.

Where to find the model, how many threads and which port come from the environment: MODEL, THREADS, PORT, BATCH, OUTPUT.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime

Tensors = Mapping[str, npt.NDArray[np.generic]]

MODEL, OUTPUT = os.environ.get("MODEL", ""), os.environ.get("OUTPUT", "")
THREADS, PORT, BATCH = (int(os.environ.get(name, "1")) for name in ("THREADS", "PORT", "BATCH"))


def session() -> onnxruntime.InferenceSession:
    """The model, with so many threads for an operator."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def run_together(model: onnxruntime.InferenceSession, parts: Sequence[Tensors]) -> list[npt.NDArray[np.generic]]:
    """Compute requests of one row each as one batch; texts are filled up with zeros to the longest."""
    feeds = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    (found,) = model.run([OUTPUT], feeds)
    return [found[index : index + 1] for index in range(len(parts))]


def _joined(arrays: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    longest = max(array.shape[1] for array in arrays)
    if all(array.shape[1] == longest for array in arrays):
        return np.concatenate(arrays)
    joined = np.zeros((len(arrays), longest), arrays[0].dtype)
    for row, array in zip(joined, arrays, strict=True):
        row[: array.shape[1]] = array[0]
    return joined


def pack(tensors: Tensors) -> bytes:
    """Tensors as bytes: the length of a JSON header, the header, the data."""
    header = json.dumps({name: [array.dtype.str, array.shape] for name, array in tensors.items()}).encode()
    return b"".join((len(header).to_bytes(4, "little"), header, *(array.tobytes() for array in tensors.values())))


def unpack(body: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """Tensors of bytes; views of them."""
    start = 4 + int.from_bytes(body[:4], "little")
    found = {}
    for name, (kind, shape) in json.loads(body[4:start]).items():
        count = int(np.prod(shape))
        found[name] = np.frombuffer(body, np.dtype(kind), count, start).reshape(shape)
        start += found[name].nbytes
    return found


def to_text(tensors: Tensors) -> str:
    """Tensors for a string in JSON: base64, which is far shorter than lists of numbers, and quicker to read."""
    return base64.b64encode(pack(tensors)).decode()


def from_text(text: str) -> dict[str, npt.NDArray[np.generic]]:
    """Tensors of a string in JSON."""
    return unpack(base64.b64decode(text))
