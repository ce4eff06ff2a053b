"""OpenVINO: its own IR (`.xml` with a `.bin` beside it), and ONNX; on the CPU."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np
import openvino as ov

from lamella.engines.base import EngineOptions, Initializer, Item
from lamella.engines.feeds import checked
from lamella.engines.files import placed
from lamella.engines.headers import Specs, onnx_specs
from lamella.errors import EngineError, LamellaWarning, UsageError
from lamella.tensors import Array, Dimension, TensorSpec, datatype

_VERSION = ov.get_version().partition("-")[0]
_ONNXRUNTIME = "use ONNX Runtime: `--engine onnxruntime`"
_DATATYPES = {
    **{f"{sign}{bits}": f"{name}{bits}" for sign, name in (("i", "INT"), ("u", "UINT")) for bits in (8, 16, 32, 64)},
    "f64": "FP64",
    "f32": "FP32",
    "f16": "FP16",
    "bf16": "BF16",
    "f8e4m3": "FLOAT8E4M3FN",
    "f8e5m2": "FLOAT8E5M2",
    "f8e8m0": "FLOAT8E8M0",
    "boolean": "BOOL",
    "string": "BYTES",
}
_FOREIGN = {"BF16": "uint16", "FLOAT8E4M3FN": "uint8", "FLOAT8E5M2": "uint8", "FLOAT8E8M0": "uint8"}


class OpenVinoEngine:
    """Loads models into OpenVINO's CPU plugin.

    FP32 is computed in FP32 unless `precision` says otherwise. OpenVINO always optimises as it likes, and keeps the
    weights of a file in the page cache where it can: `optimization`, `low_memory` and `spin` change nothing. Its CPU
    plugin computes FP64 in FP32, and integers of 64 bits in 32.
    """

    def load(
        self,
        model: Path | bytes,
        options: EngineOptions,
        *,
        folder: Path | None = None,
        initializers: Mapping[str, Initializer] | None = None,
    ) -> OpenVinoSession:
        """Load a model from a file, or an ONNX model from bytes whose external data lies in `folder`.

        OpenVINO finds external data beside a file only, so that bytes are written there as long as loading takes.

        Raises:
            EngineError: OpenVINO refuses the model; the reason is its own. Or it takes and gives what is no array of
                numbers, or `initializers` are given.
            UsageError: Execution providers are given, which are ONNX Runtime's.
        """
        if options.execution_providers:
            raise UsageError("execution providers are ONNX Runtime's, and OpenVINO has none", hint=_ONNXRUNTIME)
        if initializers:
            raise EngineError("OpenVINO takes weights from files alone", hint=_ONNXRUNTIME)
        core, name = _core(options.custom_ops), str(model) if isinstance(model, Path) else "the model"
        with _errors(f"OpenVINO {_VERSION} cannot load {name}"):
            read = _read(core, model, folder)
            inputs, outputs = _specs(read, model, name)
            compiled = core.compile_model(read, "CPU", _configuration(options))
        _check_precision(compiled, options.precision)
        return OpenVinoSession(compiled, inputs, outputs)

    def describe(self, model: Path) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        """What the model in a file takes and gives.

        Raises:
            EngineError: OpenVINO cannot read it.
        """
        with _errors(f"OpenVINO {_VERSION} cannot load {model}"):
            return _specs(_core(()).read_model(str(model)), model, str(model))

    def to_array(self, item: Item) -> Array:
        """A tensor out of OpenVINO, which is an array already."""
        return np.asarray(item)


def _configuration(options: EngineOptions) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": options.precision,
        "INFERENCE_NUM_THREADS": options.threads,
        "PERFORMANCE_HINT": "LATENCY",
    }


def _check_precision(compiled: ov.CompiledModel, wanted: str) -> None:
    found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if found != wanted:
        warnings.warn(LamellaWarning(f"this processor computes in {found}, and not in {wanted}"), stacklevel=2)


@cache
def _core(custom_ops: tuple[Path, ...]) -> ov.Core:
    core = ov.Core()
    for library in custom_ops:
        try:
            core.add_extension(str(library))
        except RuntimeError as error:
            raise EngineError(
                f"the custom operators in `{library}` cannot be registered: {_reason(error)}",
                hint="give an extension that was built for this machine and this OpenVINO",
            ) from error
    return core


def _read(core: ov.Core, model: Path | bytes, folder: Path | None) -> ov.Model:
    if isinstance(model, Path):
        return core.read_model(str(model))
    if folder is None:
        return core.read_model(model)
    with placed(model, folder) as file:
        return core.read_model(file)


def _specs(read: ov.Model, model: Path | bytes, name: str) -> tuple[Specs, Specs]:
    """What the model takes and gives, in the model's own names: OpenVINO merges those of values that are equal."""
    if isinstance(model, bytes) or model.suffix.lower() != ".xml":
        inputs, outputs = onnx_specs(model)
    else:
        inputs, outputs = (tuple(_port_spec(port) for port in ports) for ports in (read.inputs, read.outputs))
    if (len(inputs), len(outputs)) != (len(read.inputs), len(read.outputs)):
        what = f"it takes {len(read.inputs)} of the model's {len(inputs)} inputs as such"
        raise EngineError(f"OpenVINO {_VERSION} cannot run {name}: {what}", hint=_ONNXRUNTIME)
    for spec, port in zip((*inputs, *outputs), (*read.inputs, *read.outputs), strict=True):
        found = _DATATYPES.get(port.element_type.get_type_name())
        if found != spec.datatype or found == "BYTES":
            what = "text" if found == "BYTES" else port.element_type.get_type_name()
            raise EngineError(f"OpenVINO {_VERSION} cannot run {name}: `{spec.name}` is {what}", hint=_ONNXRUNTIME)
    return inputs, outputs


def _port_spec(port: ov.ConstOutput) -> TensorSpec:
    kind = port.element_type.get_type_name()
    names = sorted(port.get_names())
    shape = port.get_partial_shape()
    return TensorSpec(
        names[0] if names else port.get_node().get_friendly_name(),
        _DATATYPES.get(kind, kind),
        None if shape.rank.is_dynamic else tuple(_dimension(size) for size in shape),
    )


def _dimension(size: ov.Dimension) -> Dimension:
    return None if size.is_dynamic else int(size.get_length())


class OpenVinoSession:
    """A model in OpenVINO. Threads may infer at the same time: each has an infer request of its own meanwhile."""

    def __init__(self, compiled: ov.CompiledModel, inputs: Specs, outputs: Specs) -> None:
        self._compiled: ov.CompiledModel | None = compiled
        self._idle: list[ov.InferRequest] = []
        self._lock = Lock()
        self.inputs, self.outputs = inputs, outputs

    def infer(self, feeds: Mapping[str, Item]) -> dict[str, Item]:
        """Run once.

        Raises:
            InputError: An input is missing, unknown, of another datatype or shape, or holds an integer beyond 32 bits.
            EngineError: OpenVINO fails; the reason is its own.
        """
        arrays = checked(feeds, self.inputs, "OpenVINO")
        tensors = [_tensor(arrays[spec.name], spec.datatype) for spec in self.inputs]  # which share the arrays' memory
        request = self._request()
        with _errors("OpenVINO failed"):
            request.infer(tensors)
            found: dict[str, Item] = {
                spec.name: np.array(request.get_output_tensor(index).data).view(datatype(spec.datatype).dtype)
                for index, spec in enumerate(self.outputs)
            }
        with self._lock:
            if self._compiled is not None:
                self._idle.append(request)
        return found

    def _request(self) -> ov.InferRequest:
        with self._lock:
            if self._compiled is None:
                raise EngineError("this session is closed", hint="load the model again")
            return self._idle.pop() if self._idle else self._compiled.create_infer_request()

    def close(self) -> None:
        """Release the model; requests under way end first."""
        with self._lock:
            self._compiled = None
            self._idle.clear()


def _tensor(array: Array, kind: str) -> ov.Tensor:
    if not array.flags.writeable:  # as that of a request is, which OpenVINO does not share
        array = array.copy()
    if kind in _FOREIGN:
        native = getattr(ov.Type, next(name for name, found in _DATATYPES.items() if found == kind))
        return ov.Tensor(array.view(_FOREIGN[kind]), ov.Shape(array.shape), native)
    return ov.Tensor(array, shared_memory=array.ndim > 0 and array.size > 0)


_NOISE = re.compile(r"^(Exception from |Check '.*' failed at |FrontEnd API failed with |\s*$)")


def _reason(error: Exception) -> str:
    """OpenVINO's message on one line, without where in its source code it comes from."""
    lines = [line.strip() for line in str(error).splitlines() if not _NOISE.match(line)]
    return " ".join(lines)[:400] or str(error).strip()[:400]


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        reason = _reason(error)
        hint = "compare the model with what OpenVINO reads: IR with its `.bin` beside it, and ONNX; or " + _ONNXRUNTIME
        if "No conversion rule found" in reason:
            hint = f"name an extension of OpenVINO that has the operator with `--custom-ops`, or {_ONNXRUNTIME}"
        raise EngineError(f"{what}: {reason}", hint=hint) from error
