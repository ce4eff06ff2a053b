"""A deployment as a folder for other tools, as texts by file name.

All three make the very stack that `lamella deploy --target aws` makes, of the same template: a second description of
the same resources, in another tool's words, would differ sooner or later.

- `cloudformation`: the template, with a parameter for the bucket that packages were copied to.
- `terraform`: what people with Terraform do with somebody else's stack: the packages and the stack are resources
  (`aws_s3_object`, `aws_cloudformation_stack`), so that plan, outputs, tags and destroy are Terraform's, and what is in
  the stack is CloudFormation's. In JSON, which Terraform reads as it is.
- `cdk`: a Python app that includes the template (`CfnInclude`); packages are assets, and each resource can be changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from lamella.targets.aws.intrinsics import Json, ref
from lamella.targets.aws.naming import Names, shortened

Format = Literal["cloudformation", "terraform", "cdk"]

PACKAGES = "packages"
"""The folder of zip files; their names are their keys."""

_TEMPLATE, _BUCKET_PARAMETER = "template.json", "ArtifactBucket"
_LONGEST_BUCKET_PREFIX = 37  # https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/s3_bucket


def exported(kind: Format, names: Names, template: Json, tags: Mapping[str, str]) -> dict[str, str]:
    """The files beside the packages.

    Args:
        kind: Which tool they are for.
        names: Of the deployment.
        template: The whole template.
        tags: The tags of the stack.
    """
    if kind == "cdk":
        return _cdk(names, template, tags)
    files = {_TEMPLATE: _text(with_artifact_bucket(template))}
    if kind == "terraform":
        return {
            **files,
            "main.tf.json": _text(terraform(names, tags)),
            "README.md": _TERRAFORM.format(stack=names.stack),
        }
    return {**files, "README.md": _CLOUDFORMATION.format(stack=names.stack, region=names.region)}


def package_keys(template: Json) -> dict[str, str]:
    """The key of the package of each function of a template that has one, by logical id."""
    return {name: str(code["S3Key"]) for name, code in _codes(template)}


def with_artifact_bucket(template: Json) -> Json:
    """The template, with packages in a bucket that is a parameter: its own does not exist before it."""
    copied: Json = json.loads(json.dumps(template))
    for _, code in _codes(copied):
        code["S3Bucket"] = ref(_BUCKET_PARAMETER)
    parameter = {"Type": "String", "Description": f"The bucket that the folder `{PACKAGES}` was copied to"}
    head = {key: copied[key] for key in ("AWSTemplateFormatVersion", "Description")}
    return {**head, "Parameters": {_BUCKET_PARAMETER: parameter}, **copied}


def terraform(names: Names, tags: Mapping[str, str]) -> Json:
    """The packages in a bucket, and the stack.

    https://developer.hashicorp.com/terraform/language/syntax/json
    https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/cloudformation_stack
    """
    bucket = "${aws_s3_bucket.artifacts.id}"
    template = f"${{path.module}}/{_TEMPLATE}"
    packages: Json = {
        "for_each": f'${{fileset("${{path.module}}/{PACKAGES}", "*.zip")}}',
        "bucket": bucket,
        "key": f"{PACKAGES}/${{each.value}}",
        "source": f"${{path.module}}/{PACKAGES}/${{each.value}}",
    }
    described: Json = {
        "bucket": bucket,
        "key": f'template-${{filesha256("{template}")}}.json',  # another template has another URL
        "source": template,
    }
    stack: Json = {
        "name": names.stack,
        "template_url": "https://${aws_s3_bucket.artifacts.bucket_regional_domain_name}/${aws_s3_object.template.key}",
        "parameters": {_BUCKET_PARAMETER: bucket},
        "capabilities": ["CAPABILITY_NAMED_IAM"],
        "on_failure": "DELETE",
        "tags": dict(tags),
        "depends_on": ["aws_s3_object.packages"],
    }
    prefix = f"{shortened(names.stack, _LONGEST_BUCKET_PREFIX - 1)}-"
    closed = dict.fromkeys(
        ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"), True
    )
    return {
        "terraform": {
            "required_version": ">= 1.5",
            "required_providers": {"aws": {"source": "hashicorp/aws", "version": ">= 5.0"}},
        },
        "provider": {"aws": {"region": names.region}},
        "resource": {
            "aws_s3_bucket": {"artifacts": {"bucket_prefix": prefix, "force_destroy": True, "tags": dict(tags)}},
            "aws_s3_bucket_public_access_block": {"artifacts": {"bucket": bucket, **closed}},
            "aws_s3_object": {"packages": packages, "template": described},
            "aws_cloudformation_stack": {"deployment": stack},
        },
        "output": {"deployment": {"value": "${aws_cloudformation_stack.deployment.outputs}"}},
    }


def _cdk(names: Names, template: Json, tags: Mapping[str, str]) -> dict[str, str]:
    """https://docs.aws.amazon.com/cdk/v2/guide/use-cfn-template.html."""
    packages = package_keys(template)
    app = _APP.format(
        stack=names.stack,
        region=names.region,
        packages=json.dumps(packages, indent=4),
        tags=json.dumps(dict(tags), indent=4),
    )
    return {
        _TEMPLATE: _text(template),
        "app.py": app,
        "cdk.json": _text({"app": "python3 app.py"}),
        "requirements.txt": "aws-cdk-lib>=2.270,<3\n",
        "README.md": _CDK,
    }


def _codes(template: Json) -> list[tuple[str, Json]]:
    """Where each function's zip package is, by logical id."""
    resources = template["Resources"]
    found: list[tuple[str, Json]] = []
    if isinstance(resources, dict):
        for name, entry in resources.items():
            code = entry["Properties"].get("Code") if entry["Type"] == "AWS::Lambda::Function" else None
            if isinstance(code, dict) and "S3Key" in code:
                found.append((name, code))
    return found


def _text(found: Json) -> str:
    return json.dumps(found, indent=1) + "\n"


_APP = '''"""The deployment as a CDK app: Lamella's template, with its packages as assets."""

import aws_cdk as cdk
from aws_cdk import aws_lambda, aws_s3_assets
from aws_cdk.cloudformation_include import CfnInclude

PACKAGES = {packages}
TAGS = {tags}

app = cdk.App()
stack = cdk.Stack(app, "{stack}", stack_name="{stack}", env=cdk.Environment(region="{region}"), tags=TAGS)
included = CfnInclude(stack, "Lamella", template_file="template.json")
for name, path in PACKAGES.items():
    package = aws_s3_assets.Asset(stack, f"{{name}}Package", path=path)
    included.get_resource(name).code = aws_lambda.CfnFunction.CodeProperty(
        s3_bucket=package.s3_bucket_name, s3_key=package.s3_object_key
    )
app.synth()
'''

_CLOUDFORMATION = """# {stack}

```console
$ aws s3 sync packages s3://BUCKET/packages
$ aws cloudformation deploy --region {region} --stack-name {stack} --template-file template.json \\
    --s3-bucket BUCKET --parameter-overrides ArtifactBucket=BUCKET --capabilities CAPABILITY_NAMED_IAM
```

`BUCKET` is any bucket of yours in that region. Deleting the stack needs its own bucket to be empty.
"""

_TERRAFORM = """# {stack}

```console
$ terraform init
$ terraform apply
```

`terraform destroy` needs the stack's own bucket, which the output names, to be empty.
"""

_CDK = """# CDK app

```console
$ pip install -r requirements.txt
$ npx aws-cdk@2 deploy
```

In `app.py`, `included.get_resource(...)` gives any resource of the template, to change it. Destroying the stack needs
its own bucket to be empty.
"""
