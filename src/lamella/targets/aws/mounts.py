"""File systems that functions map weights from: Amazon EFS, filled by a function, or S3 Files, the bucket itself."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files

from lamella.errors import UsageError
from lamella.targets.aws.access import NETWORK_REASON, log_statement, network_statements
from lamella.targets.aws.intrinsics import (
    FUNCTION_REASONS,
    Json,
    Resources,
    att,
    excused,
    policy,
    ref,
    resource,
    role,
    statement,
    sub,
    tag_list,
)
from lamella.targets.aws.logs import log_group
from lamella.targets.aws.naming import Names
from lamella.targets.aws.network import MOUNT_GROUP, SUBNETS, network, vpc_config
from lamella.targets.aws.settings import MountKind, Settings
from lamella.targets.aws.storage import BUCKET, MOUNT_PREFIX, bucket_keys
from lamella.targets.base import Wanted, key_of

MOUNT_PATH = "/mnt/lamella"
"""Where functions see it. https://docs.aws.amazon.com/lambda/latest/api/API_FileSystemConfig.html"""

FILE_SYSTEM, ACCESS_POINT, LOADER = "FileSystem", "AccessPoint", "Loader"
MOUNT_TARGETS = ("MountTargetA", "MountTargetB")

_USER: Json = {"Uid": "1000", "Gid": "1000"}
_LOADER_MB, _LOADER_S = 1769, 900


def loader_code() -> str:
    """The loader's code, as CloudFormation carries it."""
    return files(__package__).joinpath("loader.py").read_text(encoding="utf-8")


def loader_digest() -> str:
    """What tells one loader's code from another's: an earlier Lamella's may want to be asked otherwise."""
    return sha256(loader_code().encode()).hexdigest()[:16]


def mount_resources(names: Names, settings: Settings) -> Resources:
    """Network, file system, and what fills it; nothing without a mount."""
    if settings.mount is None:
        return {}
    tags = names.tags(dict(settings.tags))
    made = _efs(names, settings) if settings.mount == "efs" else _s3_files(names, settings)
    return {**network(tags), **made}


def mounted(settings: Settings) -> Json:
    """What a function with the mount says in its properties.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-filesystem.html
    """
    arn = att(ACCESS_POINT, "Arn" if settings.mount == "efs" else "AccessPointArn")
    return {"FileSystemConfigs": [{"Arn": arn, "LocalMountPath": MOUNT_PATH}], "VpcConfig": vpc_config()}


def mount_statements(settings: Settings, *, writes: bool = False) -> list[Json]:
    """What lets a function mount it and read; with `writes`, write.

    https://docs.aws.amazon.com/efs/latest/ug/iam-access-control-nfs-efs.html
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-files-security-iam.html
    """
    if settings.mount == "efs":
        actions = ["elasticfilesystem:ClientMount", *(["elasticfilesystem:ClientWrite"] if writes else [])]
        through = {"StringEquals": {"elasticfilesystem:AccessPointArn": att(ACCESS_POINT, "Arn")}}
        return [statement("Mount", actions, att(FILE_SYSTEM, "Arn"), Condition=through)]
    through = {"StringEquals": {"s3files:AccessPointArn": att(ACCESS_POINT, "AccessPointArn")}}
    return [
        statement("Mount", ["s3files:ClientMount"], att(FILE_SYSTEM, "FileSystemArn"), Condition=through),
        # Large reads go to the bucket: https://docs.aws.amazon.com/lambda/latest/api/API_S3FilesConfig.html
        statement("DirectReads", ["s3:GetObject", "s3:GetObjectVersion"], bucket_keys(MOUNT_PREFIX)),
    ]


def _efs(names: Names, settings: Settings) -> Resources:
    tags = names.tags(dict(settings.tags))
    denied: Json = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    system: Json = {
        "Encrypted": True,
        "ThroughputMode": "elastic",
        "BackupPolicy": {"Status": "DISABLED"},  # everything on it can be copied there again
        "FileSystemPolicy": policy([denied]),
        "FileSystemTags": tag_list(tags),
    }
    owner: Json = {"OwnerUid": "1000", "OwnerGid": "1000", "Permissions": "0755"}
    point: Json = {
        "FileSystemId": ref(FILE_SYSTEM),
        "PosixUser": _USER,
        "RootDirectory": {"Path": "/lamella", "CreationInfo": owner},
        "AccessPointTags": tag_list(tags),
    }
    return {
        FILE_SYSTEM: resource("EFS::FileSystem", system, DeletionPolicy="Delete", UpdateReplacePolicy="Delete"),
        ACCESS_POINT: resource("EFS::AccessPoint", point),
        **_targets("EFS::MountTarget", ref(FILE_SYSTEM)),
        **_loader(names, settings),
    }


def _s3_files(names: Names, settings: Settings) -> Resources:
    """The folder `mount/` of the bucket as a file system.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-files-prereq-policies.html
    """
    tags = names.tags(dict(settings.tags))
    system: Json = {
        "Bucket": att(BUCKET, "Arn"),
        "Prefix": MOUNT_PREFIX,
        "RoleArn": att("FileSystemRole", "Arn"),
        "Tags": tag_list(tags),
    }
    point: Json = {"FileSystemId": att(FILE_SYSTEM, "FileSystemId"), "PosixUser": _USER, "Tags": tag_list(tags)}
    return {
        "FileSystemRole": role(
            names.role(names.part("mount")), "elasticfilesystem.amazonaws.com", _synchronizing(), tags
        ),
        FILE_SYSTEM: resource("S3Files::FileSystem", system, DeletionPolicy="Delete", UpdateReplacePolicy="Delete"),
        ACCESS_POINT: resource("S3Files::AccessPoint", point),
        **_targets("S3Files::MountTarget", att(FILE_SYSTEM, "FileSystemId")),
    }


def _synchronizing() -> list[Json]:
    """What S3 Files needs to keep bucket and file system the same: objects, and its own rule about them."""
    rules = sub("arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/DO-NOT-DELETE-S3-Files*")
    changes = ["DeleteRule", "DisableRule", "EnableRule", "PutRule", "PutTargets", "RemoveTargets"]
    reads = ["DescribeRule", "ListRuleNamesByTarget", "ListRules", "ListTargetsByRule"]
    managed = {"StringEquals": {"events:ManagedBy": "elasticfilesystem.amazonaws.com"}}
    objects = ["s3:AbortMultipartUpload", "s3:DeleteObject*", "s3:GetObject*", "s3:List*", "s3:PutObject*"]
    return [
        statement("Bucket", ["s3:ListBucket", "s3:ListBucketVersions"], att(BUCKET, "Arn")),
        statement("Objects", objects, bucket_keys(MOUNT_PREFIX)),
        statement("ManageRule", [f"events:{name}" for name in changes], rules, Condition=managed),
        statement(
            "ReadRules",
            [f"events:{name}" for name in reads],
            sub("arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/*"),
        ),
    ]


def _targets(kind: str, system: Json) -> Resources:
    groups = [att(MOUNT_GROUP, "GroupId")]
    return {
        target: resource(kind, {"FileSystemId": system, "SubnetId": ref(subnet), "SecurityGroups": groups})
        for target, subnet in zip(MOUNT_TARGETS, SUBNETS, strict=True)
    }


def _loader(names: Names, settings: Settings) -> Resources:
    """The one function that may write to the file system. Its code is `loader.py`, whole."""
    tags = names.tags(dict(settings.tags))
    statements = [
        log_statement("LoaderLogs"),
        statement("Read", ["s3:GetObject"], bucket_keys(MOUNT_PREFIX)),
        *mount_statements(settings, writes=True),
        *network_statements(names.loader),
    ]
    properties: Json = {
        "FunctionName": names.loader,
        "Description": "Lamella: copies files from the bucket to the file system",
        "Code": {"ZipFile": loader_code()},
        "Runtime": f"python{settings.python}",
        "Handler": "index.handle",
        "Architectures": [settings.architecture],
        "MemorySize": _LOADER_MB,
        "Timeout": _LOADER_S,
        "Role": att("LoaderRole", "Arn"),
        "Environment": {"Variables": {"BUCKET": ref(BUCKET), "MOUNT": MOUNT_PATH}},
        "LoggingConfig": {"LogGroup": ref("LoaderLogs")},
        "ReservedConcurrentExecutions": 1,
        **mounted(settings),
        "Tags": tag_list(tags),
    }
    if settings.concurrency is None:
        properties.pop("ReservedConcurrentExecutions")
    found = resource("Lambda::Function", properties, DependsOn=list(MOUNT_TARGETS))
    return {
        "LoaderLogs": log_group(f"/aws/lambda/{names.loader}", settings, tags),
        "LoaderRole": excused(
            role(names.role(names.loader), "lambda.amazonaws.com", statements, tags), CKV_AWS_111=NETWORK_REASON
        ),
        LOADER: excused(found, **FUNCTION_REASONS),
    }


def mount_of(outputs: Mapping[str, str]) -> MountKind | None:
    """The file system of a stack, by what the stack says."""
    if "FileSystem" not in outputs:
        return None
    return "efs" if "Loader" in outputs else "s3-files"


def check_mount(wanted: Wanted, settings: Settings, outputs: Mapping[str, str] | None) -> None:
    """Refuse a file system of another kind than that which the stack has.

    Raises:
        UsageError: It has one.
    """
    there = None if outputs is None else mount_of(outputs)
    if there is not None and settings.mount not in (None, there):
        raise UsageError(
            f"`{key_of(wanted.name, wanted.stage)}` has a file system of the kind `{there}`, for good",
            hint=f"say `--file-system {there}`, or deploy under another name or stage",
        )


def lacks_mount(settings: Settings, outputs: Mapping[str, str]) -> bool:
    """Whether a stack has no file system yet where one is wanted, or a loader of another Lamella's."""
    if settings.mount is None:
        return False
    if settings.mount == "efs" and outputs.get("LoaderDigest") != loader_digest():
        return True
    return mount_of(outputs) != settings.mount
