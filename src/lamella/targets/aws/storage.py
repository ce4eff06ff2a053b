"""Where a deployment's objects and images lie: a private bucket, and a repository with images."""

from __future__ import annotations

from collections.abc import Sequence

from lamella.targets.aws.intrinsics import Json, Resources, att, excused, policy, ref, resource, sub, tag_list
from lamella.targets.aws.naming import Names
from lamella.targets.aws.settings import Settings

BUCKET, REPOSITORY = "Bucket", "Repository"
"""Logical ids."""

MOUNT_PREFIX = "mount/"
"""Files that functions see on a mount: each folder below is called by the digest of what is in it."""

_PASSING = ("requests/", "results/")
_DAYS = 1


def storage(names: Names, settings: Settings, *, notifications: Json | None = None, images: bool = False) -> Resources:
    """The bucket and, with images, the repository.

    Args:
        names: Of the deployment.
        settings: Its settings.
        notifications: Whom the bucket tells of new objects.
        images: Whether a release that is kept has images, whatever settings say now.
    """
    found = {BUCKET: _bucket(names, settings, notifications), "BucketPolicy": _bucket_policy()}
    if images or settings.delivery == "image":
        found[REPOSITORY] = _repository(names, settings)
    return found


def bucket_arn(names: Names) -> Json:
    """The bucket's ARN without a reference to it, where that would be a circle.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html (resource types)
    """
    name = names.bucket if isinstance(names.bucket, str) else names.bucket["Fn::Sub"]
    return sub(f"arn:${{AWS::Partition}}:s3:::{name}")


def _bucket(names: Names, settings: Settings, notifications: Json | None) -> Json:
    """Encrypted, private, and what belongs to requests ends by itself.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-s3-bucket.html
    """
    properties: Json = {
        "BucketName": names.bucket,
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "LifecycleConfiguration": {"Rules": _lifecycle(versions=settings.mount == "s3-files")},
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "Tags": tag_list(names.tags(dict(settings.tags))),
    }
    reasons = {"CKV_AWS_18": "objects live for a request; AWS CloudTrail can record access where that is asked for"}
    if (
        settings.mount == "s3-files"
    ):  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-files-prereq-policies.html
        properties["VersioningConfiguration"] = {"Status": "Enabled"}
    else:
        reasons["CKV_AWS_21"] = (
            "packages and weights are named by their digest and never overwritten; the rest is passing"
        )
    more = {}
    if notifications is not None:
        properties["NotificationConfiguration"] = notifications
        more["DependsOn"] = ["QueuePolicy"]  # S3 tries the queue when it is told of it
    found = resource("S3::Bucket", properties, **more, DeletionPolicy="Delete", UpdateReplacePolicy="Delete")
    return excused(found, **reasons)


def _lifecycle(*, versions: bool) -> list[Json]:
    """What nobody removed after a request, and uploads that broke off.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-configuration-examples.html
    """
    rules: list[Json] = [
        {"Id": prefix.rstrip("/"), "Status": "Enabled", "Prefix": prefix, "ExpirationInDays": _DAYS}
        for prefix in _PASSING
    ]
    broken: Json = {"Id": "broken-uploads", "Status": "Enabled"}
    broken["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": _DAYS}
    if versions:
        broken["NoncurrentVersionExpiration"] = {"NoncurrentDays": _DAYS}
    return [*rules, broken]


def _bucket_policy() -> Json:
    """Nothing goes in or out unencrypted.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html (aws:SecureTransport)
    """
    denied: Json = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [att(BUCKET, "Arn"), sub("${Bucket.Arn}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return resource("S3::BucketPolicy", {"Bucket": ref(BUCKET), "PolicyDocument": policy([denied])})


def _repository(names: Names, settings: Settings) -> Json:
    """Images that are scanned and never change; one without a tag is of an upload that broke off.

    Functions keep reading the image that they were made of, so what is tagged stays.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_examples.html
    https://docs.aws.amazon.com/lambda/latest/dg/images-create.html (Amazon ECR permissions)
    """
    pull: Json = {
        "Sid": "LambdaPulls",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Condition": {
            "ArnLike": {
                "aws:SourceArn": sub("arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:*"),
            }
        },
    }
    properties: Json = {
        "RepositoryName": names.repository,
        "EmptyOnDelete": True,
        "EncryptionConfiguration": {"EncryptionType": "AES256"},
        "ImageScanningConfiguration": {"ScanOnPush": True},
        "ImageTagMutability": "IMMUTABLE",
        "LifecyclePolicy": {"LifecyclePolicyText": _UNTAGGED},
        "RepositoryPolicyText": policy([pull]),
        "Tags": tag_list(names.tags(dict(settings.tags))),
    }
    found = resource("ECR::Repository", properties, DeletionPolicy="Delete", UpdateReplacePolicy="Delete")
    return excused(
        found, CKV_AWS_136="AES-256 encrypts it; a key of one's own would cost 1 USD a month and add nothing"
    )


_UNTAGGED = (
    '{"rules":[{"rulePriority":1,"description":"uploads that broke off","selection":{"tagStatus":"untagged",'
    '"countType":"sinceImagePushed","countUnit":"days","countNumber":1},"action":{"type":"expire"}}]}'
)


def bucket_keys(*prefixes: str) -> Sequence[Json]:
    """ARNs of all objects under prefixes of the bucket."""
    return [sub(f"${{{BUCKET}.Arn}}/{prefix}*") for prefix in prefixes]
