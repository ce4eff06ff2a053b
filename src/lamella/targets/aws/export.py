"""A deployment as a folder for other tools, as texts by file name.

All three make the very stack that `lamella deploy --target aws` makes, of the same template: a second description of
the same resources, in another tool's words, would differ sooner or later. What functions are made of is brought before
the stack is made, and parameters say where it is (`outside`). The stack itself has none of Lamella's tags: by these
`lamella` knows the stacks that it may change.

- `cloudformation`: the template.
- `terraform`: what people with Terraform do with somebody else's stack: files and the stack are resources
  (`aws_s3_object`, `aws_cloudformation_stack`), so that plan, outputs, tags and destroy are Terraform's, and what is in
  the stack is CloudFormation's.
- `cdk`: a Python app that includes the template (`CfnInclude`); files are assets, and each resource can be changed.
"""

from __future__ import annotations

import json
from typing import Literal

from lamella.targets.aws.export_cdk import app
from lamella.targets.aws.export_readme import readme
from lamella.targets.aws.export_terraform import terraform
from lamella.targets.aws.intrinsics import Json
from lamella.targets.aws.naming import Names
from lamella.targets.aws.outside import from_outside
from lamella.targets.aws.release import Release
from lamella.targets.aws.settings import Settings

Format = Literal["cloudformation", "terraform", "cdk"]


def exported(kind: Format, names: Names, settings: Settings, release: Release, template: Json) -> dict[str, str]:
    """The files beside packages, weights and images.

    Args:
        kind: Which tool they are for.
        names: Of the deployment.
        settings: Its settings.
        release: What is exported.
        template: The whole template of that release.
    """
    found = from_outside(template, release, flat=kind == "cdk")
    files = {"template.json": _text(found.template), "README.md": readme(kind, names, found)}
    if kind == "terraform":
        files["main.tf.json"] = _text(terraform(names, settings, found))
    if kind == "cdk":
        files |= {"app.py": app(names, settings, found), "cdk.json": _text({"app": "python3 app.py"})}
        files["requirements.txt"] = "aws-cdk-lib>=2.270,<3\n"
    return files


def _text(found: Json) -> str:
    return json.dumps(found, indent=1) + "\n"
