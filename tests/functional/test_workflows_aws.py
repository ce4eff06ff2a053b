"""Standard workflows on moto's Step Functions, started and looked at without boto3."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from tests.functional.doors import REGION, bucket

from lamella.errors import RemoteError
from lamella.runtime.calling import AwsCaller, AwsError
from lamella.runtime.frames import encode_frame
from lamella.runtime.models import Model, SliceNames
from lamella.runtime.payload import timing_document
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.running import Place, Running
from lamella.runtime.timing import Timing
from lamella.tensors import TensorSpec

SPEC = TensorSpec("y", "FP32", (3,))
MODEL = Model("m", (SPEC,), (), (SPEC,), (SliceNames(0, "f0", ("y",), ("y",)),))
Y = np.float32([1, 2, 3])


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with bucket(monkeypatch) as (_, url):
        body = json.dumps({"stepfunctions": {"execute_state_machine": True}}).encode()
        with urlopen(Request(f"{url}/moto-api/config", body, {"Content-Type": "application/json"}), timeout=20):
            monkeypatch.setenv("MOTO_PORT", url.rpartition(":")[2])
            yield url


def machine(endpoint: str, state: dict[str, Any]) -> str:
    import boto3

    client = boto3.client("stepfunctions", endpoint_url=endpoint, region_name=REGION)
    definition = json.dumps({"StartAt": "Only", "States": {"Only": state}})
    role = "arn:aws:iam::123456789012:role/any-role"
    arn = client.create_state_machine(name=f"m-{state['Type']}", definition=definition, roleArn=role)["stateMachineArn"]
    client.close()
    return str(arn)


@pytest.fixture
def caller(endpoint: str) -> Iterator[AwsCaller]:
    made = AwsCaller(endpoint_url=endpoint)
    yield made
    made.close()


def running(caller: AwsCaller, arn: str, folder: Path) -> Running:
    return Running(MODEL, Place("standard", arn, 1000), caller, folder.as_uri(), ReferencedTensors())


def test_a_state_machine_s_output_is_read(endpoint: str, caller: AwsCaller, tmp_path: Path) -> None:
    frame = encode_frame({"y": Y}, kind="outputs").decode()
    parts = [{"frame": frame, "references": [], "timing": timing_document(Timing())}]
    state = {
        "Type": "Pass",
        "Parameters": {"request_id.$": "$.request_id", "parts": parts, "timings": {"0": timing_document(Timing())}},
        "End": True,
    }
    ran = running(caller, machine(endpoint, state), tmp_path).infer({"y": Y}, timeout_s=60)
    np.testing.assert_array_equal(ran.outputs["y"], Y)


def test_a_state_machine_s_failure_is_read(endpoint: str, caller: AwsCaller, tmp_path: Path) -> None:
    cause = "slice 0: " + json.dumps({"Error": "Sandbox.Timedout", "Cause": "Task timed out after 3.00 seconds"})
    arn = machine(endpoint, {"Type": "Fail", "Error": "Sandbox.Timedout", "Cause": cause})
    with pytest.raises(RemoteError, match=r"slice 0 \(`f0`\) failed: Sandbox.Timedout: Task timed out") as caught:
        running(caller, arn, tmp_path).infer({"y": Y}, timeout_s=60)
    assert caught.value.slice == 0


def test_a_machine_that_is_not_there_is_told(caller: AwsCaller, tmp_path: Path) -> None:
    arn = f"arn:aws:states:{REGION}:123456789012:stateMachine:nobody"
    with pytest.raises(AwsError, match="StateMachineDoesNotExist"):
        running(caller, arn, tmp_path).infer({"y": Y}, timeout_s=60)
