"""Exports, deployed as somebody's own pipeline would: with boto3 alone, and images with skopeo alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests import models
from tests.emulated_aws.server import PYTHON, REGION
from tests.functional import registries
from tests.functional.aws import X, client, everything, keys, sliced, target, wanted
from tests.functional.test_aws_doors import Deployed, assert_right, body
from tests.functional.test_images import skopeo

import lamella
from lamella.errors import UsageError
from lamella.targets.aws.settings import Settings

NAME, ARTIFACTS = "exported", "artifacts-of-somebody"


def export(directory: Path, out: Path, **chosen: Any) -> dict[str, Any]:
    """The template of an export for CloudFormation."""
    settings = Settings(**{"region": REGION, "python": PYTHON, "concurrency": None, **chosen})
    lamella.export(directory, out, format="cloudformation", settings=settings, name=NAME, memory_mb=1769)
    found: dict[str, Any] = json.loads((out / "template.json").read_text())
    return found


@contextmanager
def uploaded(folder: Path, *prefixes: str) -> Iterator[None]:
    """What `README.md` says: the folders, with the names that they have, in a bucket that was there before."""
    s3 = client("s3")
    s3.create_bucket(Bucket=ARTIFACTS)
    try:
        for path in (path for prefix in prefixes for path in (folder / prefix).iterdir()):
            s3.upload_file(str(path), ARTIFACTS, str(path.relative_to(folder)))
        yield
    finally:
        for key in keys(ARTIFACTS):
            s3.delete_object(Bucket=ARTIFACTS, Key=key)
        s3.delete_bucket(Bucket=ARTIFACTS)


@contextmanager
def stack(template: dict[str, Any], **parameters: str) -> Iterator[dict[str, str]]:
    """Its outputs."""
    cloudformation, known = client("cloudformation"), {"StackName": f"lamella-{NAME}-dev"}
    cloudformation.create_stack(
        **known,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    wait = {"Delay": 1, "MaxAttempts": 120}
    outputs: dict[str, str] = {}
    try:
        cloudformation.get_waiter("stack_create_complete").wait(**known, WaiterConfig=wait)
        (found,) = cloudformation.describe_stacks(**known)["Stacks"]
        outputs |= {entry["OutputKey"]: entry["OutputValue"] for entry in found["Outputs"]}
        yield outputs
    finally:
        for key in keys(outputs["Bucket"]) if outputs else ():  # whoever deletes the stack empties its bucket
            client("s3").delete_object(Bucket=outputs["Bucket"], Key=key)
        cloudformation.delete_stack(**known)
        cloudformation.get_waiter("stack_delete_complete").wait(**known, WaiterConfig=wait)
    assert everything(NAME) == []


@pytest.mark.parametrize(("delivery", "slices"), [("package", 2), ("object-store", 1)])
def test_a_stack_of_an_export_answers_at_its_url(aws: str, tmp_path: Path, delivery: str, slices: int) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", slices)
    template = export(directory, tmp_path / "out", delivery=delivery, function_url=True, asynchronous=True)
    folders = ["packages", "weights"] if delivery == "object-store" else ["packages"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == folders
    with uploaded(tmp_path / "out", *folders), stack(template, ArtifactBucket=ARTIFACTS) as outputs:
        deployed = Deployed(directory, outputs, aws)
        status, answer = deployed.ask("POST", "/v2/models/model/infer", body(X))
        assert status == 200, answer
        assert_right(answer, deployed, X)
        assert keys(outputs["Bucket"]) == [], "all that functions are made of is in the other bucket"
        assert target().status() == []
        with pytest.raises(UsageError, match="somebody else made it"):
            target().apply(wanted(NAME, directory))


def test_images_that_skopeo_copies_have_the_digests_that_the_template_asks_for(tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 2)
    bare: dict[str, Any] = {"format": "oci", "base_image": "none", "architecture": "x86_64", "python": PYTHON}
    lamella.package(sliced(models.mlp(tmp_path / "base.onnx"), tmp_path / "below", 1), tmp_path / "base", **bare)
    template = export(directory, tmp_path / "out", delivery="image", base_image=str(tmp_path / "base"))
    digests = {entry["Default"] for entry in template["Parameters"].values() if "Default" in entry}
    lines = (tmp_path / "out/README.md").read_text().splitlines()
    commands = [line for line in lines if line.startswith("$ skopeo copy ")]
    found = set()
    with registries.registry(tmp_path / "server") as server:
        for command in commands:
            here = command.replace("oci:", f"oci:{tmp_path / 'out'}/")
            *arguments, place = here.replace("$REPOSITORY", f"{server.address}/{NAME}").split()[2:]
            skopeo(*arguments, "--dest-tls-verify=false", place)
            found.add(json.loads(skopeo("inspect", "--tls-verify=false", place))["Digest"])
    assert len(found) == 2
    assert found == digests
