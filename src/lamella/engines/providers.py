"""Which of ONNX Runtime's execution providers run a model, and what is said where they cannot.

One is written `name` or `name:key=value,key=value`: the name short, as `onnxruntime_perf_test -e` of ONNX Runtime has
it, or ONNX Runtime's full name; keys and values are that provider's options, as its documentation lists them.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from lamella.errors import EngineError, LamellaWarning, UsageError

CPU = "CPUExecutionProvider"

# https://onnxruntime.ai/docs/execution-providers/, and what is installed for them
_GPU = "install `onnxruntime-gpu` instead of `onnxruntime`"
_KNOWN = {
    "cpu": (CPU, "install `onnxruntime`"),
    "cuda": ("CUDAExecutionProvider", _GPU),
    "tensorrt": ("TensorrtExecutionProvider", f"{_GPU}, and TensorRT"),
    "nvtensorrtrtx": ("NvTensorRTRTXExecutionProvider", "build ONNX Runtime with TensorRT for RTX"),
    "openvino": ("OpenVINOExecutionProvider", "install `onnxruntime-openvino` instead of `onnxruntime`"),
    "migraphx": ("MIGraphXExecutionProvider", "install `onnxruntime-migraphx` instead of `onnxruntime`"),
    "rocm": ("ROCMExecutionProvider", "install `onnxruntime-rocm` instead of `onnxruntime`, or use `migraphx`"),
    "dml": ("DmlExecutionProvider", "install `onnxruntime-directml` instead of `onnxruntime`, on Windows"),
    "coreml": ("CoreMLExecutionProvider", "use the `onnxruntime` for macOS"),
    "qnn": ("QNNExecutionProvider", "install `onnxruntime-qnn` instead of `onnxruntime`"),
    "cann": ("CANNExecutionProvider", "install `onnxruntime-cann` instead of `onnxruntime`"),
    "webgpu": ("WebGpuExecutionProvider", "install `onnxruntime-webgpu` instead of `onnxruntime`"),
    "xnnpack": ("XnnpackExecutionProvider", "build ONNX Runtime with `--use_xnnpack`"),
    "dnnl": ("DnnlExecutionProvider", "build ONNX Runtime with `--use_dnnl`"),
    "acl": ("ACLExecutionProvider", "build ONNX Runtime with `--use_acl`"),
    "vitisai": ("VitisAIExecutionProvider", "install AMD's Ryzen AI software"),
    "nnapi": ("NnapiExecutionProvider", "use the ONNX Runtime for Android"),
    "azure": ("AzureExecutionProvider", "install `onnxruntime`"),
}
_ALIASES = {"trt": "tensorrt", "directml": "dml", "mkldnn": "dnnl"}
_INSTALLED = dict(_KNOWN.values())
_SHORT = {full: short for short, (full, _) in _KNOWN.items()}


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: ONNX Runtime's full name of it.
        options: Its own options.
    """

    name: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """Its short name, where it has one."""
        return _SHORT.get(self.name, self.name)


def parse_provider(text: str) -> Provider:
    """Read `cuda`, `CUDAExecutionProvider` or `cuda:device_id=1,gpu_mem_limit=2147483648`.

    Raises:
        UsageError: There is no such provider, or what follows are no options.
    """
    name, _, rest = text.partition(":")
    options = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not key.strip() or not equals:
            raise UsageError(
                f"`{pair}` is no option of the execution provider `{name}`", hint=f"write `{name}:KEY=VALUE,KEY=VALUE`"
            )
        options[key.strip()] = value.strip()
    return Provider(_full_name(name.strip()), options)


def _full_name(name: str) -> str:
    if name.endswith("ExecutionProvider") and name != "ExecutionProvider":
        return name  # also one that this list does not know
    short = _ALIASES.get(name.lower(), name.lower())
    if short in _KNOWN:
        return _KNOWN[short][0]
    close = get_close_matches(short, _KNOWN, 1)
    hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(_KNOWN)}, and ONNX Runtime's full names"
    raise UsageError(f"there is no execution provider `{name}`", hint=hint)


def choose(wanted: Sequence[str], available: Collection[str], *, fallback: bool) -> list[Provider]:
    """Those of `wanted` that this build of ONNX Runtime has, in their order, and behind them the CPU's.

    Each that it lacks is warned of. Without `fallback`, that is an error, and the CPU's is there only if it is wanted.

    Raises:
        UsageError: One is unknown, or wanted twice.
        EngineError: One is lacking, and there is no `fallback`.
    """
    providers = [parse_provider(text) for text in wanted]
    names = [provider.name for provider in providers]
    twice = next((p for p in providers if names.count(p.name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"the execution provider `{twice.short}` is wanted twice", hint="name each once, with its options"
        )
    for provider in providers:
        if provider.name not in available:
            _say_lacking(provider, available, fallback=fallback)
    found = [provider for provider in providers if provider.name in available]
    if CPU not in names and (fallback or not found):
        found.append(Provider(CPU))
    return found


def _say_lacking(provider: Provider, available: Collection[str], *, fallback: bool) -> None:
    what = f"this ONNX Runtime has no execution provider `{provider.short}`"
    has = f"it has {', '.join(sorted(_SHORT.get(name, name) for name in available))}"
    way_out = _INSTALLED.get(provider.name, "use an ONNX Runtime that was built with it")
    if not fallback:
        raise EngineError(f"{what}; {has}", hint=f"{way_out}, or let the CPU run the model: leave `--no-fallback` out")
    warnings.warn(LamellaWarning(f"{what}, and the model runs without it; {has}: {way_out}"), stacklevel=2)


def say_dropped(chosen: Sequence[Provider], running: Collection[str], *, fallback: bool, reason: str = "") -> None:
    """Warn of each provider that ONNX Runtime dropped by itself, for instance because a library of it is missing.

    Args:
        chosen: What it was given.
        running: What the session has.
        fallback: Whether that is a warning; else it is an error.
        reason: What ONNX Runtime said, where it said something.

    Raises:
        EngineError: One was dropped, and there is no `fallback`.
    """
    for provider in chosen:
        if provider.name in running or provider.name == CPU:
            continue
        what = f"the execution provider `{provider.short}` could not be started" + (f": {reason}" if reason else "")
        hint = "its libraries and its device must be there, in the versions that this ONNX Runtime was built for"
        if not fallback:
            raise EngineError(what, hint=hint)
        warnings.warn(LamellaWarning(f"{what}; the model runs without it: {hint}"), stacklevel=2)


def say_idle(chosen: Sequence[Provider], busy: Collection[str]) -> None:
    """Warn of each provider, other than the CPU's, that runs no node of the model."""
    for provider in chosen:
        if provider.name not in busy and provider.name != CPU:
            text = f"the execution provider `{provider.short}` runs no node of this model: others run all of them"
            warnings.warn(LamellaWarning(text), stacklevel=2)
