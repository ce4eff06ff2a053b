"""The OpenAPI document of the model server, made from what is served: https://spec.openapis.org/oas/v3.1.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lamella import __version__
from lamella.gateway.dataplane import ModelInfo
from lamella.gateway.openapi.examples import infer_example
from lamella.gateway.openapi.schemas import SCHEMAS, Schema, reference
from lamella.runtime.protocol import HEADER_LENGTH

_JSON, _BYTES, _TEXT = "application/json", "application/octet-stream", "text/plain"
_MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
_WRONG: Mapping[int, str] = {
    400: "The request does not follow the protocol, or does not suit the model.",
    401: "A token is needed.",
    404: "There is no such model, version or request.",
    413: "The body is larger than the server takes.",
    429: "Too many requests are waiting.",
    500: "The engine fails, or the server has a defect.",
    501: "A library that this needs is not installed where the server runs.",
    502: "The answer could not be kept.",
    503: "The server ends, or takes no further requests now.",
    504: "The request's `timeout` was over.",
}
_BODY = (400, 413, 503)
"""What can be wrong with any request that has a body."""

Responses = Mapping[str, object]


def document(models: Sequence[ModelInfo], *, needs_token: bool) -> dict[str, object]:
    """The document.

    Args:
        models: Those that answer; examples are made for them.
        needs_token: Whether callers must send a token.
    """
    described = _Described(models, needs_token)
    schemes = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lamella model server",
            "version": __version__,
            "description": "The Open Inference Protocol v2, with extensions of Triton.",
        },
        "servers": [{"url": "/"}],
        **({"security": [{"token": []}]} if needs_token else {}),
        "tags": [{"name": name} for name in ("models", "server", "repository")],
        "paths": described.paths(),
        "components": {
            "schemas": dict(SCHEMAS),
            "parameters": described.parameters(),
            "responses": {f"E{status}": _error(status) for status in _WRONG},
            **({"securitySchemes": schemes} if needs_token else {}),
        },
    }


class _Described:
    """Paths and parameters, for the models that there are."""

    def __init__(self, models: Sequence[ModelInfo], needs_token: bool) -> None:
        self._models, self._needs_token = models, needs_token

    def paths(self) -> dict[str, object]:
        """Every path with its operations."""
        paths: dict[str, object] = {}
        for path in _MODELS:
            paths |= self._of_model(path, "Version" if path.endswith("{version}") else "")
        return paths | self._of_server() | self._of_repository()

    def parameters(self) -> dict[str, object]:
        """What stands in paths and headers."""
        names = {one.name: {"value": one.name} for one in self._models}
        versions = {version: {"value": version} for one in self._models for version in one.versions}
        return {
            "model": _parameter("model", "path", "The model's name.", examples=names, schema=_SEGMENT),
            "version": _parameter("version", "path", "Which version of it.", examples=versions, schema=_SEGMENT),
            "job": _parameter("job", "path", "The `id` that a request was taken under.", schema=_SEGMENT),
            "prefer": _parameter("Prefer", "header", "`respond-async`: the answer comes later."),
            "headerLength": _parameter(
                HEADER_LENGTH,
                "header",
                "Bytes of the JSON, where tensors follow it as bytes.",
                schema={"type": "integer", "minimum": 0},
            ),
        }

    def _of_model(self, path: str, suffix: str) -> dict[str, object]:
        """What a model answers, and a version of it."""
        parameters = [reference("model", "parameters")]
        if suffix:
            parameters.append(reference("version", "parameters"))

        def get(operation: str, summary: str, schema: str) -> dict[str, object]:
            answer = self._answers({"200": _json(summary, schema)}, 404)
            return {"get": _operation(f"{operation}{suffix}", "models", summary, answer), "parameters": parameters}

        return {
            f"{path}/infer": {"post": self._infer(suffix), "parameters": parameters},
            f"{path}/answer": {"post": self._answer(suffix), "parameters": parameters},
            path: get("metadata", "Inputs and outputs of a model.", "Model"),
            f"{path}/ready": get("modelReady", "Whether a model answers.", "ModelReady"),
            f"{path}/config": get("configuration", "A model's configuration, as Triton has it.", "Configuration"),
            f"{path}/stats": get("statistics", "What a model has done.", "Statistics"),
        }

    def _infer(self, suffix: str) -> dict[str, object]:
        made = {one.name: infer_example(one.inputs) for one in self._models}
        examples = {name: {"value": body} for name, body in made.items() if body is not None}
        request: Schema = {"schema": reference("InferRequest")}
        answers = self._answers({"200": _inferred(), "202": _taken()}, *_BODY, 404, 429, 504)
        return {
            **_operation(f"infer{suffix}", "models", "Run a model.", answers),
            "parameters": [reference("prefer", "parameters"), reference("headerLength", "parameters")],
            "requestBody": {
                "required": True,
                "description": "JSON, or JSON and the bytes of tensors behind it.",
                "content": {_JSON: {**request, "examples": examples} if examples else request, _BYTES: {}},
            },
        }

    def _answer(self, suffix: str) -> dict[str, object]:
        summary = "What a model's task makes of images, texts and questions."
        answers = self._answers({"200": _json("An answer for each item.", "Answers")}, *_BODY, 404, 429, 501)
        text: Schema = {"schema": {"type": "string", "minLength": 1}}
        content = {_JSON: {"schema": reference("Items")}, _TEXT: text, "image/*": {}, _BYTES: {}}
        body = {"required": True, "description": "One item as it is, or several in JSON.", "content": content}
        return {**_operation(f"answer{suffix}", "models", summary, answers), "requestBody": body}

    def _of_server(self) -> dict[str, object]:
        """What the server says of itself."""
        result = self._answers({"200": _inferred(), "202": _json("It is running.", "Taken")}, 404, 413, 502, 503, 504)
        result_of = _operation("result", "models", "The result of a request that is answered later.", result)
        ready = {"200": _json("Every model answers.", "Ready"), "503": _json("Not yet, or no more.", "Ready")}
        live = {"200": _json("The server runs.", "Live")}
        server = self._answers({"200": _json("Name, version and extensions.", "Server")})
        all_statistics = self._answers({"200": _json("Statistics by model.", "Statistics")})
        text = {"description": "Metrics.", "content": {_TEXT: {"schema": {"type": "string"}}}}
        metrics = self._answers({"200": text}, 501)
        return {
            "/v2/requests/{job}": {"get": result_of, "parameters": [reference("job", "parameters")]},
            "/v2": {"get": _operation("server", "server", "What the server is.", server)},
            "/v2/models/stats": {"get": _operation("allStatistics", "server", "What all models did.", all_statistics)},
            "/v2/health/live": {"get": _open(_operation("live", "server", "Whether the server runs.", live))},
            "/v2/health/ready": {"get": _open(_operation("ready", "server", "Whether every model answers.", ready))},
            "/metrics": {"get": _operation("metrics", "server", "What Prometheus collects.", metrics)},
        }

    def _of_repository(self) -> dict[str, object]:
        """What loads and unloads models."""
        index = self._answers({"200": _json("Each model and its state.", "Index")}, *_BODY)
        changed = {"200": _json("It is done.", "Nothing")}
        load, unload = (self._answers(changed, *more, 404) for more in ((*_BODY, 502), _BODY))
        model = [reference("model", "parameters")]
        loading = _operation("load", "repository", "Load a model as its files are now.", load)
        unloading = _operation("unload", "repository", "Let a model answer what it has taken, and no more.", unload)
        indexing = _operation("index", "repository", "Which models there are.", index)
        path = "/v2/repository/models/{model}"
        return {
            "/v2/repository/index": {"post": {**indexing, "requestBody": _optional("IndexRequest")}},
            f"{path}/load": {"post": {**loading, "requestBody": _optional("LoadRequest")}, "parameters": model},
            f"{path}/unload": {"post": unloading, "parameters": model},
        }

    def _answers(self, good: Responses, *wrong: int) -> Responses:
        """Good answers, and those that something wrong gets."""
        statuses = {*wrong, 400, 500, *((401,) if self._needs_token else ())}
        return {**good, **{str(status): reference(f"E{status}", "responses") for status in sorted(statuses)}}


_SEGMENT: Schema = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}


def _operation(name: str, tag: str, summary: str, responses: Responses) -> dict[str, object]:
    return {"operationId": name, "tags": [tag], "summary": summary, "responses": responses}


def _open(operation: dict[str, object]) -> dict[str, object]:
    """One that needs no token."""
    return {**operation, "security": []}


def _parameter(
    name: str, place: str, about: str, *, schema: Schema | None = None, examples: Mapping[str, object] | None = None
) -> dict[str, object]:
    return {
        "name": name,
        "in": place,
        "description": about,
        "schema": schema or {"type": "string"},
        **({"required": True} if place == "path" else {}),
        **({"examples": dict(examples)} if examples else {}),
    }


def _json(about: str, schema: str) -> dict[str, object]:
    return {"description": about, "content": {_JSON: {"schema": reference(schema)}}}


def _optional(schema: str) -> dict[str, object]:
    return {"required": False, "content": {_JSON: {"schema": reference(schema)}}}


def _inferred() -> dict[str, object]:
    about = "The outputs: JSON, or JSON and bytes behind it where these were asked for."
    length = {"description": "Bytes of the JSON, where bytes follow it.", "schema": {"type": "integer"}}
    content: dict[str, object] = {_JSON: {"schema": reference("InferResponse")}, _BYTES: {}}
    return {"description": about, "headers": {HEADER_LENGTH: length}, "content": content}


def _taken() -> dict[str, object]:
    """https://www.rfc-editor.org/rfc/rfc7240."""
    text: Schema = {"schema": {"type": "string"}, "required": True}
    link = {"operationId": "result", "parameters": {"job": "$response.body#/id"}}
    return {
        **_json("It is taken, and answered later.", "Taken"),
        "headers": {"Location": {**text, "description": "Where its result will be."}, "Preference-Applied": text},
        "links": {"result": link},
    }


def _error(status: int) -> dict[str, object]:
    content = _json(_WRONG[status], "Error")
    header = {401: "WWW-Authenticate", 429: "Retry-After"}.get(status)
    if header is None:
        return content
    return {**content, "headers": {header: {"schema": {"type": "string"}, "required": True}}}
