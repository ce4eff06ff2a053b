"""ONNX Runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from traceback import clear_frames

import numpy as np
import onnxruntime as ort

from lamella.engines.base import EngineOptions, Initializer, Item, check_precision
from lamella.engines.reasons import plain_reason
from lamella.errors import EngineError, InputError
from lamella.tensors import DATATYPES, Array, Datatype, TensorSpec, datatype, datatype_of, native

_Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_NAMES = {"FP32": "float", "FP64": "double", "BYTES": "string", "BF16": "bfloat16", "FP16": "float16"}
_BY_NOTATION = {f"tensor({_NAMES.get(d.name, d.name.lower())})": d for d in DATATYPES}
_FOREIGN_TYPES = {d.name for d in DATATYPES if d.onnx >= 16}  # those that NumPy lacks: handed over as raw bytes
_CARRIERS = {2: "uint8", 4: "uint8", 8: "uint8", 16: "uint16"}
_LOAD_HINT = "`lamella inspect` shows what the model needs; a newer ONNX Runtime may know it"
_INFER_HINT = "compare the inputs' shapes and values with what `lamella inspect` shows"


class OnnxRuntimeEngine:
    """Loads models into ONNX Runtime: its CPU execution provider, or those that `execution_providers` names."""

    def load(
        self,
        model: Path | bytes,
        options: EngineOptions,
        *,
        folder: Path | None = None,
        initializers: Mapping[str, Initializer] | None = None,
    ) -> OnnxRuntimeSession:
        """Load a model from a file, or from bytes whose external data lies in `folder`.

        With `initializers` and no optimisation, the session works on the caller's memory, and keeps it. Optimising
        copies them once, and the caller's memory is free afterwards.

        Raises:
            EngineError: ONNX Runtime refuses the model; the reason is its own.
            UsageError: There is no such execution provider, or another `precision` is wanted than the model's own.
        """
        check_precision(options, "ONNX Runtime")
        name = str(model) if isinstance(model, Path) else "the model"
        configured = session_options(options, folder=folder)
        with _errors(f"ONNX Runtime {ort.__version__} cannot load {name}", _LOAD_HINT):
            kept = _give(configured, initializers or {}, shared=options.optimization == "none")
            source = str(model) if isinstance(model, Path) else model
            if not options.execution_providers:
                session = ort.InferenceSession(source, configured, providers=["CPUExecutionProvider"])
            else:
                session = _open_on(source, configured, options)
        return OnnxRuntimeSession(session, options, kept)

    def describe(self, model: Path) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        """What the model in a file takes and gives.

        Raises:
            EngineError: ONNX Runtime refuses the model; the reason is its own.
        """
        session = self.load(model, EngineOptions(optimization="none", low_memory=True))
        try:
            return session.inputs, session.outputs
        finally:
            session.close()

    def to_array(self, item: Item) -> Array:
        """A tensor out of ONNX Runtime as an array."""
        return _array(item) if isinstance(item, ort.OrtValue) else np.asarray(item)


def _open_on(model: str | bytes, configured: ort.SessionOptions, options: EngineOptions) -> ort.InferenceSession:
    """A session on the execution providers that `options` name; what they cannot run, and why, is said."""
    from lamella.engines import providers  # no function needs it

    chosen = providers.choose(options.execution_providers, ort.get_available_providers(), fallback=options.fallback)
    if not options.fallback and providers.CPU not in (provider.name for provider in chosen):
        configured.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    configured.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    given = [(provider.name, provider.options) for provider in chosen]
    try:
        # Its own fallback would print to stdout.
        session = ort.InferenceSession(model, configured, providers=given, enable_fallback=0)
    except _FAILURES as error:
        if not options.fallback or len(given) == 1:
            raise
        session = ort.InferenceSession(model, configured, providers=[providers.CPU], enable_fallback=0)
        providers.say_dropped(chosen, (), fallback=True, reason=plain_reason(str(error))[:400])
        return session
    running = session.get_providers()
    providers.say_dropped(chosen, running, fallback=options.fallback)
    started = [provider for provider in chosen if provider.name in running]
    providers.say_idle(started, {part.ep_name for part in session.get_provider_graph_assignment_info()})
    return session


def session_options(options: EngineOptions, *, folder: Path | None = None) -> ort.SessionOptions:
    """ONNX Runtime's form of `options`; `folder` is where the external data of a model from bytes lies."""
    made = ort.SessionOptions()
    made.log_severity_level = 4
    made.intra_op_num_threads = options.threads
    made.inter_op_num_threads = 1
    made.graph_optimization_level = _LEVELS[options.optimization]
    if not options.spin:
        # One pool for all sessions would be as fast, but then every session of this process that does not use it fails.
        made.add_session_config_entry("session.force_spinning_stop", "1")
    if options.low_memory:
        made.enable_cpu_mem_arena = False
        made.add_session_config_entry("session.disable_prepacking", "1")
    if folder is not None:
        made.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    for library in options.custom_ops:
        hint = "give a library that was built for this machine and this ONNX Runtime"
        with _errors(f"the custom operators in `{library}` cannot be registered", hint):
            made.register_custom_ops_library(str(library))
    return made


def _give(
    configured: ort.SessionOptions, initializers: Mapping[str, Initializer], *, shared: bool
) -> list[ort.OrtValue]:
    """Hand initializers over; return those whose memory must outlive the session.

    Sharing is for graphs that are loaded as they are: what optimises one (constant folding, fusions into convolutions)
    reads weights from the model's files, never from what is shared, and would compute with zeros.
    """
    values = {name: _initializer_value(initializer) for name, initializer in initializers.items()}
    if not shared:
        configured.add_external_initializers(list(values), list(values.values()))
        return []
    for name, value in values.items():
        configured.add_initializer(name, value)
    return list(values.values())


def _initializer_value(initializer: Initializer) -> ort.OrtValue:
    """An OrtValue over an initializer's memory."""
    kind = datatype(initializer.datatype)
    if kind.name in _FOREIGN_TYPES:
        raw = np.frombuffer(initializer.data, _CARRIERS[kind.bits]).reshape(initializer.shape)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, kind.onnx)
    return ort.OrtValue.ortvalue_from_numpy(np.frombuffer(initializer.data, kind.numpy).reshape(initializer.shape))


class OnnxRuntimeSession:
    """A model in ONNX Runtime. Tensors stay `OrtValue`s between sessions: no copy."""

    def __init__(
        self, session: ort.InferenceSession, options: EngineOptions, kept: Sequence[ort.OrtValue] = ()
    ) -> None:
        self._session: ort.InferenceSession | None = session
        self._kept = kept
        self.inputs = [_spec(node) for node in session.get_inputs()]
        self.outputs = [_spec(node) for node in session.get_outputs()]
        overridable = [_spec(node) for node in session.get_overridable_initializers()]
        self._types = {spec.name: spec.datatype for spec in (*self.inputs, *overridable)}
        self._names = [spec.name for spec in self.outputs]
        self._plain_outputs = all(spec.datatype in _PLAIN_NAMES for spec in self.outputs)

    def infer(self, feeds: Mapping[str, Item]) -> dict[str, Item]:
        """Run once.

        Raises:
            InputError: A tensor does not fit the input's datatype or shape.
            EngineError: ONNX Runtime fails; the reason is its own.
        """
        given = {name: _ort_value(name, item, self._types.get(name)) for name, item in feeds.items()}
        session, kept = self._session, self._kept  # which another thread may drop
        if session is None:
            raise EngineError("this session is closed", hint="load the model again")
        try:
            with _errors("ONNX Runtime failed", _INFER_HINT):
                if self._plain_outputs and all(isinstance(item, ort.OrtValue) for item in given.values()):
                    values = _bound(session, given, self._names)
                else:  # strings, sequences and maps have no OrtValue that Python can read
                    values = session.run(self._names, given)
        finally:
            del session, kept  # the traceback of a failure would keep them, and their memory
        return dict(zip(self._names, values, strict=True))

    def end_profiling(self) -> Path:
        """Stop timing; return the file with the times of a session from `load_profiled`, which is released."""
        session, self._session = self._session, None
        if session is None:
            raise EngineError("this session is closed", hint="load the model again")
        return Path(session.end_profiling())

    def close(self) -> None:
        """Release the session and its memory."""
        self._session = None
        self._kept = ()


_KNOWN_NAMES = {d.name for d in DATATYPES}
_PLAIN_NAMES = _KNOWN_NAMES - {"BYTES"}


def _bound(
    session: ort.InferenceSession, given: Mapping[str, ort.OrtValue], names: Sequence[str]
) -> Sequence[ort.OrtValue]:
    """Run with tensors where they lie. `run_with_ort_values` does the same, and takes 0.1 ms more for it (1.31)."""
    binding = session.io_binding()
    for name, value in given.items():
        binding.bind_ortvalue_input(name, value)
    for name in names:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    outputs: Sequence[ort.OrtValue] = binding.get_outputs()
    return outputs


def _spec(node: ort.NodeArg) -> TensorSpec:
    known = _BY_NOTATION.get(node.type)
    if known is None:
        return TensorSpec(node.name, node.type, None)
    return TensorSpec(node.name, known.name, tuple(node.shape) or None)  # [] stands for a scalar and for no known rank


def _ort_value(name: str, item: Item, wanted: str | None) -> Item:
    """An array as the OrtValue that shares its memory; text, and what is no array, as ONNX Runtime takes it."""
    if isinstance(item, ort.OrtValue) or not isinstance(item, np.ndarray):
        return item
    try:
        array = native(item)
    except (TypeError, ValueError) as error:
        raise InputError(f"input `{name}` holds no text: {error}", hint="give text as strings or UTF-8") from error
    found = datatype_of(array)
    if wanted in _KNOWN_NAMES and found.name != wanted:
        raise InputError(f"input `{name}` is {found.name}, but the model takes {wanted}", hint=f"give it as {wanted}")
    if found.name == "BYTES":
        return array
    array = np.ascontiguousarray(array) if array.ndim else array
    if found.name not in _FOREIGN_TYPES:
        return ort.OrtValue.ortvalue_from_numpy(array)
    return _foreign_value(array, found)


def _foreign_value(array: Array, kind: Datatype) -> ort.OrtValue:
    if kind.bits >= 8:
        raw = array.view(_CARRIERS[kind.bits])
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, kind.onnx)
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), kind.onnx)
    packed = pack(array.view(np.uint8).ravel(), kind.bits)
    ctypes.memmove(value.data_ptr(), packed.ctypes.data, packed.nbytes)
    return value


def _array(value: ort.OrtValue) -> Array:
    kind = _BY_NOTATION[value.data_type()]
    if kind.name not in _FOREIGN_TYPES:
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    raw = np.frombuffer(ctypes.string_at(value.data_ptr(), kind.size_bytes(prod(shape))), np.uint8)
    if kind.bits < 8:
        raw = unpack(raw, kind.bits, prod(shape))
        if kind.name.startswith("INT"):  # ml_dtypes wants the sign spread over the byte
            raw = ((raw ^ (1 << kind.bits - 1)) - np.uint8(1 << kind.bits - 1)).astype(np.uint8)
    return raw.view(kind.dtype).reshape(shape)


def pack(items: _Bytes, bits: int) -> _Bytes:
    """Pack one element a byte into `8 // bits` elements a byte, the first in the lowest bits, as ONNX does."""
    per_byte = 8 // bits
    padded = np.zeros(-(-items.size // per_byte) * per_byte, np.uint8)
    padded[: items.size] = items & np.uint8((1 << bits) - 1)
    packed = np.zeros(padded.size // per_byte, np.uint8)
    for place in range(per_byte):
        packed |= padded[place::per_byte] << np.uint8(place * bits)
    return packed


def unpack(packed: _Bytes, bits: int, count: int) -> _Bytes:
    """The inverse of `pack`."""
    per_byte = 8 // bits
    items = np.empty(packed.size * per_byte, np.uint8)
    for place in range(per_byte):
        items[place::per_byte] = packed >> np.uint8(place * bits) & np.uint8((1 << bits) - 1)
    return items[:count]


_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    *(
        value
        for value in vars(ort.capi.onnxruntime_pybind11_state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
)


@contextmanager
def _errors(what: str, hint: str) -> Iterator[None]:
    """Turn ONNX Runtime's exceptions into ours, on one line."""
    try:
        yield
    except _FAILURES as error:
        reason = plain_reason(str(error))
        clear_frames(error.__traceback__)  # which would keep the session that failed, and its memory
        raise EngineError(f"{what}: {reason[:400]}", hint=_hint(reason) or hint) from error


def _hint(reason: str) -> str | None:
    if "is not a registered function/op" in reason or "No Op registered" in reason:
        return "name the library with the custom operators with `--custom-ops`, or use a newer ONNX Runtime"
    if "IR version" in reason or "opset" in reason:
        return "export the model for an older opset, or use a newer ONNX Runtime"
    if "fallback to CPU EP has been explicitly disabled" in reason:
        return (
            "they could not be started, or cannot run all of it: leave `--no-fallback` out, or name `cpu` behind them"
        )
    if "Invalid rank" in reason or "Got invalid dimensions" in reason:
        return "give inputs of the shapes that `lamella inspect` shows"
    return None


def save_optimized(model: Path, path: Path, *, data_name: str, options: EngineOptions) -> None:
    """Let ONNX Runtime optimise `model` and write the result to `path`, its weights to `data_name` beside it.

    Raises:
        EngineError: ONNX Runtime refuses the model.
    """
    configured = session_options(options)
    configured.optimized_model_filepath = str(path)
    configured.add_session_config_entry("session.optimized_model_external_initializers_file_name", data_name)
    configured.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    with _errors(f"ONNX Runtime {ort.__version__} cannot optimise {model}", _LOAD_HINT):
        ort.InferenceSession(str(model), configured, providers=["CPUExecutionProvider"])


def load_profiled(model: bytes, options: EngineOptions, *, folder: Path, scratch: Path) -> OnnxRuntimeSession:
    """Load a model so that every operator of each run is timed, and write the graph that runs to `scratch/graph.onnx`.

    The times come as Chrome's trace events in a file in `scratch` (`OnnxRuntimeSession.end_profiling`). What the
    optimisation makes of the weights is written with the graph; weights that stay as they are remain where they lie.

    Raises:
        EngineError: ONNX Runtime refuses the model.
    """
    configured = session_options(options, folder=folder)
    configured.enable_profiling = True
    configured.profile_file_prefix = str(scratch / "times")
    configured.optimized_model_filepath = str(scratch / "graph.onnx")
    with _errors(f"ONNX Runtime {ort.__version__} cannot profile the model", _LOAD_HINT):
        session = ort.InferenceSession(model, configured, providers=["CPUExecutionProvider"])
    return OnnxRuntimeSession(session, options)
