"""A deployment as on AWS, on this machine: packages on the local platform, and a bucket of moto's server."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from tests.functional.local_functions import LIMITS

from lamella.packaging.door import HANDLER, build_door
from lamella.packaging.package import build_packages
from lamella.platforms import load_platform
from lamella.runtime.protocol import HEADER_LENGTH
from lamella.targets.local.platform import FunctionSpec, LocalPlatform
from lamella.workflow.manifest import read_manifest
from lamella.workflow.steps import Workflow, workflow_of

AWS = load_platform("aws-lambda")
REGION = "eu-central-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": "very-secret",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
}


@dataclass
class Deployed:
    """What was deployed, and how to ask its door."""

    platform: LocalPlatform
    door: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, event: Mapping[str, Any]) -> Any:
        """What the door answers to an event."""
        found = self.platform.invoke(self.door, json.dumps(event).encode())
        assert found.error_type is None, (found.error_type, found.error_message)
        return json.loads(found.payload)

    def http(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of what the door answers to an HTTP request."""
        answer = self.ask(http_event(method, path, body, headers))
        content = b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
        return answer["statusCode"], content, answer["headers"]

    def infer(self, model: str, content: Mapping[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
        """An infer request in JSON."""
        status, body, _ = self.http("POST", f"/v2/models/{model}/infer", json.dumps(content).encode(), headers)
        return status, json.loads(body)


def http_event(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, stage: str = "$default"
) -> dict[str, Any]:
    """An HTTP API's event, payload format 2.0, as its documentation shows it."""
    recorded = json.loads((Path(__file__).parent / "events" / "http_api_v2.json").read_text())
    recorded["rawPath"] = path
    recorded["headers"] = {"content-type": "application/octet-stream", **(headers or {})}
    recorded["requestContext"]["stage"] = stage
    recorded["requestContext"]["http"] |= {"method": method, "path": path}
    recorded["body"], recorded["isBase64Encoded"] = b64encode(body).decode(), True
    return recorded


def binary(frame: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request with binary tensors."""
    return frame.header + b"".join(frame.buffers), {HEADER_LENGTH.lower(): str(len(frame.header))}


@contextmanager
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """URI of a bucket of moto's server, and the server's URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        with urlopen(Request(f"{endpoint}/moto-api/reset", b"", method="POST"), timeout=20):
            pass  # what servers in this process know is one
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="deployment", CreateBucketConfiguration={"LocationConstraint": REGION})
        client.close()
        yield f"s3://deployment?endpoint_url={quote(endpoint, safe='')}", endpoint
    finally:
        server.stop()


def deploy(
    platform: LocalPlatform,
    sliced: Path,
    *,
    name: str,
    store: str,
    cache: Path,
    inline_bytes: int = 4_000_000,
    events: Mapping[str, str] | None = None,
    runtime: Any = "lamella",
) -> Deployed:
    """A model's slices, each of which invokes the next, and a door in front; a single slice is its own door."""
    manifest = read_manifest(sliced)
    single = len(manifest.slices) == 1
    packages = build_packages(sliced, name=name, platform=AWS, store=store, cache=cache, door=name if single else None)
    environment = {**CREDENTIALS, "LAMELLA_STORE": store, "AWS_ENDPOINT_URL_LAMBDA": platform.url}
    door = packages[0].function.name if single else f"{name}-door"
    place = {"kind": "single" if single else "direct", "arn": packages[0].function.name, "inline_bytes": inline_bytes}
    for_door = {"LAMELLA_WORKFLOW": json.dumps({name: place}), "LAMELLA_NAME": door}
    if events is not None:
        for_door["LAMELLA_EVENTS"] = json.dumps(events)
    following: str | None = None
    for package in reversed(packages):
        own = {**environment, **(for_door if single else {})}
        if following is not None:
            own["LAMELLA_NEXT"] = following
        spec = FunctionSpec(package.function.name, package.folder, 1024, 60.0, environment=own, runtime=runtime)
        version = platform.create(replace(spec, handler=HANDLER) if single else spec)
        platform.set_alias(package.function.name, "live", version)
        following = f"arn:aws:lambda:{REGION}:000000000000:function:{package.function.name}:{version}"
    if not single:
        place["arn"] = str(following)
        for_door["LAMELLA_WORKFLOW"] = json.dumps({name: place})
        workflow: Workflow = workflow_of(manifest, [package.function for package in packages])
        built = build_door({name: workflow}, platform=AWS, store=store, cache=cache)
        own = {**environment, **for_door}
        platform.create(FunctionSpec(door, built.folder, 256, 60.0, HANDLER, own, runtime=runtime))
    return Deployed(platform, door)


def local_platform(folder: Path) -> LocalPlatform:
    """An empty platform with AWS's limits."""
    return LocalPlatform(folder, limits=LIMITS)
