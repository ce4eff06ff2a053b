"""What CloudFormation does and LocalStack does not: resources change where they are, unless their identity changes."""

import json

from botocore.exceptions import ClientError
from localstack.aws.api.cloudformation import ChangeAction, ChangeSetType, StackStatus
from localstack.services.cloudformation.engine.v2.change_set_model_executor import (
    ChangeSetModelExecutor,
    ChangeSetModelExecutorResult,
)
from localstack.services.cloudformation.engine.v2.change_set_model_preproc import PreprocProperties
from localstack.services.cloudformation.resource_provider import (
    OperationStatus,
    ProgressEvent,
    ResourceProviderExecutor,
)
from localstack.services.iam.resource_providers.aws_iam_role import IAMRoleProvider
from localstack.services.lambda_.resource_providers.lambda_alias import LambdaAliasProvider
from localstack.services.logs.resource_providers.aws_logs_loggroup import LogsLogGroupProvider
from localstack.services.s3.resource_providers.aws_s3_bucket import S3BucketProvider


def fill() -> None:
    """Let CloudFormation update aliases, buckets, log groups and roles, and take back an update that fails."""
    ChangeSetModelExecutor._execute_resource_change = _change
    ChangeSetModelExecutor.execute = _execute
    LambdaAliasProvider.update = _update_alias
    S3BucketProvider.update = _update_bucket
    S3BucketProvider._create_bucket_if_does_not_exist = _create_bucket
    S3BucketProvider.delete = _delete_bucket
    LogsLogGroupProvider.update = _update_log_group
    IAMRoleProvider.update = _update_role


_changed = ChangeSetModelExecutor._execute_resource_change


def _change(self, name, before, after):
    """LocalStack replaces what refers by its identity to something that changes, also where the value stays."""
    if before and after and before.resource_type == after.resource_type and after.requires_replacement:
        provider = ResourceProviderExecutor.try_load_resource_provider(after.resource_type)
        identity = [path.removeprefix("/properties/") for path in provider.SCHEMA["createOnlyProperties"]]
        was, now = before.properties.properties, after.properties.properties
        after.requires_replacement = any(was.get(key) != now.get(key) for key in identity)
    return _changed(self, name, before, after)


_executed = ChangeSetModelExecutor.execute


def _execute(self):
    """As CloudFormation: an update that fails ends as what was there before, and `UPDATE_ROLLBACK_COMPLETE`.

    LocalStack leaves it half-changed, and says `ROLLBACK_COMPLETE`.
    """
    change, stack = self._change_set, self._change_set.stack
    if change.change_set_type != ChangeSetType.UPDATE:
        return _executed(self)
    before, said = dict(stack.resolved_resources), stack.set_stack_status

    def say(status, *reason):
        back = status in (StackStatus.ROLLBACK_IN_PROGRESS, StackStatus.ROLLBACK_COMPLETE)
        said(StackStatus.UPDATE_ROLLBACK_IN_PROGRESS if back else status, *reason)

    stack.set_stack_status = say
    try:
        result = _executed(self)
        if not result.failure_message:
            return result
        said(StackStatus.UPDATE_ROLLBACK_IN_PROGRESS)
        _take_back(self, before)
        change.template, change.processed_template = stack.template, stack.processed_template
        change.template_body = stack.template_body
        said(StackStatus.UPDATE_ROLLBACK_COMPLETE)
        return ChangeSetModelExecutorResult(before, result.outputs, result.failure_message)
    finally:
        del stack.set_stack_status


def _take_back(self, before):
    for name, made in reversed(list(self.resources.items())):
        if made.get("ResourceStatus") == "CREATE_FAILED":
            continue
        was, now = before.get(name), made["Properties"]
        if was is None:
            _act(self, ChangeAction.Remove, name, made["Type"], now, None)
        elif was["Properties"] != now:
            _act(self, ChangeAction.Modify, name, made["Type"], now, was["Properties"])


def _act(self, action, name, kind, now, wanted):
    self._execute_resource_action(
        action=action,
        logical_resource_id=name,
        resource_type=kind,
        before_properties=PreprocProperties(now),
        after_properties=None if wanted is None else PreprocProperties(wanted),
    )


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


_updated_role = IAMRoleProvider.update


def _update_role(self, request):
    """LocalStack leaves a role's own policies as they were."""
    iam, role = request.aws_client_factory.iam, request.previous_state["RoleName"]
    wanted = {policy["PolicyName"]: policy["PolicyDocument"] for policy in request.desired_state.get("Policies", ())}
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        if name not in wanted:
            iam.delete_role_policy(RoleName=role, PolicyName=name)
    for name, document in wanted.items():
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
    return _updated_role(self, request)


def _create_bucket(_self, model, region, s3):
    """Where there is one already, whosever it is, CloudFormation refuses; LocalStack takes it as the stack's."""
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=model["BucketName"], **place)
    except ClientError:
        _others.add(model["BucketName"])
        raise


_others = set()
_deleted = S3BucketProvider.delete


def _delete_bucket(self, request):
    """CloudFormation deletes nothing that it could not make."""
    name = request.desired_state["BucketName"]
    if name not in _others:
        return _deleted(self, request)
    _others.discard(name)
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model={})


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
