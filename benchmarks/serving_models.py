"""The models that are served, the requests that are sent, and how each server's format writes them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import models
import numpy as np
import numpy.typing as npt
import onnx

sys.path.insert(0, str(Path(__file__).with_name("peers")))

Array = npt.NDArray[np.generic]
Feeds = dict[str, Array]

SEED = 2026
TINY, DENSE, TEXTS, IMAGES = "tiny", "dense", "minilm", "resnet50"


@dataclass(frozen=True)
class Subject:
    """A model that is served.

    Attributes:
        name: Its name.
        path: Its file.
        output: The output that is asked for.
        requests: What clients ask, in turn; one row each.
        mixed: Whether they have different lengths.
        sha256: Digest of its files.
    """

    name: str
    path: Path
    output: str
    requests: Sequence[Feeds]
    mixed: bool
    sha256: dict[str, str]


def subject(name: str, cache: Path, folder: Path) -> Subject:
    """A model with its requests; made where it is not there."""
    random = np.random.default_rng(SEED)
    if name in (TINY, DENSE):
        path, width = (_dense(folder, name, (64, 64, 10)), 64) if name == TINY else _wide(folder, name)
        vectors = [{"x": random.standard_normal((1, width), np.float32)} for _ in range(64)]
        digest = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
        return Subject(name, path, "y", vectors, False, digest)
    made = models.make(name, cache.resolve())
    if name == TEXTS:
        texts = [_text(random, int(length)) for length in random.integers(6, 48, 64)]
        return Subject(name, made.path, "pooled", texts, True, made.sha256)
    images = [{"image": random.standard_normal((1, 3, 224, 224), np.float32)} for _ in range(8)]
    return Subject(name, made.path, "logits", images, False, made.sha256)


def _wide(folder: Path, name: str) -> tuple[Path, int]:
    """A model that is all weights, as those that rank and recommend are: a batch reads them once."""
    return _dense(folder, name, (2048, 2048, 2048, 2048, 1)), 2048


def _dense(folder: Path, name: str, widths: Sequence[int]) -> Path:
    """Fully connected layers with random weights: `x` to `y`."""
    random, helper = np.random.default_rng(SEED), onnx.helper
    nodes, weights, last = [], [], "x"
    for index, (rows, columns) in enumerate(pairwise(widths)):
        weight = (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(weight, f"w{index}"))
        is_end = index == len(widths) - 2
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], ["y" if is_end else f"m{index}"]))
        if not is_end:
            nodes.append(helper.make_node("Relu", [f"m{index}"], [f"r{index}"]))
        last = f"r{index}"
    x, y = (
        helper.make_tensor_value_info(one, onnx.TensorProto.FLOAT, ["batch", width])
        for one, width in (("x", widths[0]), ("y", widths[-1]))
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    graph = helper.make_graph(nodes, name, [x], [y], weights)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def _text(random: np.random.Generator, length: int) -> Feeds:
    ids = random.integers(1000, 30000, (1, length), dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def engine_answers(subject: Subject, threads: int) -> list[Array]:
    """What the engine says to each request, alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(subject.path, options, providers=["CPUExecutionProvider"])
    return [session.run([subject.output], feeds)[0] for feeds in subject.requests]


def request(form: str, path: str, feeds: Feeds, output: str) -> bytes:
    """A whole request in a server's format."""
    extra, kind = "", "application/json"
    if form == "binary":
        from lamella.wire import encode

        frame = encode(feeds)
        wanted = {"outputs": [{"name": output, "parameters": {"binary_data": True}}]}
        header = json.dumps({**json.loads(frame.header), **wanted}).encode()
        body, kind = b"".join((header, *frame.buffers)), "application/octet-stream"
        extra = f"Inference-Header-Content-Length: {len(header)}\r\n"
    elif form == "bytes":
        from shared import pack

        body, kind = pack(feeds), "application/octet-stream"
    else:
        body = json.dumps(_json(form, feeds)).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def _json(form: str, feeds: Feeds) -> object:
    from shared import to_text

    if form == "base64":
        return {"tensors": to_text(feeds)}
    if form == "base64 items":
        return {"items": [to_text(feeds)]}
    if form == "lists":
        return {"inputs": {name: array.tolist() for name, array in feeds.items()}}
    entries = [
        {"name": name, "shape": array.shape, "datatype": _datatype(array), "data": array.ravel().tolist()}
        for name, array in feeds.items()
    ]
    return {"inputs": entries}


def _datatype(array: Array) -> str:
    return {"f": "FP32", "i": "INT64"}[array.dtype.kind]


def answer(form: str, head: bytes, body: bytes) -> Array:
    """The tensor in a server's answer."""
    from shared import from_text, unpack

    if form == "binary":
        length = int(head.lower().partition(b"inference-header-content-length:")[2].partition(b"\r\n")[0])
        (entry,) = json.loads(body[:length])["outputs"]
        return np.frombuffer(body, np.float32, offset=length).reshape(entry["shape"])
    if form == "bytes":
        return unpack(body)["output"]
    said = json.loads(body)
    if form == "base64":
        return from_text(said["tensors"])["output"]
    if form == "base64 items":
        return from_text(said[0])["output"]
    if form == "lists":
        return np.array(said["output"], np.float32)
    (entry,) = said["outputs"]
    return np.array(entry["data"], np.float32).reshape(entry["shape"])


def check(label: str, subject: Subject, wanted: Sequence[Array], found: Sequence[Array]) -> None:
    """Stop at a wrong answer."""
    for index, (want, have) in enumerate(zip(wanted, found, strict=True)):
        if want.shape != have.shape or not np.allclose(want, have, rtol=1e-3, atol=1e-4 * np.abs(want).max()):
            raise RuntimeError(f"{label} gives a wrong answer to request {index} of `{subject.name}`")
