"""What a server tells of its models, as JSON values: the names are those of the protocol, over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lamella import __version__
from lamella.gateway.dataplane import Duration, Entry, ModelInfo, Statistics
from lamella.runtime.protocol import metadata
from lamella.tensors import TensorSpec

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")
"""Of the protocol's extensions, those that are here."""

# https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto, DataType
_CONFIG_TYPES = {
    **{
        name: f"TYPE_{name}"
        for name in ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
    },
    **{name: f"TYPE_{name}" for name in ("FP16", "FP32", "FP64", "BF16")},
    "BYTES": "TYPE_STRING",
}


def server_document() -> dict[str, object]:
    """What the server tells of itself."""
    return {"name": "lamella", "version": __version__, "extensions": list(EXTENSIONS)}


def metadata_document(info: ModelInfo) -> dict[str, object]:
    """What the protocol tells of a model."""
    return {**metadata(info.name, info.versions, info.inputs, info.outputs), "platform": info.platform}


def config_document(info: ModelInfo) -> dict[str, object]:
    """A model's configuration, in the form of Triton's: shapes are without the batch, where there is one."""
    batches = info.max_batch_size > 0
    content: dict[str, object] = {
        "name": info.name,
        "platform": info.platform,
        "backend": info.platform.partition("_")[0],
        "max_batch_size": info.max_batch_size,
        "input": [_config_tensor(spec, batches) for spec in info.inputs],
        "output": [_config_tensor(spec, batches) for spec in info.outputs],
        "parameters": {name: {"string_value": str(value)} for name, value in info.parameters.items()},
    }
    if batches:
        content["dynamic_batching"] = {"preferred_batch_size": [info.max_batch_size]}
    return content


def _config_tensor(spec: TensorSpec, batches: bool) -> dict[str, object]:
    dims = [dim if isinstance(dim, int) else -1 for dim in spec.shape or ()]
    return {
        "name": spec.name,
        "data_type": _CONFIG_TYPES.get(spec.datatype, "TYPE_INVALID"),
        "dims": dims[1:] if batches else dims,
    }


def statistics_document(found: Sequence[Statistics]) -> dict[str, object]:
    """What models have done."""
    return {"model_stats": [_statistics(one) for one in found]}


def _statistics(found: Statistics) -> dict[str, object]:
    steps: Mapping[str, Duration] = {
        "success": found.success,
        "fail": found.fail,
        "queue": found.queue,
        "compute_input": found.compute_input,
        "compute_infer": found.compute_infer,
        "compute_output": found.compute_output,
    }
    return {
        "name": found.model,
        "version": found.version,
        "last_inference": found.last_inference_ms,
        "inference_count": found.inference_count,
        "execution_count": found.execution_count,
        "inference_stats": {name: _duration(duration) for name, duration in steps.items()},
        "batch_stats": [
            {"batch_size": rows, "compute_infer": _duration(duration)} for rows, duration in found.batches.items()
        ],
    }


def _duration(duration: Duration) -> dict[str, object]:
    return {"count": duration.count, "ns": duration.ns}


def index_document(entries: Sequence[Entry], *, only_ready: bool) -> list[dict[str, object]]:
    """Every version of every model, or those that answer."""
    return [
        {"name": entry.model, "version": entry.version, "state": entry.state, "reason": entry.reason}
        for entry in entries
        if entry.state == "READY" or not only_ready
    ]


def is_ready(entries: Sequence[Entry]) -> bool:
    """Whether a server answers: it does not while it loads a model of which no other version answers."""
    answering = {entry.model for entry in entries if entry.state == "READY"}
    return all(entry.state != "LOADING" or entry.model in answering for entry in entries)
