"""What a call must be allowed on AWS, as the Service Authorization Reference has it.

https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.emulated_aws.policies import Asked
from tests.emulated_aws.server import ACCOUNT, REGION

_PLACE = f"{REGION}:{ACCOUNT}"


@dataclass(frozen=True)
class Call:
    """A call as `localstack_calls.py` writes it down.

    Attributes:
        key: Access key of who called.
        service: As boto3 calls it.
        operation: As AWS calls it.
        parameters: As AWS calls them.
        answer: Of what other calls need to be understood.
        status: HTTP's.
    """

    key: str
    service: str
    operation: str
    parameters: dict[str, Any]
    answer: dict[str, Any]
    status: int


def needed(call: Call) -> list[Asked]:
    """What the caller must be allowed.

    Raises:
        KeyError: Nobody has said so for this service.
    """
    return list(_SERVICES[call.service](call.operation, call.parameters))


_S3 = {  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectVersions": "ListBucketVersions",
    "ListObjectsV2": "ListBucket",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "UploadPart": "PutObject",
}


def _s3(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    if given["Bucket"] == "file-systems":  # LocalStack has no S3 Files, and takes this path for an object's
        yield Asked("s3files:GetFileSystem", given["Key"])
        return
    bucket = f"arn:aws:s3:::{given['Bucket']}"
    if operation == "DeleteObjects":
        for entry in given["Delete"]["Objects"]:
            action = "DeleteObjectVersion" if entry.get("VersionId") else "DeleteObject"
            yield Asked(f"s3:{action}", f"{bucket}/{entry['Key']}")
        return
    resource = f"{bucket}/{given['Key']}" if "Key" in given else bucket
    yield Asked(f"s3:{_S3.get(operation, operation)}", resource, _context("s3:prefix", given.get("Prefix")))


def _lambda(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    if operation == "GetAccountSettings":
        yield Asked("lambda:GetAccountSettings")
        return
    name = str(given.get("FunctionName", ""))
    function = name if name.startswith("arn:") else f"arn:aws:lambda:{_PLACE}:function:{name}"
    if "EventSourceMapping" in operation:
        mapping = f"arn:aws:lambda:{_PLACE}:event-source-mapping:{given.get('UUID', '*')}"
        yield Asked(f"lambda:{operation}", mapping, _context("lambda:FunctionArn", function if name else None))
        return
    if given.get("Qualifier") and operation == "DeleteFunction":
        function = f"{function}:{given['Qualifier']}"
    yield Asked(f"lambda:{'InvokeFunction' if operation == 'Invoke' else operation}", function)
    if operation == "CreateFunction":
        yield _passed(given["Role"], "lambda.amazonaws.com")
    yield from _code(given.get("Code") or given)
    if given.get("VpcConfig", {}).get("SubnetIds"):
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html (required permissions)
        yield from (Asked(f"ec2:Describe{each}") for each in ("SecurityGroups", "Subnets", "Vpcs"))
    if given.get("Tags"):
        yield Asked("lambda:TagResource", function)


def _code(given: dict[str, Any]) -> Iterator[Asked]:
    """Of an object, an image, or no further place: then it is in the call itself.

    https://docs.aws.amazon.com/lambda/latest/dg/images-create.html (Amazon ECR permissions)
    """
    if given.get("S3Key"):
        yield Asked("s3:GetObject", f"arn:aws:s3:::{given['S3Bucket']}/{given['S3Key']}")
    if given.get("ImageUri"):
        image = _repository(given["ImageUri"].partition("/")[2].partition("@")[0])
        read = ("BatchGetImage", "GetDownloadUrlForLayer", "GetRepositoryPolicy", "SetRepositoryPolicy")
        yield from (Asked(f"ecr:{each}", image) for each in read)


def _repository(name: str) -> str:
    return f"arn:aws:ecr:{_PLACE}:repository/{name}"


def _ecr(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    names = given.get("repositoryNames") or [given["repositoryName"]] if given else []
    yield from (Asked(f"ecr:{operation}", _repository(name)) for name in names)
    if not names:
        yield Asked(f"ecr:{operation}")


_IMAGES = {  # https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
    ("HEAD", "manifests"): ("BatchGetImage",),
    ("GET", "manifests"): ("BatchGetImage",),
    ("PUT", "manifests"): ("PutImage",),
    ("HEAD", "blobs"): ("BatchCheckLayerAvailability",),
    ("GET", "blobs"): ("GetDownloadUrlForLayer",),
    ("POST", "blobs/uploads"): ("InitiateLayerUpload",),
    ("PATCH", "blobs/uploads"): ("UploadLayerPart",),
    ("PUT", "blobs/uploads"): ("UploadLayerPart", "CompleteLayerUpload"),
}


def asked_of_registry(log: str) -> list[Asked]:
    """What Amazon ECR would have asked about Lamella's requests to the registry.

    Args:
        log: In which the registry has written each.
    """
    found = re.findall(r'"([A-Z]+) /v2/(\S+?)/(manifests|blobs/uploads|blobs)/\S* HTTP/1.1" .* "lamella"', log)
    return [Asked(f"ecr:{each}", _repository(name)) for how, name, what in found for each in _IMAGES[how, what]]


def _ec2(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    yield Asked(f"ec2:{operation}")
    if given.get("TagSpecifications"):
        yield Asked("ec2:CreateTags")


def _efs(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    yield Asked(f"elasticfilesystem:{operation}")
    if given.get("Tags"):
        yield Asked("elasticfilesystem:TagResource")


def _states(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    own = f"arn:aws:states:{_PLACE}:stateMachine:{given.get('name')}"
    yield Asked(f"states:{operation}", given.get("stateMachineArn") or given.get("executionArn") or own)
    if given.get("roleArn"):
        yield _passed(given["roleArn"], "states.amazonaws.com")
    if given.get("tags"):
        yield Asked("states:TagResource", own)


def _scheduler(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    yield Asked(f"scheduler:{operation}", f"arn:aws:scheduler:{_PLACE}:schedule/default/{given['Name']}")
    if given.get("Target"):
        yield _passed(given["Target"]["RoleArn"], "scheduler.amazonaws.com")


def _iam(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    role = f"arn:aws:iam::{ACCOUNT}:role/{given['RoleName']}"
    yield Asked(f"iam:{operation}", role)
    if given.get("Tags"):
        yield Asked("iam:TagRole", role)


def _logs(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    """Deleting and reading concern a group, writing a stream of it; all of these ARNs begin alike."""
    if operation == "DescribeLogGroups":
        yield Asked("logs:DescribeLogGroups")
        return
    stream = f"log-stream:{given['logStreamName']}" if "logStreamName" in given else "*"
    group = f"arn:aws:logs:{_PLACE}:log-group:{given['logGroupName']}"
    yield Asked(f"logs:{operation}", f"{group}:{stream}")
    if given.get("tags"):
        yield Asked("logs:TagResource", group)


def _sqs(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    name = given.get("QueueName") or given["QueueUrl"].rpartition("/")[2]
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    yield Asked(f"sqs:{operation.removesuffix('Batch')}", f"arn:aws:sqs:{_PLACE}:{name}")
    if given.get("tags"):
        yield Asked("sqs:TagQueue", f"arn:aws:sqs:{_PLACE}:{name}")


def _cloudformation(operation: str, given: dict[str, Any]) -> Iterator[Asked]:
    """A change set is its stack's; who asks for all stacks must be allowed both, on all of them.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html
    """
    name = given.get("StackName")
    if operation == "DescribeStacks" and not name:
        yield Asked("cloudformation:ListStacks")
    stack = name if name and name.startswith("arn:") else f"arn:aws:cloudformation:{_PLACE}:stack/{name or '*'}/id"
    yield Asked(f"cloudformation:{operation}", stack)
    if given.get("Tags"):
        yield Asked("cloudformation:TagResource", stack)


_SERVICES: dict[str, Callable[[str, dict[str, Any]], Iterator[Asked]]] = {
    "cloudformation": _cloudformation,
    "ec2": _ec2,
    "ecr": _ecr,
    "efs": _efs,
    "iam": _iam,
    "lambda": _lambda,
    "logs": _logs,
    "s3": _s3,
    "scheduler": _scheduler,
    "service-quotas": lambda operation, _: iter([Asked(f"servicequotas:{operation}")]),
    "sqs": _sqs,
    "stepfunctions": _states,
    "sts": lambda operation, _: iter([Asked(f"sts:{operation}")]),
}


def _passed(role: str, service: str) -> Asked:
    return Asked("iam:PassRole", role, {"iam:PassedToService": (service,)})


def _context(key: str, value: str | None) -> dict[str, tuple[str, ...]]:
    return {} if value is None else {key: (value,)}
