"""What other tools say of the stacks, where installing them takes longer than all tests: `make aws`.

checkov looks at every golden template; what it may complain of is excused in the template, with the reason. The CDK
synthesises exports, whose templates must be the exported ones but for where files lie. HashiCorp's parser and the
schema of its AWS provider judge exports for Terraform. Needs node, for the CDK and for these.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.aws_stacks import DELIVERIES, DOORS, NAMES, chain, release, settings, side_by_side

from lamella.targets.aws.export import Format, exported
from lamella.targets.aws.release import Release
from lamella.targets.aws.settings import HttpApi, Settings
from lamella.targets.aws.template import published, template

GOLDEN = Path(__file__).parent / "golden" / "aws"
JUDGE = Path(__file__).with_name("terraform_schema.cjs")
JWT = HttpApi("jwt", "https://issuer.example", ("bert",))
ASSETS = f"cdk-hnb659fds-assets-${{AWS::AccountId}}-{NAMES.region}"
"""The bucket of the CDK. https://docs.aws.amazon.com/cdk/v2/guide/bootstrapping-customizing.html"""

EXPORTS = {
    "package": (settings(**DOORS), side_by_side()),
    "object-store": (settings(**DOORS, **DELIVERIES["object-store"]), chain(2)),
    "image": (settings(**DOORS, **DELIVERIES["image"]), chain(2)),
    "single": (settings(**{**DOORS, "http_api": JWT}, snap_start=True, delivery="object-store"), chain(1)),
    "warm": (settings(workflow="direct", function_url=True, provisioned_concurrency=1), chain(2)),
}
"""Every delivery, and every door."""

MISTAKES = (
    ("bucket_prefix", "bucket_prefiks"),
    ("aws_s3_object.template.key", "aws_s3_object.template.kye"),
    ('/packages\\", ', '/packages\\" '),
)
"""An argument, an attribute, and a comma that lacks: what must be noticed."""


def checkov(tools: Path) -> None:
    """No check fails."""
    command = [
        tools.absolute() / "checkov/bin/checkov",
        "--framework",
        "cloudformation",
        "--directory",
        ".",  # checkov takes a long path of its own for a secret
        "--output",
        "json",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=GOLDEN)
    summary = json.loads(result.stdout)["summary"]
    print(f"checkov: {summary['passed']} passed, {summary['failed']} failed, {summary['skipped']} excused")  # noqa: T201
    if summary["failed"] or not summary["passed"]:
        sys.exit(result.stdout)


def made_of(name: str) -> tuple[Settings, Release]:
    """An export's settings and release. Weights are no package: they have digests of their own."""
    chosen, model = EXPORTS[name]
    made = release(chosen, model)
    for function in made.functions:
        weights = tuple(key.replace("/", "/f", 1)[:-1] for key in function.weights)
        made = made.with_function(replace(function, weights=weights))
    return chosen, published(NAMES, chosen, made)


def written(kind: Format, chosen: Settings, made: Release, folder: Path) -> dict[str, str]:
    """An export in a folder, with files that stand for its packages and weights."""
    files = exported(kind, NAMES, chosen, made, template(NAMES, chosen, [made], live=1))
    keys = [function.code.key for function in made.functions if hasattr(function.code, "key")]
    for key in (*keys, *(key for function in made.functions for key in function.weights)):
        (folder / key).parent.mkdir(exist_ok=True)
        (folder / key).write_text(key)
    for name, text in files.items():
        (folder / name).write_text(text)
    return files


def cdk(tools: Path, name: str, folder: Path) -> None:
    """The app synthesises the same resources, with assets for packages and weights."""
    chosen, made = made_of(name)
    wanted = from_assets(json.loads(written("cdk", chosen, made, folder)["template.json"]))
    environment = {
        **os.environ,
        "CDK_OUTDIR": str(folder / "out"),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
    }
    command = [(tools / "cdk/bin/python").absolute(), "app.py"]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    found = json.loads((folder / "out" / f"{NAMES.stack}.template.json").read_text())
    wanted["Parameters"].pop("ArtifactBucket", None)
    found["Parameters"].pop("BootstrapVersion")
    for part in ("Parameters", "Resources", "Outputs"):
        if found.get(part, {}) != wanted[part]:
            sys.exit(f"cdk: {part} of `{name}` differ from the exported ones")
    assets = json.loads((folder / "out" / f"{NAMES.stack}.assets.json").read_text())["files"].values()
    there = {
        place["objectKey"]: (folder / "out" / asset["source"]["path"]).read_text()
        for asset in assets
        for place in asset["destinations"].values()
        if place["bucketName"] == ASSETS
    }
    files = {path.name: path.read_text() for part in ("packages", "weights") for path in (folder / part).glob("*")}
    if not files.items() <= there.items():
        sys.exit(f"cdk: a file of `{name}` is no asset")
    print(f"cdk: {name}: {len(found['Resources'])} resources, {len(files)} files as assets")  # noqa: T201


def from_assets(found: Any) -> Any:
    """A template whose bucket of artifacts is that of the CDK."""
    if found == {"Ref": "ArtifactBucket"}:
        return {"Fn::Sub": ASSETS}
    if isinstance(found, dict):
        return {key: from_assets(value) for key, value in found.items()}
    return [from_assets(value) for value in found] if isinstance(found, list) else found


def terraform(tools: Path, name: str, folder: Path) -> None:
    """Each argument is one of the provider's, and one that is none is noticed."""
    chosen, made = made_of(name)
    text = written("terraform", chosen, made, folder)["main.tf.json"]
    said = judged(tools, folder / "main.tf.json")
    if said.returncode:
        sys.exit(f"terraform: {name}: {said.stdout}{said.stderr}")
    for right, wrong in MISTAKES:
        (folder / "main.tf.json").write_text(text.replace(right, wrong))
        if right not in text or not judged(tools, folder / "main.tf.json").returncode:
            sys.exit(f"terraform: nobody noticed `{wrong}`")
    print(f"terraform: {name}: {said.stdout.strip()} resources as the provider's schema has them")  # noqa: T201


def judged(tools: Path, file: Path) -> "subprocess.CompletedProcess[str]":
    """What the parser and the schema say of a file."""
    place = tools / "terraform"
    environment = {**os.environ, "NODE_PATH": str((place / "node_modules").absolute())}
    return subprocess.run(["node", JUDGE, file, place], env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    installed = Path(sys.argv[1])
    checkov(installed)
    for tool in (terraform, cdk):
        for export in EXPORTS:
            with tempfile.TemporaryDirectory() as place:
                tool(installed, export, Path(place))
