"""CloudFormation's functions, and the parts that most resources have.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = dict[str, object]
Resources: TypeAlias = dict[str, Json]


def ref(name: str) -> Json:
    """What a resource or parameter is known by."""
    return {"Ref": name}


def att(name: str, attribute: str) -> Json:
    """An attribute of a resource."""
    return {"Fn::GetAtt": [name, attribute]}


def sub(text: str) -> Json:
    """A text with `${Resource}` and `${Resource.Attribute}` in it."""
    return {"Fn::Sub": text}


def resource(kind: str, properties: Json, **more: object) -> Json:
    """A resource."""
    return {"Type": f"AWS::{kind}", **more, "Properties": properties}


def tag_list(tags: Mapping[str, str]) -> list[Json]:
    """Tags as most resources take them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def statement(sid: str, actions: Sequence[str], resources: object, **more: object) -> Json:
    """A statement of a policy that allows."""
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resources, **more}


def policy(statements: Sequence[Json]) -> Json:
    """A policy. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_version.html."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def role(name: str, service: str, statements: Sequence[Json], tags: Mapping[str, str]) -> Json:
    """A role that one service of AWS takes on, for this account's resources only.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html

    Args:
        name: Its name.
        service: Who takes it on: `lambda.amazonaws.com`.
        statements: What it may do; none: nothing.
        tags: Its tags.
    """
    trust: Json = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if service != "lambda.amazonaws.com":  # Lambda's own calls name no source
        trust["Condition"] = {"StringEquals": {"aws:SourceAccount": ref("AWS::AccountId")}}
    properties: Json = {"RoleName": name, "AssumeRolePolicyDocument": policy([trust]), "Tags": tag_list(tags)}
    if statements:
        properties["Policies"] = [{"PolicyName": "lamella", "PolicyDocument": policy(statements)}]
    return resource("IAM::Role", properties)


def excused(found: Json, **reasons: str) -> Json:
    """A resource with the rules of checkov that it breaks on purpose, and why.

    https://www.checkov.io/2.Basics/Suppressing%20and%20Skipping%20Policies.html
    """
    skipped = [{"id": rule, "comment": reason} for rule, reason in sorted(reasons.items())]
    properties = found.pop("Properties")
    return {**found, "Metadata": {"checkov": {"skip": skipped}}, "Properties": properties}


FUNCTION_REASONS = {
    "CKV_AWS_116": "whoever invokes it waits for the answer, or has a queue with dead letters in front",
    "CKV_AWS_117": "it needs no network of its own, unless it has a mount",
    "CKV_AWS_173": "its variables hold names, no secrets, and AWS encrypts them",
}
"""Why functions break rules of checkov."""
