"""What CloudFormation calls in the name of who deploys: AWS's own resource types say it, by handler.

https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html (handlers, permissions)
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.emulated_aws.server import localstack_python

_HANDLERS = ("create", "read", "update", "delete")

# https://docs.aws.amazon.com/efs/latest/ug/API_CreateMountTarget.html and its like: each mount target has one.
_INTERFACES = {
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:ModifyNetworkInterfaceAttribute",
}

NEWER: dict[str, set[str]] = {
    "AWS::EC2::SecurityGroup": {
        "ec2:AuthorizeSecurityGroupEgress",
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateSecurityGroup",
        "ec2:CreateTags",
        "ec2:DeleteSecurityGroup",
        "ec2:DeleteTags",
        "ec2:DescribeInstances",
        "ec2:DescribeSecurityGroups",
        "ec2:RevokeSecurityGroupEgress",
        "ec2:RevokeSecurityGroupIngress",
    },
    "AWS::EFS::AccessPoint": {
        "elasticfilesystem:CreateAccessPoint",
        "elasticfilesystem:DeleteAccessPoint",
        "elasticfilesystem:DescribeAccessPoints",
        "elasticfilesystem:ListTagsForResource",
        "elasticfilesystem:TagResource",
        "elasticfilesystem:UntagResource",
    },
    "AWS::EFS::FileSystem": {
        "elasticfilesystem:CreateFileSystem",
        "elasticfilesystem:CreateReplicationConfiguration",
        "elasticfilesystem:DeleteFileSystem",
        "elasticfilesystem:DeleteFileSystemPolicy",
        "elasticfilesystem:DeleteReplicationConfiguration",
        "elasticfilesystem:DeleteTags",
        "elasticfilesystem:DescribeBackupPolicy",
        "elasticfilesystem:DescribeFileSystemPolicy",
        "elasticfilesystem:DescribeFileSystems",
        "elasticfilesystem:DescribeLifecycleConfiguration",
        "elasticfilesystem:DescribeReplicationConfigurations",
        "elasticfilesystem:ListTagsForResource",
        "elasticfilesystem:PutBackupPolicy",
        "elasticfilesystem:PutFileSystemPolicy",
        "elasticfilesystem:PutLifecycleConfiguration",
        "elasticfilesystem:TagResource",
        "elasticfilesystem:UntagResource",
        "elasticfilesystem:UpdateFileSystem",
        "elasticfilesystem:UpdateFileSystemProtection",
        "kms:CreateGrant",
        "kms:DescribeKey",
        "kms:GenerateDataKeyWithoutPlaintext",
    },
    "AWS::EFS::MountTarget": {
        "elasticfilesystem:CreateMountTarget",
        "elasticfilesystem:DeleteMountTarget",
        "elasticfilesystem:DescribeMountTargetSecurityGroups",
        "elasticfilesystem:DescribeMountTargets",
        "elasticfilesystem:ModifyMountTargetSecurityGroups",
        *_INTERFACES,
    },
    "AWS::IAM::Role": {"iam:ListAttachedRolePolicies", "iam:GetRolePolicy"},
    "AWS::Lambda::Alias": {
        "lambda:CreateAlias",
        "lambda:DeleteAlias",
        "lambda:DeleteProvisionedConcurrencyConfig",
        "lambda:GetAlias",
        "lambda:GetProvisionedConcurrencyConfig",
        "lambda:PutProvisionedConcurrencyConfig",
        "lambda:UpdateAlias",
    },
    "AWS::Lambda::EventSourceMapping": {"lambda:ListTags", "lambda:TagResource", "lambda:UntagResource"},
    # Mount targets are looked at with the permissions of who makes the function, as DescribeMountTargets says of EFS.
    "AWS::Lambda::Function": {"s3files:ListMountTargets"},
    "AWS::Lambda::Permission": {"lambda:AddPermission", "lambda:GetPolicy", "lambda:RemovePermission"},
    "AWS::Lambda::Version": {
        "lambda:DeleteFunction",
        "lambda:GetFunctionConfiguration",
        "lambda:GetProvisionedConcurrencyConfig",
        "lambda:GetRuntimeManagementConfig",
        "lambda:PublishVersion",
    },
    "AWS::Logs::LogGroup": {"logs:ListTagsForResource", "logs:TagResource", "logs:UntagResource"},
    # Not of the types, which are not known here: what there is for each property that a template sets.
    "AWS::S3Files::AccessPoint": {
        "s3files:CreateAccessPoint",
        "s3files:DeleteAccessPoint",
        "s3files:GetAccessPoint",
        "s3files:ListTagsForResource",
        "s3files:TagResource",
        "s3files:UntagResource",
    },
    "AWS::S3Files::FileSystem": {
        "iam:PassRole",
        "s3files:CreateFileSystem",
        "s3files:DeleteFileSystem",
        "s3files:GetFileSystem",
        "s3files:ListTagsForResource",
        "s3files:TagResource",
        "s3files:UntagResource",
    },
    "AWS::S3Files::MountTarget": {
        "s3files:CreateMountTarget",
        "s3files:DeleteMountTarget",
        "s3files:GetMountTarget",
        "s3files:UpdateMountTarget",
        *_INTERFACES,
    },
    "AWS::S3::BucketPolicy": {"s3:DeleteBucketPolicy", "s3:GetBucketPolicy", "s3:PutBucketPolicy"},
    "AWS::ApiGatewayV2::Api": {
        "apigateway:DELETE",
        "apigateway:GET",
        "apigateway:PATCH",
        "apigateway:POST",
        "apigateway:PUT",
    },
    "AWS::Budgets::Budget": {
        "budgets:ListTagsForResource",
        "budgets:ModifyBudget",
        "budgets:TagResource",
        "budgets:ViewBudget",
    },
}
"""What the types say now (`aws cloudformation describe-type`) and those that come with LocalStack do not."""


def permissions(types: Iterable[str]) -> Mapping[str, set[str]]:
    """By type: what its handlers may call, as far as that is known.

    Args:
        types: Such as `AWS::S3::Bucket`.
    """
    wanted = set(types)
    found = {name: set(entries) for name, entries in NEWER.items() if name in wanted}
    packages = localstack_python().parents[1].glob("lib/python3*/site-packages/localstack/services")
    for path in (each for folder in packages for each in folder.rglob("*.schema.json")):
        schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if schema["typeName"] in wanted:
            handlers = (schema.get("handlers", {}).get(name, {}) for name in _HANDLERS)
            called = {action for handler in handlers for action in handler.get("permissions", ())}
            called = {action.replace("S3:", "s3:") for action in called}  # AWS writes one of them so
            found.setdefault(schema["typeName"], set()).update(called)
    return found
