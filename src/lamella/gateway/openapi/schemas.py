"""JSON Schemas of the Open Inference Protocol, with Triton's extensions and this server's own.

https://github.com/kserve/open-inference-protocol and https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lamella.tensors import DATATYPES

Schema = dict[str, object]

TRAVELLING = [kind.name for kind in DATATYPES if not 0 < kind.bits < 8]
"""Datatypes of tensors in requests and answers."""


def reference(name: str, kind: str = "schemas") -> Schema:
    """A reference to a component of the document."""
    return {"$ref": f"#/components/{kind}/{name}"}


def shaped(properties: Mapping[str, Schema], *, optional: Sequence[str] = (), about: str = "") -> Schema:
    """The schema of an object; all properties that are not optional must be there."""
    content: Schema = {"type": "object", "properties": dict(properties)}
    required = [name for name in properties if name not in optional]
    if required:
        content["required"] = required
    return {**content, "description": about} if about else content


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _of(kind: str | list[str], about: str = "", **more: object) -> Schema:
    content: Schema = {"type": kind, **more}
    return {**content, "description": about} if about else content


_TEXT, _COUNT, _FLAG = _of("string"), _of("integer", minimum=0), _of("boolean")
_TIMES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
_SIZE = _of(["integer", "null"], "bytes of this tensor behind the JSON", minimum=0)
_DATA: Schema = {
    "type": ["array", "number", "string", "boolean"],
    "description": "its elements, nested or flat, row by row",
}
_TENSOR: dict[str, Schema] = {
    "name": _TEXT,
    "shape": {**_list(_COUNT), "maxItems": 64},
    "datatype": _of("string", enum=TRAVELLING),
    "parameters": {
        "type": ["object", "null"],
        "properties": {"binary_data_size": _SIZE},
    },
    "data": _DATA,
}
_63_BITS = {"minimum": 0, "maximum": (1 << 63) - 1}
_ASKED: Schema = {
    "type": ["object", "null"],
    "properties": {
        "binary_data_output": _of(["boolean", "null"], "whether every output comes as bytes behind the JSON"),
        "priority": _of(["integer", "null"], "1 goes first, then 2, and so on; 5 is usual", **_63_BITS),
        "timeout": _of(["integer", "null"], "microseconds after which nobody waits any more: 504", **_63_BITS),
    },
}
_WANTED: Schema = shaped(
    {
        "name": _TEXT,
        "parameters": {
            "type": ["object", "null"],
            "properties": {"binary_data": _of(["boolean", "null"], "whether it comes as bytes behind the JSON")},
        },
    },
    optional=["parameters"],
)
_SPEC = shaped(
    {"name": _TEXT, "datatype": _TEXT, "shape": {**_list(_of("integer", minimum=-1)), "description": "-1: any size"}}
)
_CONFIGURED = shaped({"name": _TEXT, "data_type": _TEXT, "dims": _list(_of("integer", minimum=-1))})

SCHEMAS: Mapping[str, Schema] = {
    "Error": shaped(
        {
            "error": _of("string", "what is wrong"),
            "hint": _of(["string", "null"], "the way out"),
            "type": _of("string", "the error's name in Python"),
        },
        optional=["type"],
    ),
    "Live": shaped({"live": _FLAG}),
    "Ready": shaped({"ready": _FLAG}),
    "Server": shaped({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
    "ModelReady": shaped({"name": _TEXT, "ready": _FLAG}),
    "Model": shaped(
        {
            "name": _TEXT,
            "versions": _list(_TEXT),
            "platform": _TEXT,
            "inputs": _list(_SPEC),
            "outputs": _list(_SPEC),
        }
    ),
    "Configuration": shaped(
        {
            "name": _TEXT,
            "platform": _TEXT,
            "backend": _TEXT,
            "max_batch_size": _of("integer", "rows computed together at most; 0: requests stay apart", minimum=0),
            "input": _list(_CONFIGURED),
            "output": _list(_CONFIGURED),
            "parameters": _of("object", additionalProperties=shaped({"string_value": _TEXT})),
            "dynamic_batching": _of("object"),
        },
        optional=["dynamic_batching"],
    ),
    "Duration": shaped({"count": _COUNT, "ns": _COUNT}),
    "Statistics": shaped(
        {
            "model_stats": _list(
                shaped(
                    {
                        "name": _TEXT,
                        "version": _TEXT,
                        "last_inference": _of("integer", "milliseconds since 1970; 0: never", minimum=0),
                        "inference_count": _of("integer", "rows computed", minimum=0),
                        "execution_count": _of("integer", "batches computed", minimum=0),
                        "inference_stats": shaped(dict.fromkeys(_TIMES, reference("Duration"))),
                        "batch_stats": _list(
                            shaped({"batch_size": _COUNT, **dict.fromkeys(_TIMES[3:6], reference("Duration"))})
                        ),
                    }
                )
            )
        }
    ),
    "Index": _list(
        shaped(
            {
                "name": _TEXT,
                "version": _TEXT,
                "state": _of("string", enum=["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]),
                "reason": _TEXT,
            }
        )
    ),
    "IndexRequest": shaped({"ready": _of(["boolean", "null"], "only those that answer")}, optional=["ready"]),
    "LoadRequest": shaped(
        {"parameters": _of(["object", "null"], "none are taken", maxProperties=0)}, optional=["parameters"]
    ),
    "Nothing": _of("object", maxProperties=0),
    "Taken": shaped({"id": _of("string", pattern="^[0-9a-f]{32}$"), "status": _of("string", const="running")}),
    "Items": {
        "type": ["string", "object"],
        "description": "an item: a text, or what a task asks for (`question`, `context`); or several: `items`",
        "properties": {"items": {"type": "array", "items": _of(["string", "object"]), "minItems": 1, "maxItems": 1024}},
    },
    "Answers": shaped({"model_name": _TEXT, "model_version": _TEXT, "answers": _list(_of("object"))}),
    "InputTensor": shaped(_TENSOR, optional=["parameters", "data"]),
    "OutputTensor": shaped(_TENSOR, optional=["parameters", "data"]),
    "InferRequest": shaped(
        {
            "id": _of(["string", "null"], "your name for the request"),
            "parameters": _ASKED,
            "inputs": _list(reference("InputTensor")),
            "outputs": {
                "type": ["array", "null"],
                "items": _WANTED,
                "description": "those that are wanted; without it all",
            },
        },
        optional=["id", "parameters", "outputs"],
    ),
    "InferResponse": shaped(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": _of("object"),
            "outputs": _list(reference("OutputTensor")),
        },
        optional=["parameters"],
    ),
}
