"""What other tools say of the stacks, where installing them takes longer than all tests: `make aws`.

checkov looks at every golden template; what it may complain of is excused in the template, with the reason. The CDK
synthesises an export, which must be the exported template but for where packages lie. Needs node, for the CDK.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from tests.aws_stacks import NAMES, chain, settings, stack

from lamella.targets.aws.export import exported, package_keys

GOLDEN = Path(__file__).parent / "golden" / "aws"


def checkov(tools: Path) -> None:
    """No check fails."""
    command = [
        tools / "checkov/bin/checkov",
        "--framework",
        "cloudformation",
        "--directory",
        GOLDEN,
        "--output",
        "json",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = json.loads(result.stdout)["summary"]
    print(f"checkov: {summary['passed']} passed, {summary['failed']} failed, {summary['skipped']} excused")  # noqa: T201
    if summary["failed"] or not summary["passed"]:
        sys.exit(result.stdout)


def cdk(tools: Path, folder: Path) -> None:
    """The app synthesises the same resources, with assets for packages."""
    template: dict[str, Any] = stack(settings(), chain(2))
    for name, text in exported("cdk", NAMES, template, NAMES.tags({})).items():
        (folder / name).write_text(text)
    for key in package_keys(template).values():
        (folder / key).parent.mkdir(exist_ok=True)
        with ZipFile(folder / key, "w") as package:
            package.writestr("key", key)
    environment = {**os.environ, "CDK_OUTDIR": str(folder / "out")}
    command = [(tools / "cdk/bin/python").absolute(), "app.py"]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    made = json.loads((folder / "out" / f"{NAMES.stack}.template.json").read_text())
    assets = json.loads((folder / "out" / f"{NAMES.stack}.assets.json").read_text())["files"]
    codes = [made["Resources"][name]["Properties"].pop("Code") for name in package_keys(template)]
    if not {code["S3Key"].removesuffix(".zip") for code in codes} <= set(assets):
        sys.exit("cdk: a package is no asset")
    for name in package_keys(template):
        template["Resources"][name]["Properties"].pop("Code")
    if made["Resources"] != template["Resources"] or made["Outputs"] != template["Outputs"]:
        sys.exit("cdk: the synthesised template differs from the exported one")
    print(f"cdk: {len(made['Resources'])} resources, {len(codes)} packages as assets")  # noqa: T201


if __name__ == "__main__":
    checkov(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as made:
        cdk(Path(sys.argv[1]), Path(made))
