"""The model server's OpenAPI document: valid, complete, and kept by what the server answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families
from tests import models
from tests.functional.serving import Running, serving

from lamella.gateway.serving.application import Application
from lamella.gateway.serving.later import LaterAnswers
from lamella.gateway.serving.models import Models

TOKEN = {"Authorization": "Bearer lichen"}
INFER = "/v2/models/{model}/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    token = folder / "token"
    token.write_text("lichen\n")
    served = [models.mlp(folder / "mlp.onnx"), models.strings(folder / "strings.onnx")]
    with serving(*served, models.lookup(folder / "lookup.onnx"), "--token-file", token) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Running) -> Any:
    return server.ask("GET", "/openapi.json", headers=TOKEN).json


def schemathesis(source: str | Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(source), "--seed", "0", "--request-timeout", "30"),
        *("--header", f"Authorization: {TOKEN['Authorization']}", "--no-color", "--warnings", "off", *options),
    ]
    with TemporaryDirectory() as folder:  # it remembers what failed where it runs, and begins with that
        return subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=120)


def hold_to_the_document(server: Running, *options: str) -> None:
    """Have Schemathesis look for contradictions; what it finds is what the failure says."""
    # A schema cannot say that a tensor has as many elements as its shape, nor which inputs a model has.
    checks = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    done = schemathesis(f"{server.url}/openapi.json", "--max-examples", "8", "--continue-on-failure", *checks, *options)
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)


def inputs_of(document: Any, model: str) -> list[str]:
    example = document["paths"][INFER]["post"]["requestBody"]["content"]["application/json"]["examples"][model]
    return [entry["name"] for entry in example["value"]["inputs"]]


def answered(server: Running) -> dict[str, float]:
    text = server.ask("GET", "/metrics", headers=TOKEN).body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {sample.labels["model"]: sample.value for sample in families["lamella_requests_answered"].samples}


def test_document_is_valid(document: Any) -> None:
    validate(document)
    assert document["security"] == [{"token": []}]


def test_every_model_answers_its_example(server: Running, document: Any) -> None:
    examples = document["paths"][INFER]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert examples.keys() == {"mlp", "strings", "lookup"}
    for name, example in examples.items():
        answer = server.ask("POST", f"/v2/models/{name}/infer", json.dumps(example["value"]).encode(), TOKEN)
        assert answer.status == 200, answer.body


def test_no_request_gets_an_answer_that_contradicts_the_document(server: Running) -> None:
    """Loading and unloading come by themselves, below: they would leave little to ask, and count from 0 again."""
    # An index past the end of a table is the engine's to find: 500, as documented.
    assert server.ask("POST", "/v2/repository/models/lookup/unload", b"", TOKEN).status == 200
    hold_to_the_document(server, "--exclude-path-regex", "load$")


@pytest.mark.parametrize(
    ("model", "datatype", "shape", "element", "output"),
    [
        ("mlp", "FP32", [1, 32], {"type": "number", "minimum": -1e30, "maximum": 1e30}, "y"),
        ("strings", "BYTES", [3], {"type": "string"}, "names"),
    ],
)
def test_every_request_that_suits_a_model_is_answered_as_documented(
    server: Running,
    document: Any,
    tmp_path: Path,
    model: str,
    datatype: str,
    shape: list[int],
    element: dict[str, object],
    output: str,
) -> None:
    """The document, narrowed to one model: what it allows then must be accepted, which most of the above is not."""
    narrowed = json.loads(json.dumps(document))
    infer, request = narrowed["paths"][INFER], narrowed["components"]["schemas"]["InferRequest"]
    infer["post"]["parameters"] = []
    del infer["post"]["requestBody"]["content"]["application/octet-stream"]
    del infer["post"]["requestBody"]["content"]["application/json"]["examples"]
    narrowed["components"]["parameters"]["model"].update(schema={"const": model}, examples={})
    tensor = next(name for name in inputs_of(document, model))
    count = {"minItems": prod(shape), "maxItems": prod(shape)}
    given = {"name": tensor, "datatype": datatype, "shape": shape}
    properties = {name: {"const": value} for name, value in given.items()}
    properties["data"] = {"type": "array", "items": element, **count}
    one = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    request["properties"]["inputs"] = {"type": "array", "items": one, "minItems": 1, "maxItems": 1}
    request["properties"]["outputs"]["items"]["properties"]["name"] = {"const": output}
    for name in ("timeout", "priority"):  # an hour at least: what comes too late is 504
        request["properties"]["parameters"]["properties"][name] = {
            "type": "integer",
            "minimum": 3600 * 10**6,
            "maximum": 1 << 62,
        }
    changed = tmp_path / "narrowed.json"
    changed.write_text(json.dumps(narrowed))
    before = answered(server)[model]
    only = ["--include-path", INFER, "--mode", "positive", "--phases", "coverage,fuzzing", "--max-examples", "30"]
    done = schemathesis(changed, "--url", server.url, "--checks", "all", *only)
    assert done.returncode == 0, done.stdout
    assert answered(server)[model] >= before + 30


def test_loading_and_unloading_keep_to_the_document(server: Running) -> None:
    try:
        hold_to_the_document(server, "--include-path-regex", "load$", "--phases", "examples,coverage,fuzzing")
    finally:
        for name in ("mlp", "strings", "lookup"):
            assert server.ask("POST", f"/v2/repository/models/{name}/load", b"", TOKEN).status == 200


def test_a_contradiction_is_found(server: Running, document: Any, tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    document = json.loads(json.dumps(document))
    document["components"]["schemas"]["Server"]["required"].append("absent")
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    only = ["--include-path", "/v2", "--phases", "fuzzing", "--max-examples", "1"]
    done = schemathesis(changed, "--url", server.url, *only)
    assert done.returncode == 1
    assert '"absent" is a required property' in done.stdout


def test_every_route_is_documented_and_no_other(document: Any, tmp_path: Path) -> None:
    async def routes() -> set[tuple[str, str]]:
        known = Models({})
        later = LaterAnswers(known, tmp_path)
        try:
            app = Application(known, later, tokens=(), is_local=True, most_body_bytes=1).make()
            return {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
        finally:
            await later.close()

    wanted = {(method, path) for method, path in asyncio.run(routes()) if method != "HEAD"}
    found = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert found == {(method, path) for method, path in wanted if path not in ("/openapi.json", "/docs")}


def test_the_page_is_for_everybody_and_the_document_is_not(server: Running) -> None:
    page = server.ask("GET", "/docs")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "connect-src 'self'" in page.headers["Content-Security-Policy"]
    assert server.ask("GET", "/openapi.json").status == 401


def test_the_page_needs_nothing_from_elsewhere(server: Running) -> None:
    text = server.ask("GET", "/docs").body.decode()
    assert "://" not in text
    assert "src=" not in text
    assert 'href="data:,"' in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": {"binary_data_output": "true"}}, "neither true nor false"),
        ({"parameters": {"timeout": 1 << 63}}, "no count"),
        ({"outputs": {}}, "no list of objects"),
        ({"outputs": [{"name": "names", "parameters": {"binary_data": 1}}]}, "neither true nor false"),
        ({"inputs": [{"name": "words", "shape": [1], "datatype": "BYTES", "data": ["\ud800"]}]}, "is no BYTES"),
        ({"inputs": [{"name": "words", "shape": [1], "datatype": "BYTES", "data": ["a"], "parameters": []}]}, "no obj"),
    ],
)
def test_what_the_document_rules_out_is_refused(server: Running, change: dict[str, object], said: str) -> None:
    good = {"inputs": [{"name": "words", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    assert server.ask("POST", "/v2/models/strings/infer", json.dumps(good).encode(), TOKEN).status == 200
    answer = server.ask("POST", "/v2/models/strings/infer", json.dumps(good | change).encode(), TOKEN)
    assert (answer.status, said in answer.json["error"]) == (400, True), answer.body


@pytest.mark.parametrize("length", ["+5", "1_0", " 7", "-1", "x"])
def test_a_header_length_is_digits(server: Running, length: str) -> None:
    headers = {**TOKEN, "Inference-Header-Content-Length": length}
    answer = server.ask("POST", "/v2/models/mlp/infer", b'{"inputs": []}      ', headers)
    assert answer.status == 400


def test_what_is_not_allowed_says_what_is(server: Running) -> None:
    answer = server.ask("DELETE", "/v2/models/mlp", headers=TOKEN)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
