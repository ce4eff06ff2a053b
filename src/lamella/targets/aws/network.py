"""A network of its own for functions with a mount: private, with a way to the bucket and none to the internet.

A NAT gateway would cost more than everything else; a gateway endpoint for S3 costs nothing.

https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-s3.html
"""

from __future__ import annotations

from collections.abc import Mapping

from lamella.targets.aws.intrinsics import Json, Resources, att, excused, policy, ref, resource, sub, tag_list
from lamella.targets.aws.storage import BUCKET

SUBNETS = ("SubnetA", "SubnetB")
"""Logical ids: one in each of two zones, so that one may fail."""

FUNCTIONS_GROUP, MOUNT_GROUP = "FunctionsGroup", "MountGroup"
NFS = 2049
"""https://docs.aws.amazon.com/efs/latest/ug/network-access.html"""

_NETWORK = "10.0.0.0/24"
_PARTS = ("10.0.0.0/25", "10.0.0.128/25")
_HTTPS = 443


def network(tags: Mapping[str, str]) -> Resources:
    """Network, subnets, routes, the way to S3, and who may talk to whom."""
    listed = tag_list(tags)
    found: Resources = {
        "Network": excused(
            resource(
                "EC2::VPC",
                {"CidrBlock": _NETWORK, "EnableDnsSupport": True, "EnableDnsHostnames": True, "Tags": listed},
            ),
            CKV2_AWS_11="it holds functions, the file system and a way to S3; flow logs would cost more than that",
            CKV2_AWS_12="CloudFormation cannot change a default group; nothing here uses it",
        ),
        "Routes": resource("EC2::RouteTable", {"VpcId": ref("Network"), "Tags": listed}),
        "S3Endpoint": _endpoint(),
        FUNCTIONS_GROUP: _functions_group(listed),
        MOUNT_GROUP: _mount_group(listed),
    }
    for index, (subnet, part) in enumerate(zip(SUBNETS, _PARTS, strict=True)):
        zone = {"Fn::Select": [index, {"Fn::GetAZs": ""}]}
        properties: Json = {"VpcId": ref("Network"), "CidrBlock": part, "AvailabilityZone": zone, "Tags": listed}
        found[subnet] = resource("EC2::Subnet", properties)
        joined: Json = {"RouteTableId": ref("Routes"), "SubnetId": ref(subnet)}
        found[f"{subnet}Routes"] = resource("EC2::SubnetRouteTableAssociation", joined)
    return found


def vpc_config() -> Json:
    """What a function in this network says."""
    return {"SecurityGroupIds": [att(FUNCTIONS_GROUP, "GroupId")], "SubnetIds": [ref(subnet) for subnet in SUBNETS]}


def _endpoint() -> Json:
    """The way to S3, and there to this bucket only."""
    allowed: Json = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject*", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListBucket"],
        "Resource": [att(BUCKET, "Arn"), sub("${Bucket.Arn}/*")],
        "Condition": {"StringEquals": {"aws:PrincipalAccount": ref("AWS::AccountId")}},
    }
    properties: Json = {
        "VpcId": ref("Network"),
        "VpcEndpointType": "Gateway",
        "ServiceName": sub("com.amazonaws.${AWS::Region}.s3"),
        "RouteTableIds": [ref("Routes")],
        "PolicyDocument": policy([allowed]),
    }
    return resource("EC2::VPCEndpoint", properties)


def _functions_group(tags: list[Json]) -> Json:
    """Functions talk to the file system, and to S3, whose addresses change: the routes lead nowhere else."""
    nfs: Json = {"IpProtocol": "tcp", "FromPort": NFS, "ToPort": NFS, "CidrIp": _NETWORK, "Description": "file system"}
    s3: Json = {
        "IpProtocol": "tcp",
        "FromPort": _HTTPS,
        "ToPort": _HTTPS,
        "CidrIp": "0.0.0.0/0",
        "Description": "S3 through its gateway: there is no other route",
    }
    properties: Json = {
        "GroupDescription": "Functions: out to the file system and S3, nothing in",
        "VpcId": ref("Network"),
        "SecurityGroupEgress": [nfs, s3],
        "Tags": tags,
    }
    return resource("EC2::SecurityGroup", properties)


def _mount_group(tags: list[Json]) -> Json:
    """The file system listens to functions, and begins nothing itself."""
    nfs: Json = {
        "IpProtocol": "tcp",
        "FromPort": NFS,
        "ToPort": NFS,
        "SourceSecurityGroupId": att(FUNCTIONS_GROUP, "GroupId"),
        "Description": "functions",
    }
    nowhere: Json = {"IpProtocol": "-1", "CidrIp": "127.0.0.1/32", "Description": "nothing: an empty list means all"}
    properties: Json = {
        "GroupDescription": "File system: in from functions, nothing out",
        "VpcId": ref("Network"),
        "SecurityGroupIngress": [nfs],
        "SecurityGroupEgress": [nowhere],
        "Tags": tags,
    }
    return resource("EC2::SecurityGroup", properties)
