"""What the tests of deployments on AWS share."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from tests.emulated_aws.server import PYTHON, REGION

import lamella
from lamella.platforms import load_platform
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.target import AwsTarget
from lamella.targets.base import NotDeployedError, Wanted
from lamella.tensors import Array

POLL_S = 0.1
X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)


def target(**chosen: Any) -> AwsTarget:
    """The target in the emulated account, which has no concurrency to reserve, as a new one has not."""
    settings: dict[str, Any] = {"region": REGION, "python": PYTHON, "concurrency": None, **chosen}
    return AwsTarget(Settings(**settings), poll_s=POLL_S)


def wanted(name: str, models: Mapping[str, Path] | Path, **options: Any) -> Wanted:
    found = {"model": models} if isinstance(models, Path) else models
    given: dict[str, Any] = {"stage": "dev", "memory_mb": 1769, **options}
    return Wanted(name=name, models=found, platform=load_platform("aws-lambda"), **given)


def sliced(source: Any, folder: Path, slices: int | None = None) -> Path:
    return lamella.slice(source, folder, **({} if slices is None else {"slices": slices})).directory


def expected(directory: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    with lamella.Pipeline(directory) as pipeline:
        return pipeline.infer(inputs)


def assert_same(found: Mapping[str, Array], directory: Path, inputs: Mapping[str, Array]) -> None:
    for name, array in expected(directory, inputs).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def client(service: str) -> Any:
    """A client of the emulated account."""
    return boto3.client(service, region_name=REGION)


def keys(bucket: str, prefix: str = "") -> list[str]:
    return [entry["Key"] for entry in client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())]


def bucket_of(name: str, stage: str = "dev") -> str:
    return str(target().outputs(name, stage=stage)["Bucket"])


def stacks() -> list[str]:
    """Names of all stacks; LocalStack also lists those that were deleted."""
    found = client("cloudformation").describe_stacks()["Stacks"]
    return [stack["StackName"] for stack in found if stack["StackStatus"] != "DELETE_COMPLETE"]


def everything(name: str) -> list[str]:
    """What there is of a deployment, as each service lists it."""
    found = [
        *stacks(),
        *(function["FunctionName"] for function in client("lambda").list_functions()["Functions"]),
        *(url["EventSourceArn"] for url in client("lambda").list_event_source_mappings()["EventSourceMappings"]),
        *(machine["name"] for machine in client("stepfunctions").list_state_machines()["stateMachines"]),
        *(group["logGroupName"] for group in client("logs").describe_log_groups()["logGroups"]),
        *(bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]),
        *(role["RoleName"] for role in client("iam").list_roles()["Roles"]),
        *client("sqs").list_queues().get("QueueUrls", ()),
        *(repository["repositoryName"] for repository in client("ecr").describe_repositories()["repositories"]),
    ]
    return [each for each in found if f"lamella-{name}" in each or f"lamella/{name}" in each] + tagged(name)


def images(name: str, stage: str = "dev") -> set[str]:
    """Digests of the images in a deployment's repository."""
    pages = client("ecr").describe_images(repositoryName=f"lamella/{name}-{stage}")["imageDetails"]
    return {entry["imageDigest"] for entry in pages}


def tagged(name: str) -> list[str]:
    """File systems and networks, which have no names."""
    systems = client("efs").describe_file_systems()["FileSystems"]
    asked = [{"Name": "tag:lamella:deployment", "Values": [name]}]
    return [
        *(each["FileSystemId"] for each in systems if {"Key": "lamella:deployment", "Value": name} in each["Tags"]),
        *(each["VpcId"] for each in client("ec2").describe_vpcs(Filters=asked)["Vpcs"]),
    ]


def remove_all() -> None:
    """Delete what a test has left."""
    for stack in client("cloudformation").describe_stacks()["Stacks"]:
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", ())}
        if "lamella:deployment" not in tags:
            continue
        with suppress(NotDeployedError):
            target().delete(tags["lamella:deployment"], stage=tags["lamella:stage"])


def environment() -> dict[str, str]:
    """For a process of its own in the same account."""
    return dict(os.environ)
