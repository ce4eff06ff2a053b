"""OpenCV's `cv2.dnn`: ONNX, TensorFlow's frozen graphs, and Caffe's networks; on the CPU.

OpenCV 5 reads ONNX and TensorFlow, and Caffe no more. OpenCV 4 reads Caffe and TensorFlow, and its ONNX is of another
time: it makes FP32 of all datatypes, and knows no dimension that is not a number.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np

from lamella.engines.base import EngineOptions, Initializer, Item, check_precision
from lamella.engines.feeds import checked, described, fits
from lamella.engines.files import placed
from lamella.engines.headers import Specs, caffe_header, onnx_specs, tensorflow_header
from lamella.errors import EngineError, InputError, LamellaWarning, UsageError
from lamella.tensors import Array, TensorSpec, datatype

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its exceptions hold what it would log of them

_ONNXRUNTIME = "use ONNX Runtime: `--engine onnxruntime`"
_CAFFE = "readNetFromCaffe"  # OpenCV 4
_READS_ONNX = hasattr(cv2.dnn, "ENGINE_NEW")  # OpenCV 5
_NUMBERS = {"FP32", "FP16", "FP64", "BOOL", *(f"{name}{bits}" for name in ("INT", "UINT") for bits in (8, 16, 32, 64))}


@dataclass(frozen=True)
class _Net:
    """A network with what OpenCV does not say of it.

    Attributes:
        net: The network.
        inputs: What it takes.
        outputs: What it gives.
        places: For each output, the layer that gives it and its place there; None where OpenCV knows it by its name.
        channels_last: Whether the model has its images' channels behind; OpenCV has them in front.
    """

    net: cv2.dnn.Net
    inputs: Specs
    outputs: Specs
    places: tuple[tuple[str, int], ...] | None = None
    channels_last: bool = False


class OpenCvEngine:
    """Loads models into `cv2.dnn`.

    A file's partner is found by its name: a `.prototxt` has a `.caffemodel` beside it, a `.pb` may have a `.pbtxt`.
    `threads` holds for all of OpenCV in this process; `optimization`, `low_memory` and `spin` change nothing.
    """

    def load(
        self,
        model: Path | bytes,
        options: EngineOptions,
        *,
        folder: Path | None = None,
        initializers: Mapping[str, Initializer] | None = None,
    ) -> OpenCvSession:
        """Load a model from a file, or an ONNX model from bytes whose external data lies in `folder`.

        OpenCV finds external data beside a file only, so that bytes are written there as long as loading takes.

        Raises:
            EngineError: OpenCV refuses the model; the reason is its own. Or it takes or gives what OpenCV has no arrays
                for, or `initializers` or `custom_ops` are given.
            UsageError: Execution providers are given, which are ONNX Runtime's, or a `precision`, which is OpenVINO's.
        """
        _check_options(options, initializers)
        name = str(model) if isinstance(model, Path) else "the model"
        cv2.setNumThreads(options.threads)
        with _errors(f"OpenCV {cv2.__version__} cannot load {name}"):
            return OpenCvSession(_read(model, folder))

    def describe(self, model: Path) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        """What the model in a file takes and gives.

        Raises:
            EngineError: OpenCV cannot read it.
        """
        session = self.load(model, EngineOptions())
        return session.inputs, session.outputs

    def to_array(self, item: Item) -> Array:
        """A tensor out of OpenCV, which is an array already."""
        return np.asarray(item)


def _check_options(options: EngineOptions, initializers: Mapping[str, Initializer] | None) -> None:
    check_precision(options, "OpenCV")
    if options.execution_providers:
        raise UsageError("execution providers are ONNX Runtime's, and OpenCV has none", hint=_ONNXRUNTIME)
    if initializers:
        raise EngineError("OpenCV takes weights from files alone", hint=_ONNXRUNTIME)
    if options.custom_ops:
        raise EngineError(
            f"the custom operators in `{options.custom_ops[0]}` cannot be registered: OpenCV takes no libraries",
            hint=_ONNXRUNTIME,
        )


def _read(model: Path | bytes, folder: Path | None) -> _Net:
    suffix = model.suffix.lower() if isinstance(model, Path) else ""
    if isinstance(model, Path) and suffix in (".prototxt", ".caffemodel"):
        return _read_caffe(model.with_suffix(".prototxt"), model.with_suffix(".caffemodel"))
    if isinstance(model, Path) and suffix in (".pb", ".pbtxt"):
        config = model.with_suffix(".pbtxt")
        return _read_tensorflow(model.with_suffix(".pb"), config if config.exists() else None)
    return _read_onnx(model, folder)


def _read_onnx(model: Path | bytes, folder: Path | None) -> _Net:
    if not _READS_ONNX:
        raise EngineError(
            f"OpenCV {cv2.__version__} does not run ONNX models as they are", hint="install `opencv-python-headless>=5`"
        )
    inputs, outputs = onnx_specs(model)
    _check_datatypes((*inputs, *outputs))
    if isinstance(model, Path):
        return _Net(_onnx_net(partial(cv2.dnn.readNetFromONNX, str(model))), inputs, outputs)
    if folder is None:
        return _Net(_onnx_net(partial(cv2.dnn.readNetFromONNX, np.frombuffer(model, np.uint8))), inputs, outputs)
    with placed(model, folder) as file:
        return _Net(_onnx_net(partial(cv2.dnn.readNetFromONNX, file)), inputs, outputs)


def _onnx_net(read: Callable[[int], cv2.dnn.Net]) -> cv2.dnn.Net:
    net = read(cv2.dnn.ENGINE_NEW)
    if net.empty():
        # The other parser may change datatypes and shapes, and does not say so. But it does say what it cannot read.
        read(cv2.dnn.ENGINE_CLASSIC)
        raise EngineError("OpenCV's parser refuses the model, and gives no reason", hint=_ONNXRUNTIME)
    return net


def _check_datatypes(specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        if spec.datatype not in _NUMBERS:
            raise EngineError(f"OpenCV cannot run the model: `{spec.name}` is {spec.datatype}", hint=_ONNXRUNTIME)


def _read_tensorflow(graph: Path, config: Path | None) -> _Net:
    _check_there(graph, "the frozen graph")
    header = tensorflow_header(graph, config)
    _check_datatypes(header.inputs)
    net = cv2.dnn.readNetFromTensorflow(str(graph), "" if config is None else str(config))
    outputs = tuple(TensorSpec(name, "FP32", None) for name in net.getUnconnectedOutLayersNames())
    return _Net(net, header.inputs, outputs, None, header.channels_last)


def _read_caffe(network: Path, weights: Path) -> _Net:
    if not hasattr(cv2.dnn, _CAFFE):
        raise EngineError(
            f"OpenCV {cv2.__version__} reads Caffe's networks no more",
            hint='install `"opencv-python-headless<5"`, which reads them, or convert the network to ONNX',
        )
    _check_there(network, "the network")
    _check_there(weights, "the network's weights")
    header = caffe_header(network)
    net = getattr(cv2.dnn, _CAFFE)(str(network), str(weights))
    outputs = tuple(TensorSpec(blob, "FP32", None) for blob, _, _ in header.outputs)
    return _Net(net, header.inputs, outputs, tuple((layer, place) for _, layer, place in header.outputs))


def _check_there(path: Path, what: str) -> None:
    if not path.is_file():
        raise EngineError(f"`{path}` does not exist: it is to be {what}", hint="put it there, beside the other file")


class OpenCvSession:
    """A model in OpenCV. Threads that infer at the same time take turns."""

    def __init__(self, read: _Net) -> None:
        self._read: _Net | None = read
        self._lock = Lock()
        self.inputs, self.outputs = read.inputs, read.outputs

    def infer(self, feeds: Mapping[str, Item]) -> dict[str, Item]:
        """Run once.

        Raises:
            InputError: An input is missing, unknown, of another datatype or shape, has no elements, or
                holds an integer beyond 32 bits.
            EngineError: OpenCV fails; the reason is its own.
        """
        arrays = checked(feeds, self.inputs, "OpenCV")
        for name, array in arrays.items():
            if not array.size:
                raise InputError(
                    f"input `{name}` has shape {list(array.shape)}, and OpenCV takes no tensor without elements",
                    hint=f"give at least one element, or {_ONNXRUNTIME}",
                )
        with self._lock:
            if self._read is None:
                raise EngineError("this session is closed", hint="load the model again")
            with _errors("OpenCV failed"):
                return dict(_run(self._read, arrays))

    def close(self) -> None:
        """Release the model; a request under way ends first."""
        with self._lock:
            self._read = None


def _run(read: _Net, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    for name, array in arrays.items():
        turned = read.channels_last and array.ndim == 4
        blob: Any = np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if turned else array
        read.net.setInput(blob, name)
    found: Sequence[Array]
    if read.places is None:
        found = read.net.forward([spec.name for spec in read.outputs])
    else:
        found = list(_blobs(read, read.places))
    for spec, value in zip(read.outputs, found, strict=True):
        yield spec.name, _output(read, spec, value)


def _blobs(read: _Net, places: Sequence[tuple[str, int]]) -> Iterator[Array]:
    layers = read.net.forwardAndRetrieve([layer for layer, _ in places])
    for blobs, (layer, place), spec in zip(layers, places, read.outputs, strict=True):
        if place >= len(blobs):
            raise EngineError(
                f"OpenCV gives no `{spec.name}`, though the layer `{layer}` has it",
                hint="say in the network what it is, such as its `slice_point`",
            )
        yield blobs[place]


def _output(read: _Net, spec: TensorSpec, value: Array | None) -> Array:
    """A copy of an output, which the next request would change, as the model has it."""
    if value is None:
        raise EngineError(f"OpenCV gives nothing for `{spec.name}`: it has no elements", hint=_ONNXRUNTIME)
    if read.channels_last and value.ndim == 4 and read.net.getLayer(spec.name).type != "DetectionOutput":
        value = value.transpose(0, 2, 3, 1)  # detections are OpenCV's own, in a form of its own
    if not fits(value.shape, spec.shape):
        what = f"OpenCV gives `{spec.name}` the shape {list(value.shape)}, and the model says {described(spec.shape)}"
        warnings.warn(LamellaWarning(f"{what}: compare the answer with that of `--engine onnxruntime`"), stacklevel=2)
    return np.array(value, datatype(spec.datatype).dtype, order="C")


_WHERE = re.compile(r"OpenCV\([^)]*\) \S+:\d+: error: \(-\d+:[^)]*\) ")
_FUNCTION = re.compile(r" ?in function '[^']*'(?: >)?")


def _reason(error: Exception) -> str:
    """OpenCV's message on one line, without where in its source code it comes from."""
    return _FUNCTION.sub("", _WHERE.sub("", " ".join(str(error).split()))).strip(" >")[:400]


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turn OpenCV's exceptions into ours."""
    try:
        yield
    except (cv2.error, SystemError) as error:
        hint = f"OpenCV knows fewer operators than others: {_ONNXRUNTIME}, which takes `--custom-ops`, too"
        raise EngineError(f"{what}: {_reason(error)}", hint=hint) from error
