"""Whether who deploys may do what AWS's resource types say that they do, for everything that a template can hold."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.aws_stacks import ACCOUNT, DELIVERIES, DOORS, chain, settings, stack
from tests.emulated_aws.policies import Asked, allows, matches
from tests.emulated_aws.resource_types import permissions

from lamella.targets.aws.iam_policies import iam_policies
from lamella.targets.aws.settings import HttpApi

UNSET = {
    "AWS::EC2::Subnet": {"ec2:*SubnetCidrBlock": "Ipv6CidrBlock"},
    "AWS::EC2::VPC": {"ec2:ModifyVpcTenancy": "InstanceTenancy"},
    "AWS::ECR::Repository": {
        "ecr:DeleteLifecyclePolicy": "",
        "ecr:DeleteRepositoryPolicy": "",
        "kms:*": "KmsKey",
    },
    "AWS::EFS::FileSystem": {
        "elasticfilesystem:*ReplicationConfiguration": "ReplicationConfiguration",
        "elasticfilesystem:DeleteFileSystemPolicy": "",
        "elasticfilesystem:PutLifecycleConfiguration": "LifecyclePolicies",
        "elasticfilesystem:UpdateFileSystemProtection": "FileSystemProtection",
        "kms:*": "KmsKeyId",
    },
    "AWS::IAM::Role": {
        "iam:*PermissionsBoundary": "PermissionsBoundary",
        "iam:AttachRolePolicy": "ManagedPolicyArns",
        "iam:DetachRolePolicy": "ManagedPolicyArns",
        "iam:UpdateRole": "MaxSessionDuration",
        "iam:UpdateRoleDescription": "Description",
    },
    "AWS::Lambda::EventSourceMapping": {"kms:*": "KmsKeyArn"},
    "AWS::Lambda::Function": {
        "kms:*": "KmsKeyArn",
        "lambda:*CodeSigningConfig": "CodeSigningConfigArn",
        "lambda:GetLayerVersion": "Layers",
        "lambda:PassCapacityProvider": "CapacityProviderConfig",
        "lambda:PutFunctionRecursionConfig": "RecursiveLoop",
        "lambda:PutFunctionScalingConfig": "FunctionScalingConfig",
        "lambda:PutRuntimeManagementConfig": "RuntimeManagementConfig",
    },
    "AWS::Logs::LogGroup": {
        "firehose:*": "LogGroupClass",
        "logs:*DataProtectionPolicy": "DataProtectionPolicy",
        "logs:*KmsKey": "KmsKeyId",
        "s3:REST.PUT.OBJECT": "LogGroupClass",
    },
    "AWS::S3::Bucket": {
        "kms:*": "ReplicationConfiguration",
        "s3:*Analytics*": "AnalyticsConfigurations",
        "s3:*IntelligentTiering*": "IntelligentTieringConfigurations",
        "s3:*Inventory*": "InventoryConfigurations",
        "s3:*Metadata*": "MetadataConfiguration",
        "s3:*Metrics*": "MetricsConfigurations",
        "s3:*ObjectLock*": "ObjectLockConfiguration",
        "s3:*Replication*": "ReplicationConfiguration",
        "s3:*Website": "WebsiteConfiguration",
        "s3:DeleteBucketEncryption": "",
        "s3:DeleteBucketLifecycle": "",
        "s3:PutAccelerateConfiguration": "AccelerateConfiguration",
        "s3:PutBucketAcl": "AccessControl",
        "s3:PutBucketLogging": "LoggingConfiguration",
        "s3:*CORS": "CorsConfiguration",
        "s3:*Cors": "CorsConfiguration",
        "s3:PutObjectAcl": "AccessControl",
        "s3tables:*": "MetadataTableConfiguration",
    },
}
"""What handlers call for a property alone that no template sets (`""`: that all set, so that none takes it away).

The account's own keys that AWS has made for a service may be used with that service by whoever may use the service.
"""

LEGACY = {"logs:ListTagsLogGroup", "logs:TagLogGroup", "logs:UntagLogGroup", "s3:GetObjectVersion"} | {
    "elasticfilesystem:DeleteTags"
}
"""What older types called: `logs:TagResource` and its like have taken their place, and code is of no version."""

ARNS = {
    "AWS::ApiGatewayV2::Api": "apigateway:eu-central-1::/apis/a1b2c3",
    **{
        f"AWS::EC2::{kind}": f"ec2:eu-central-1:{ACCOUNT}:{name}/id-0123"
        for kind, name in {
            "RouteTable": "route-table",
            "SecurityGroup": "security-group",
            "Subnet": "subnet",
            "SubnetRouteTableAssociation": "route-table",
            "VPC": "vpc",
            "VPCEndpoint": "vpc-endpoint",
        }.items()
    },
    "AWS::ECR::Repository": f"ecr:eu-central-1:{ACCOUNT}:repository/lamella/bert-dev",
    **{
        f"AWS::{service}::{kind}": f"{prefix}:eu-central-1:{ACCOUNT}:{name}/id-0123"
        for service, prefix in {"EFS": "elasticfilesystem", "S3Files": "s3files"}.items()
        for kind, name in {
            "AccessPoint": "access-point",
            "FileSystem": "file-system",
            "MountTarget": "file-system",
        }.items()
    },
    "AWS::Budgets::Budget": f"budgets::{ACCOUNT}:budget/lamella-bert-dev-budget",
    "AWS::IAM::Role": f"iam::{ACCOUNT}:role/lamella-bert-dev-door-eu-central-1",
    "AWS::Lambda::Alias": f"lambda:eu-central-1:{ACCOUNT}:function:lamella-bert-dev-door",
    "AWS::Lambda::EventSourceMapping": f"lambda:eu-central-1:{ACCOUNT}:event-source-mapping:a1b2c3",
    "AWS::Lambda::Function": f"lambda:eu-central-1:{ACCOUNT}:function:lamella-bert-dev-door",
    "AWS::Lambda::Permission": f"lambda:eu-central-1:{ACCOUNT}:function:lamella-bert-dev-door:live",
    "AWS::Lambda::Url": f"lambda:eu-central-1:{ACCOUNT}:function:lamella-bert-dev-door",
    "AWS::Lambda::Version": f"lambda:eu-central-1:{ACCOUNT}:function:lamella-bert-dev-door:1",
    "AWS::Logs::LogGroup": f"logs:eu-central-1:{ACCOUNT}:log-group:/aws/vendedlogs/apis/lamella-bert-dev",
    "AWS::S3::Bucket": "s3:::lamella-bert-dev-01234567",
    "AWS::S3::BucketPolicy": "s3:::lamella-bert-dev-01234567",
    "AWS::SQS::Queue": f"sqs:eu-central-1:{ACCOUNT}:lamella-bert-dev-queue",
    "AWS::SQS::QueuePolicy": f"sqs:eu-central-1:{ACCOUNT}:lamella-bert-dev-queue",
    "AWS::Scheduler::Schedule": f"scheduler:eu-central-1:{ACCOUNT}:schedule/default/lamella-bert-dev-warm",
    "AWS::StepFunctions::StateMachine": f"states:eu-central-1:{ACCOUNT}:stateMachine:lamella-bert-dev-bert",
}
"""What a resource of each type is called, behind `arn:aws:`."""

TAKING = {
    "AWS::S3Files::FileSystem": "elasticfilesystem",
    "AWS::Scheduler::Schedule": "scheduler",
    "AWS::StepFunctions::StateMachine": "states",
}
"""The services that take on roles, beside AWS Lambda."""

PARTS = {"AWS::ApiGatewayV2::Authorizer", "AWS::ApiGatewayV2::Integration", "AWS::ApiGatewayV2::Route"} | {
    "AWS::ApiGatewayV2::Stage"
}
"""Of an API, which call what it calls itself."""


def templates() -> Iterator[dict[str, Any]]:
    """With all doors, and everything that can be chosen."""
    for workflow in ("express", "standard", "direct"):
        for delivery in DELIVERIES.values():
            if workflow != "direct" or "mount" not in delivery:
                yield stack(settings(workflow=workflow, **delivery, **DOORS), chain(2))
    jwt = HttpApi("jwt", "https://issuer.example", ("lamella",))
    yield stack(settings(**{**DOORS, "http_api": jwt}, tracing=True, snap_start=True), chain(1))
    yield stack(settings(**DOORS, provisioned_concurrency=1, log_retention_days=30), chain(2))


def resources() -> Iterator[tuple[str, dict[str, Any]]]:
    for template in templates():
        for entry in template["Resources"].values():
            yield entry["Type"], entry.get("Properties", {})


def test_who_deploys_may_do_what_cloudformation_does_for_every_resource() -> None:
    granted = iam_policies("deploy", region="eu-central-1", account=ACCOUNT)
    known = permissions({kind for kind, _ in resources()})
    assert {kind for kind, _ in resources()} - known.keys() == PARTS
    for kind, called in known.items():
        wanted = [
            each for each in called - LEGACY if not any(matches(pattern, each) for pattern in UNSET.get(kind, {}))
        ]
        missing = [action for action in wanted if not allows(granted, asked(kind, action))]
        assert sorted(missing) == [], kind


def asked(kind: str, action: str) -> Asked:
    """On the resource itself; where another service is called for it, on what is called as that is."""
    service, own = action.partition(":")[0], f"arn:aws:{ARNS[kind]}"
    via = {"aws:CalledVia": ("cloudformation.amazonaws.com",)}
    if action == "s3:DeleteObject" or (service == "s3" and kind != "AWS::S3::Bucket" and not kind.endswith("Policy")):
        return Asked(action, f"arn:aws:{ARNS['AWS::S3::Bucket']}/packages/x.zip", via)
    if action == "iam:PassRole":
        to = TAKING.get(kind, "lambda")
        passed = {"iam:PassedToService": (f"{to}.amazonaws.com",)}
        return Asked(action, f"arn:aws:{ARNS['AWS::IAM::Role']}", {**via, **passed})
    return Asked(action, own if service == ARNS[kind].partition(":")[0] else "*", via)


@pytest.mark.parametrize("kind", UNSET)
def test_what_is_not_granted_is_for_properties_that_nothing_sets(kind: str) -> None:
    found = [properties for each, properties in resources() if each == kind]
    assert found
    assert {name for properties in found for name in names(properties)} & set(UNSET[kind].values()) == set()


def names(value: object) -> Iterator[str]:
    """Of all properties, also of those that are in others."""
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from names(inner)
