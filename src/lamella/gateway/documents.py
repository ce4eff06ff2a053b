"""What a server tells of itself and its models, as JSON values: the names are the same over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

from lamella import __version__
from lamella.gateway.dataplane import Duration, Entry, ModelInfo, Statistics
from lamella.runtime import protocol
from lamella.tensors import TensorSpec

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics", "schedule_policy"]

# https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
_CONFIGURED = {"BYTES": "TYPE_STRING"} | {
    name: f"TYPE_{name}"
    for name in ("BOOL", "FP16", "FP32", "FP64", "BF16", *(f"{s}INT{b}" for s in ("", "U") for b in (8, 16, 32, 64)))
}
"""By datatype: its name in configurations, which know no others."""


def server() -> dict[str, object]:
    """What the server tells of itself."""
    return {"name": "lamella", "version": __version__, "extensions": EXTENSIONS}


def metadata(info: ModelInfo) -> dict[str, object]:
    """What the protocol tells of a model."""
    return protocol.metadata(info.name, info.versions, info.inputs, info.outputs, platform=info.platform)


def index(entries: Sequence[Entry], *, only_ready: bool) -> list[dict[str, object]]:
    """Every version of every model, or those that answer."""
    return [
        {"name": entry.model, "version": entry.version, "state": entry.state, "reason": entry.reason}
        for entry in entries
        if entry.state == "READY" or not only_ready
    ]


def is_ready(entries: Sequence[Entry]) -> bool:
    """Whether every model that is not unloaded answers, in any version."""
    answering = {entry.model for entry in entries if entry.state == "READY"}
    return all(entry.model in answering or entry.reason == "unloaded" for entry in entries)


def configuration(info: ModelInfo) -> dict[str, object]:
    """A model's configuration, with the names that Triton's have."""
    batches = info.max_batch_size > 0
    content: dict[str, object] = {
        "name": info.name,
        "platform": info.platform,
        "backend": "onnxruntime",
        "max_batch_size": info.max_batch_size,
        "input": [_configured(spec, batches=batches) for spec in info.inputs],
        "output": [_configured(spec, batches=batches) for spec in info.outputs],
        "parameters": {name: {"string_value": str(value)} for name, value in info.parameters.items()},
    }
    if batches:
        content["dynamic_batching"] = {}
    return content


def _configured(spec: TensorSpec, *, batches: bool) -> dict[str, object]:
    """A configuration has no dimension for the batch, where there is one."""
    dims = [dim if isinstance(dim, int) else -1 for dim in spec.shape or ()]
    kind = _CONFIGURED.get(spec.datatype, "TYPE_INVALID")
    return {"name": spec.name, "data_type": kind, "dims": dims[1:] if batches else dims}


def statistics(found: Sequence[Statistics]) -> dict[str, object]:
    """What models have done, with the names of Triton's statistics."""
    return {"model_stats": [_told(one) for one in found]}


def _told(one: Statistics) -> dict[str, object]:
    none = Duration()
    return {
        "name": one.model,
        "version": one.version,
        "last_inference": one.last_inference_ms,
        "inference_count": one.inference_count,
        "execution_count": one.execution_count,
        "inference_stats": {
            name: _duration(duration)
            for name, duration in (
                ("success", one.success),
                ("fail", one.fail),
                ("queue", one.queue),
                ("compute_input", one.compute_input),
                ("compute_infer", one.compute_infer),
                ("compute_output", one.compute_output),
                ("cache_hit", none),
                ("cache_miss", none),
            )
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(none),
                "compute_infer": _duration(duration),
                "compute_output": _duration(none),
            }
            for rows, duration in one.batches.items()
        ],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
