"""What a door's package holds, and that it runs as AWS runs it."""

import json
import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from tests.functional.doors import AWS, CREDENTIALS, http_event
from tests.functional.emulator import emulate
from tests.functional.runtime_api import runtime_api

from lamella.packaging.door import HANDLER, DoorPackage, build_door
from lamella.packaging.inventory import inventory
from lamella.packaging.zip import write_zip
from lamella.tensors import TensorSpec
from lamella.workflow.steps import Step, Workflow

X, Y = TensorSpec("x", "FP32", ("n", 4)), TensorSpec("y", "FP32", ("n", 4))
WORKFLOW = Workflow((X,), (), (Y,), {}, (Step(0, "f0", (X,), (), (Y,)),))
PLACES = json.dumps({name: {"kind": "express", "arn": "arn:m", "inline_bytes": 1000} for name in ("a", "b")})
MODULES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import lamella.runtime.door.handler as handler
found = handler.handle(json.loads(sys.argv[2]), None)
json.dump({"answer": found, "modules": list(sys.modules)}, sys.stdout)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> DoorPackage:
    cache = tmp_path_factory.mktemp("cache")
    return build_door({"a": WORKFLOW, "b": WORKFLOW}, platform=AWS, store="s3://bucket", cache=cache)


def environment(package: DoorPackage) -> dict[str, str]:
    own = {"LAMBDA_TASK_ROOT": str(package.folder), "LAMELLA_STORE": "s3://bucket", "LAMELLA_WORKFLOW": PLACES}
    return {"PATH": os.environ["PATH"], **CREDENTIALS, **own}


def test_the_cache_tells_it_from_a_damaged_package(package: DoorPackage) -> None:
    found = inventory(package.folder.parents[1])
    assert [kept.what for kept in found if kept.folder == package.folder] == ["a front door"]


def test_a_door_holds_no_engine_and_no_boto3(package: DoorPackage) -> None:
    paths = {path.relative_to(package.folder).as_posix() for path in package.folder.rglob("*")}
    assert not any("onnxruntime" in path or path.startswith("lamella/engines") for path in paths)
    assert not any("boto" in path for path in paths)
    assert {"workflow.json", "lamella/runtime/door/handler.py", "lamella/stores/s3_signed.py"} <= paths
    event = json.dumps(http_event("GET", "/v2/models/b"))
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MODULES, str(package.folder), event],
        capture_output=True,
        text=True,
        check=False,
        env=environment(package),
        timeout=100,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert json.loads(found["answer"]["body"])["name"] == "b"
    tops = {name.partition(".")[0] for name in found["modules"]}
    assert tops.isdisjoint({"boto3", "botocore", "onnxruntime", "onnx"})


def test_the_same_door_has_the_same_bytes(package: DoorPackage, tmp_path: Path) -> None:
    again = build_door({"a": WORKFLOW, "b": WORKFLOW}, platform=AWS, store="s3://bucket", cache=tmp_path)
    assert again.sha256 == package.sha256
    assert write_zip(again, tmp_path / "1.zip") == write_zip(package, tmp_path / "2.zip")


@pytest.mark.parametrize("client", ["lamella.runtime.client", "awslambdaric"])
def test_a_door_runs_under_both_runtime_clients(package: DoorPackage, client: str) -> None:
    if client == "awslambdaric":
        pytest.importorskip("awslambdaric", reason="awslambdaric is not installed")
    with runtime_api() as api:
        process = subprocess.Popen(
            [sys.executable, "-m", client, HANDLER],
            env={
                **environment(package),
                "AWS_LAMBDA_RUNTIME_API": api.address,
                "_HANDLER": HANDLER,
                "PYTHONPATH": os.pathsep.join([str(package.folder), *_site_packages(client)]),
            },
            cwd=package.folder,
        )
        try:
            answers = [
                _ask(api, http_event("GET", path)) for path in ("/v2/health/live", "/v2/models/a", "/v2/nothing")
            ]
            error = api.ask(b'{"what":"ever"}')
        finally:
            process.kill()
            process.wait()
    assert [answer["statusCode"] for answer in answers] == [200, 200, 404]
    assert json.loads(answers[1]["body"])["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert (error.kind, error.json()["errorType"]) == ("error", "InputError")


def test_a_door_runs_in_aws_s_emulator(package: DoorPackage, tmp_path: Path) -> None:
    own = {
        **environment(package),
        "PYTHONPATH": os.pathsep.join([str(package.folder), *_site_packages("awslambdaric")]),
    }
    with emulate(package.folder, HANDLER, program=tmp_path / "rie", environment=own) as port:
        for path, status in (("/v2/models/a", 200), ("/v2/models/nobody", 404)):
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            event = json.dumps(http_event("GET", path)).encode()
            connection.request("POST", "/2015-03-31/functions/function/invocations", event)
            assert json.loads(connection.getresponse().read())["statusCode"] == status
            connection.close()


def _ask(api: Any, event: dict[str, Any]) -> Any:
    return api.ask(json.dumps(event).encode()).json()


def _site_packages(client: str) -> list[str]:
    if client != "awslambdaric":
        return []
    import awslambdaric

    return [str(Path(awslambdaric.__file__).parents[1])]


def test_a_door_without_a_workflow_of_its_model_says_so(package: DoorPackage) -> None:
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MODULES, str(package.folder), "{}"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(package) | {"LAMELLA_WORKFLOW": "{}"},
        timeout=100,
    )
    assert finished.returncode == 1
    assert "has no workflow of `a`" in finished.stderr
