"""Exports: what other tools read refers only to what is there."""

import ast
import json
import re
from typing import Any

from tests.aws_stacks import NAMES, chain, of_type, settings, stack

from lamella.targets.aws.export import exported, package_keys, with_artifact_bucket

FOUND = stack(settings(), chain(2))
TAGS = {"lamella:deployment": "bert"}


def test_packages_of_a_template_for_cloudformation_come_from_a_bucket_that_is_a_parameter() -> None:
    found: dict[str, Any] = with_artifact_bucket(FOUND)
    assert list(found["Parameters"]) == ["ArtifactBucket"]
    codes = [entry["Code"] for entry in of_type(found, "Lambda::Function").values()]
    assert [code["S3Bucket"] for code in codes] == [{"Ref": "ArtifactBucket"}] * 2
    assert FOUND["Resources"][next(iter(package_keys(FOUND)))]["Properties"]["Code"]["S3Bucket"] == {"Ref": "Bucket"}


def test_addresses_in_a_terraform_file_are_of_its_own_resources() -> None:
    files = exported("terraform", NAMES, FOUND, TAGS)
    main = json.loads(files["main.tf.json"])
    there = {f"{kind}.{name}" for kind, entries in main["resource"].items() for name in entries}
    named = set(re.findall(r"\baws_\w+\.\w+", json.dumps(main)))
    assert named <= there
    assert {"aws_s3_object.packages", "aws_cloudformation_stack.deployment"} <= there
    stack = main["resource"]["aws_cloudformation_stack"]["deployment"]
    assert set(stack["parameters"]) == set(json.loads(files["template.json"])["Parameters"])
    assert len(main["resource"]["aws_s3_bucket"]["artifacts"]["bucket_prefix"]) <= 37


def test_a_cdk_app_is_python_and_names_every_package() -> None:
    files = exported("cdk", NAMES, FOUND, TAGS)
    tree = ast.parse(files["app.py"])
    [packages] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PACKAGES"
    ]
    assert packages == package_keys(FOUND)
    assert json.loads(files["cdk.json"]) == {"app": "python3 app.py"}
