"""What CloudFormation does and LocalStack does not: resources change where they are, unless their identity changes."""

from localstack.services.cloudformation.engine.v2.change_set_model_executor import ChangeSetModelExecutor
from localstack.services.cloudformation.resource_provider import (
    OperationStatus,
    ProgressEvent,
    ResourceProviderExecutor,
)
from localstack.services.lambda_.resource_providers.lambda_alias import LambdaAliasProvider
from localstack.services.logs.resource_providers.aws_logs_loggroup import LogsLogGroupProvider
from localstack.services.s3.resource_providers.aws_s3_bucket import S3BucketProvider


def fill() -> None:
    """Let CloudFormation update aliases, buckets and log groups."""
    ChangeSetModelExecutor._execute_resource_change = _change
    LambdaAliasProvider.update = _update_alias
    S3BucketProvider.update = _update_bucket
    LogsLogGroupProvider.update = _update_log_group


_changed = ChangeSetModelExecutor._execute_resource_change


def _change(self, name, before, after):
    """LocalStack replaces what refers by its identity to something that changes, also where the value stays."""
    if before and after and before.resource_type == after.resource_type and after.requires_replacement:
        provider = ResourceProviderExecutor.try_load_resource_provider(after.resource_type)
        identity = [path.removeprefix("/properties/") for path in provider.SCHEMA["createOnlyProperties"]]
        was, now = before.properties.properties, after.properties.properties
        after.requires_replacement = any(was.get(key) != now.get(key) for key in identity)
    return _changed(self, name, before, after)


def _update_alias(_self, request):
    wanted = {name: request.desired_state[name] for name in ("FunctionName", "FunctionVersion", "Name")}
    request.aws_client_factory.lambda_.update_alias(**wanted)
    return _done(request)


def _update_bucket(self, request):
    told = self._get_s3_bucket_notification_config(request.desired_state)
    request.aws_client_factory.s3.put_bucket_notification_configuration(
        **(told or {"Bucket": request.desired_state["BucketName"], "NotificationConfiguration": {}})
    )
    return _done(request)


def _update_log_group(_self, request):
    wanted = request.desired_state
    request.aws_client_factory.logs.put_retention_policy(
        logGroupName=wanted["LogGroupName"], retentionInDays=wanted["RetentionInDays"]
    )
    return _done(request)


def _done(request):
    return ProgressEvent(
        status=OperationStatus.SUCCESS, resource_model={**request.previous_state, **request.desired_state}
    )
