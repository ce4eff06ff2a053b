"""What is left of a deployment after it was deleted: asked of each service, not assumed.

Not of the Resource Groups Tagging API, which answers with what had tags once, and may have been deleted since.
https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lamella.targets.aws.account import Account
from lamella.targets.aws.stacks import Resource

_GONE = (
    "404",
    "FileSystemNotFound",
    "InvalidVpcID.NotFound",
    "NoSuchBucket",
    "NoSuchEntity",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
    "StateMachineDoesNotExist",
)


def leftovers(account: Account, resources: Sequence[Resource]) -> list[str]:
    """What still exists of a stack that was deleted, by name or ARN.

    Args:
        account: Whose they were.
        resources: What was in the stack.

    Raises:
        RemoteError: AWS does not say.
    """
    return [
        f"{resource.kind} {resource.physical}"
        for resource in resources
        if resource.kind in _ASKED and _ASKED[resource.kind](account, resource.physical)
    ]


def _api(account: Account, name: str) -> bool:
    return account.try_call("apigatewayv2", "get_api", *_GONE, ApiId=name) is not None


def _schedule(account: Account, name: str) -> bool:
    return account.try_call("scheduler", "get_schedule", *_GONE, Name=name) is not None


def _bucket(account: Account, name: str) -> bool:
    return account.try_call("s3", "head_bucket", *_GONE, Bucket=name) is not None


def _file_system(account: Account, name: str) -> bool:
    found = account.try_call("efs", "describe_file_systems", *_GONE, FileSystemId=name)
    return found is not None and any(each["LifeCycleState"] != "deleted" for each in found["FileSystems"])


def _bucket_file_system(account: Account, name: str) -> bool:
    return account.try_call("s3files", "get_file_system", *_GONE, fileSystemId=name) is not None


def _function(account: Account, name: str) -> bool:
    return account.try_call("lambda", "get_function", *_GONE, FunctionName=name) is not None


def _log_group(account: Account, name: str) -> bool:
    found = account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=name)
    return any(group["logGroupName"] == name for group in found)


def _repository(account: Account, name: str) -> bool:
    missing = "RepositoryNotFoundException"
    return account.try_call("ecr", "describe_repositories", missing, repositoryNames=[name]) is not None


def _network(account: Account, name: str) -> bool:
    return account.try_call("ec2", "describe_vpcs", *_GONE, VpcIds=[name]) is not None


def _role(account: Account, name: str) -> bool:
    return account.try_call("iam", "get_role", *_GONE, RoleName=name) is not None


def _state_machine(account: Account, arn: str) -> bool:
    found = account.try_call("stepfunctions", "describe_state_machine", *_GONE, stateMachineArn=arn)
    return found is not None and found.get("status") != "DELETING"  # it waits for what runs


# Of queues AWS tells for up to a minute after they are gone, so that there is no use in asking.
_ASKED: dict[str, Callable[[Account, str], bool]] = {
    "AWS::ApiGatewayV2::Api": _api,
    "AWS::EC2::VPC": _network,
    "AWS::ECR::Repository": _repository,
    "AWS::EFS::FileSystem": _file_system,
    "AWS::IAM::Role": _role,
    "AWS::Lambda::Function": _function,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::S3::Bucket": _bucket,
    "AWS::S3Files::FileSystem": _bucket_file_system,
    "AWS::Scheduler::Schedule": _schedule,
    "AWS::StepFunctions::StateMachine": _state_machine,
}
