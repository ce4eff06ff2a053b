"""Log groups: named, so that nobody makes another, and ended by themselves."""

from __future__ import annotations

from collections.abc import Mapping

from lamella.targets.aws.intrinsics import Json, excused, resource, tag_list
from lamella.targets.aws.settings import Settings


def log_group(name: str, settings: Settings, tags: Mapping[str, str]) -> Json:
    """A log group that keeps lines as long as settings say, and goes with the stack.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-logs-loggroup.html
    """
    properties: Json = {
        "LogGroupName": name,
        "RetentionInDays": settings.log_retention_days,
        "Tags": tag_list(tags),
    }
    found = resource("Logs::LogGroup", properties, DeletionPolicy="Delete", UpdateReplacePolicy="Delete")
    return excused(
        found,
        CKV_AWS_158="CloudWatch encrypts logs; they hold timings, no tensors, so a key of one's own adds nothing",
        CKV_AWS_338="how long logs are kept is a setting",
    )
