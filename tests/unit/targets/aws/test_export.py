"""Exports: what other tools read refers only to what is there."""

import ast
import json
import re
from typing import Any

import pytest
from tests.aws_stacks import DELIVERIES, DOORS, NAMES, chain, of_type, release, settings

from lamella.targets.aws.export import Format, exported
from lamella.targets.aws.outside import from_outside
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.template import published, template

EXPORTED = ("package", "object-store", "image")


def parts(chosen: Settings, slices: int = 2) -> tuple[Any, ...]:
    made = published(NAMES, chosen, release(chosen, chain(slices)))
    return made, template(NAMES, chosen, [made], live=1)


def files(kind: Format, chosen: Settings, slices: int = 2) -> dict[str, str]:
    return exported(kind, NAMES, chosen, *parts(chosen, slices))


def references(found: Any) -> set[str]:
    """Every name that a template refers to, parameters and pseudo parameters included."""
    if isinstance(found, list):
        return set().union(*map(references, found))
    if not isinstance(found, dict):
        return set()
    named = {found["Ref"]} if isinstance(found.get("Ref"), str) else set()
    if "Fn::GetAtt" in found:
        named.add(found["Fn::GetAtt"][0])
    if isinstance(found.get("Fn::Sub"), str):
        named |= {name.partition(".")[0] for name in re.findall(r"\$\{([A-Za-z0-9:.]+)\}", found["Fn::Sub"])}
    return named.union(*map(references, found.values()))


@pytest.mark.parametrize("delivery", EXPORTED)
@pytest.mark.parametrize("slices", [1, 2])
def test_a_template_refers_to_its_own_parameters_and_resources_only(delivery: str, slices: int) -> None:
    chosen = settings(**DOORS, **DELIVERIES[delivery])
    found: dict[str, Any] = from_outside(parts(chosen, slices)[1], parts(chosen, slices)[0]).template
    named = {name for name in references([found["Resources"], found["Outputs"]]) if not name.startswith("AWS::")}
    assert named <= found["Resources"].keys() | found["Parameters"].keys()
    assert found["Parameters"].keys() <= named
    assert {"HttpApi", "FunctionUrl", "Queue", "Budget"} <= found["Resources"].keys()
    assert not {"Repository"} & found["Resources"].keys()


def test_packages_and_weights_come_from_a_bucket_that_is_a_parameter() -> None:
    chosen = settings(delivery="object-store")
    made, whole = parts(chosen)
    found: Any = from_outside(whole, made).template
    bucket = {"Ref": "ArtifactBucket"}
    for function in made.functions:
        (properties,) = (
            each for each in of_type(found, "Lambda::Function").values() if each["FunctionName"] == function.name
        )
        assert properties["Code"] == {"S3Bucket": bucket, "S3Key": function.code.key}
        place = properties["Environment"]["Variables"]["LAMELLA_WEIGHTS"]
        assert place == {"Fn::Join": ["", ["s3://", bucket, "/weights"]]}
        role = found["Resources"][properties["Role"]["Fn::GetAtt"][0]]["Properties"]
        statements = {each["Sid"]: each for each in role["Policies"][0]["PolicyDocument"]["Statement"]}
        (allowed,) = statements["Weights"]["Resource"]
        assert allowed["Fn::Join"][1][-2:] == [bucket, f"/{function.weights[0]}"]
    assert whole == parts(chosen)[1], "the template that was given is as it was"


def test_images_are_taken_by_digests_that_are_parameters() -> None:
    chosen = settings(delivery="image")
    made, whole = parts(chosen)
    outside = from_outside(whole, made)
    found: Any = outside.template
    assert (outside.folders, outside.images) == ((), ("bert-slice-0", "bert-slice-1"))
    for properties in of_type(found, "Lambda::Function").values():
        repository, at, digest = properties["Code"]["ImageUri"]["Fn::Join"][1]
        assert (repository, at) == ({"Ref": "ImageRepository"}, "@")
        assert found["Parameters"][digest["Ref"]]["Default"].startswith("sha256:")
    assert "Repository" not in found["Outputs"]


@pytest.mark.parametrize("delivery", EXPORTED)
def test_addresses_in_a_terraform_file_are_of_its_own_resources(delivery: str) -> None:
    found = files("terraform", settings(function_url=True, **DELIVERIES[delivery]))
    main = json.loads(found["main.tf.json"])
    there = {f"{kind}.{name}" for kind, entries in main["resource"].items() for name in entries}
    named = set(re.findall(r"\baws_\w+\.\w+", json.dumps(main)))
    assert named <= there
    assert {"aws_s3_object.packages", "aws_cloudformation_stack.deployment"} <= there
    assert ("aws_s3_object.weights" in there) == (delivery == "object-store")
    stack = main["resource"]["aws_cloudformation_stack"]["deployment"]
    needed = {name for name, one in json.loads(found["template.json"])["Parameters"].items() if "Default" not in one}
    assert set(stack["parameters"]) == needed
    kept = [entry["lifecycle"]["create_before_destroy"] for entry in main["resource"]["aws_s3_object"].values()]
    assert all(kept), "functions use what they are made of until they are changed"
    assert stack["tags"] == {}, "by Lamella's own tags it would take the stack for one of its own"
    assert len(main["resource"]["aws_s3_bucket"]["artifacts"]["bucket_prefix"]) <= 37


@pytest.mark.parametrize("delivery", EXPORTED)
def test_a_cdk_app_is_python_and_its_keys_are_names_of_files(delivery: str) -> None:
    found = files("cdk", settings(function_url=True, tags={"team": "a"}, **DELIVERIES[delivery]))
    tree = ast.parse(found["app.py"])
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("FOLDERS", "TAGS")
    }
    folders = ["packages", "weights"] if delivery == "object-store" else ["packages"]
    assert constants == {"FOLDERS": folders, "TAGS": {"team": "a"}}, (
        "none of Lamella's: it would take the stack for its own"
    )
    codes = [each["Code"] for each in of_type(json.loads(found["template.json"]), "Lambda::Function").values()]
    assert [code["S3Key"] for code in codes if "S3Key" in code and "/" in code["S3Key"]] == []
    assert json.loads(found["cdk.json"]) == {"app": "python3 app.py"}


@pytest.mark.parametrize("kind", ["cloudformation", "terraform", "cdk"])
def test_the_way_to_push_images_is_told(kind: Format) -> None:
    text = files(kind, settings(delivery="image"))["README.md"]
    assert "skopeo copy --preserve-digests oci:images:bert-slice-1 docker://$REPOSITORY:bert-slice-1" in text
    assert "skopeo" not in files(kind, settings())["README.md"]
