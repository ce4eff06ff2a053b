"""A deployment for Terraform, in JSON, which it reads as it is.

https://developer.hashicorp.com/terraform/language/syntax/json
"""

from __future__ import annotations

from collections.abc import Mapping

from lamella.targets.aws.intrinsics import Json
from lamella.targets.aws.naming import Names, shortened
from lamella.targets.aws.outside import BUCKET, REPOSITORY, Outside
from lamella.targets.aws.settings import Settings

_BUCKET = "${aws_s3_bucket.artifacts.id}"
_TEMPLATE = "${path.module}/template.json"
_LAST: Json = {"create_before_destroy": True}
"""What is not needed any more goes once the stack is changed: until then functions use it, and may be taken back."""

_LONGEST_BUCKET_PREFIX = 37  # https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/s3_bucket


def terraform(names: Names, settings: Settings, found: Outside) -> Json:
    """Files in a bucket, a repository for images, and the stack.

    Args:
        names: Of the deployment.
        settings: Its settings.
        found: What is exported.
    """
    tags = names.tags(dict(settings.tags))
    resources: dict[str, Json] = {
        **_bucket(names, tags),
        "aws_s3_object": {"template": _template(), **{folder: _files(folder) for folder in found.folders}},
        "aws_cloudformation_stack": {"deployment": _stack(names, settings, found)},
    }
    if found.images:
        resources["aws_ecr_repository"] = {"images": _repository(names, tags)}
    return {
        "terraform": {
            "required_version": ">= 1.5",
            "required_providers": {"aws": {"source": "hashicorp/aws", "version": ">= 5.0"}},
        },
        "provider": {"aws": {"region": names.region}},
        "resource": resources,
        "output": {"deployment": {"value": "${aws_cloudformation_stack.deployment.outputs}"}},
    }


def _bucket(names: Names, tags: Mapping[str, str]) -> dict[str, Json]:
    prefix = f"{shortened(names.stack, _LONGEST_BUCKET_PREFIX - 1)}-"
    closed = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    return {
        "aws_s3_bucket": {"artifacts": {"bucket_prefix": prefix, "force_destroy": True, "tags": dict(tags)}},
        "aws_s3_bucket_public_access_block": {"artifacts": {"bucket": _BUCKET, **dict.fromkeys(closed, True)}},
    }


def _files(folder: str) -> Json:
    """All of a folder, each called by its digest: another content is another object."""
    return {
        "for_each": f'${{fileset("${{path.module}}/{folder}", "*")}}',
        "bucket": _BUCKET,
        "key": f"{folder}/${{each.value}}",
        "source": f"${{path.module}}/{folder}/${{each.value}}",
        "lifecycle": _LAST,
    }


def _template() -> Json:
    """It may be larger than what is sent along; another template has another URL."""
    key = f'template-${{filesha256("{_TEMPLATE}")}}.json'
    return {"bucket": _BUCKET, "key": key, "source": _TEMPLATE, "lifecycle": _LAST}


def _repository(names: Names, tags: Mapping[str, str]) -> Json:
    return {
        "name": names.repository,
        "force_delete": True,
        "image_scanning_configuration": {"scan_on_push": True},
        "tags": dict(tags),
    }


def _stack(names: Names, settings: Settings, found: Outside) -> Json:
    """https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/cloudformation_stack."""
    parameters: Json = {BUCKET: _BUCKET} if found.folders else {}
    if found.images:
        parameters[REPOSITORY] = "${aws_ecr_repository.images.repository_url}"
    return {
        "name": names.stack,
        "template_url": "https://${aws_s3_bucket.artifacts.bucket_regional_domain_name}/${aws_s3_object.template.key}",
        "parameters": parameters,
        "capabilities": ["CAPABILITY_NAMED_IAM"],
        "on_failure": "DELETE",
        "tags": dict(settings.tags),
        "depends_on": [f"aws_s3_object.{folder}" for folder in found.folders],
    }
