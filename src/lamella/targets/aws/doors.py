"""How a deployment is reached: an HTTP API, a URL of the door's own. Nothing here is open to everybody."""

from __future__ import annotations

from lamella.runtime.payload import PING
from lamella.targets.aws.functions import ALIAS, alias_id, function_id
from lamella.targets.aws.intrinsics import Json, Resources, att, excused, ref, resource, role, statement, sub
from lamella.targets.aws.logs import log_group
from lamella.targets.aws.naming import LONGEST_SCHEDULE, Names, logical_id
from lamella.targets.aws.release import Function, Release
from lamella.targets.aws.settings import Budget, HttpApi, Settings

API, URL = "HttpApi", "FunctionUrl"
"""Logical ids."""

API_MS = 30_000
"""An HTTP API's longest. https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html"""

ROUTES = {"HttpApiRoute": "ANY /v2/{path+}", "HttpApiUploads": "POST /lamella/uploads"}
"""By logical id: all of the Open Inference Protocol v2, and where tensors go that are too large for a request."""

_REQUESTS_PER_S = 20  # for each instance that there may be: a request takes 50 ms at least


def door_resources(names: Names, settings: Settings, door: Function) -> Resources:
    """The doors that settings ask for, in front of the alias of a function."""
    found: Resources = {}
    if settings.http_api is not None:
        found |= _api(names, settings, settings.http_api, door)
    if settings.function_url:
        found[URL] = _url(door)
    return found


def warmth(names: Names, settings: Settings, release: Release) -> Resources:
    """A schedule for each function that asks its live version for a sign of life, which keeps one instance of it.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-scheduler-schedule.html
    """
    if settings.keep_warm_minutes is None:
        return {}
    every = settings.keep_warm_minutes
    rate = "rate(1 minute)" if every == 1 else f"rate({every} minutes)"
    reason = "it sends the same few bytes each time, which hold no data"
    found: Resources = {}
    for function in release.functions:
        target: Json = {
            "Arn": ref(alias_id(function)),
            "Input": PING.decode(),
            "RetryPolicy": {"MaximumRetryAttempts": 0},
            "RoleArn": att("WarmthRole", "Arn"),
        }
        properties: Json = {
            "Name": names.part(f"warm-{function.name}", longest=LONGEST_SCHEDULE),
            "ScheduleExpression": rate,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": target,
        }
        schedule = resource("Scheduler::Schedule", properties)
        found[logical_id("Warm", function.name)] = excused(schedule, CKV_AWS_297=reason)
    invoked = [ref(alias_id(function)) for function in release.functions]
    allowed = [statement("Ping", ["lambda:InvokeFunction"], invoked)]
    tags = names.tags(dict(settings.tags))
    found["WarmthRole"] = role(names.role(names.part("warmth")), "scheduler.amazonaws.com", allowed, tags)
    return found


def alarm(names: Names, budget: Budget) -> Json:
    """Tells somebody of costs. The tag must have been activated for cost allocation once in the account.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-budgets-budget.html
    https://docs.aws.amazon.com/cost-management/latest/userguide/budgets-create-filters.html
    """
    subscriber: Json = {"SubscriptionType": "EMAIL", "Address": budget.email}
    notices = [
        {
            "Notification": {"NotificationType": kind, "ComparisonOperator": "GREATER_THAN", "Threshold": percent},
            "Subscribers": [subscriber],
        }
        for kind, percent in (("ACTUAL", 80), ("FORECASTED", 100))
    ]
    wanted: Json = {
        "BudgetName": names.part(f"budget-{names.region}", longest=100),
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": budget.usd, "Unit": "USD"},
        "CostFilters": {"TagKeyValue": [f"user:lamella:deployment${names.name}"]},
    }
    return resource("Budgets::Budget", {"Budget": wanted, "NotificationsWithSubscribers": notices})


def _api(names: Names, settings: Settings, api: HttpApi, door: Function) -> Resources:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-apigatewayv2-api.html."""
    tags = names.tags(dict(settings.tags))
    integration: Json = {
        "ApiId": ref(API),
        "IntegrationType": "AWS_PROXY",
        "IntegrationUri": ref(alias_id(door)),
        "PayloadFormatVersion": "2.0",
        "TimeoutInMillis": API_MS,
    }
    route: Json = {"ApiId": ref(API), "Target": sub("integrations/${HttpApiIntegration}")}
    found: Resources = {
        API: resource(
            "ApiGatewayV2::Api", {"Name": names.part("api", longest=128), "ProtocolType": "HTTP", "Tags": tags}
        ),
        "HttpApiIntegration": resource("ApiGatewayV2::Integration", integration),
        "HttpApiLog": log_group(f"/aws/vendedlogs/apis/{names.stack}", settings, tags),
        "HttpApiStage": _stage(settings, tags),
        "HttpApiPermission": _permission(door),
    }
    if api.auth == "jwt":
        found["HttpApiAuthorizer"] = _jwt(api)
        route |= {"AuthorizationType": "JWT", "AuthorizerId": ref("HttpApiAuthorizer")}
    else:
        route["AuthorizationType"] = "AWS_IAM"
    routes = {name: resource("ApiGatewayV2::Route", {**route, "RouteKey": key}) for name, key in ROUTES.items()}
    return {**found, **routes}


def _jwt(api: HttpApi) -> Json:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html."""
    properties: Json = {
        "ApiId": ref(API),
        "AuthorizerType": "JWT",
        "IdentitySource": ["$request.header.Authorization"],
        "JwtConfiguration": {"Issuer": api.issuer, "Audience": list(api.audiences)},
        "Name": "jwt",
    }
    return resource("ApiGatewayV2::Authorizer", properties)


def _stage(settings: Settings, tags: dict[str, str]) -> Json:
    """Who called is logged, not what; more than the functions can do is refused.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging-variables.html
    """
    logged = "$context.requestTime $context.requestId $context.routeKey $context.status $context.responseLatency"
    properties: Json = {
        "ApiId": ref(API),
        "StageName": "$default",
        "AutoDeploy": True,
        "AccessLogSettings": {"DestinationArn": att("HttpApiLog", "Arn"), "Format": logged},
        "Tags": tags,
    }
    if settings.concurrency is not None:
        burst = settings.concurrency
        properties["DefaultRouteSettings"] = {
            "ThrottlingBurstLimit": burst,
            "ThrottlingRateLimit": burst * _REQUESTS_PER_S,
        }
    return resource("ApiGatewayV2::Stage", properties)


def _permission(door: Function) -> Json:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html."""
    place = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}"
    properties: Json = {
        "Action": "lambda:InvokeFunction",
        "FunctionName": ref(alias_id(door)),
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": sub(f"{place}:${{{API}}}/*"),
    }
    return resource("Lambda::Permission", properties)


def _url(door: Function) -> Json:
    """Callers sign their requests, and need `lambda:InvokeFunctionUrl` and `lambda:InvokeFunction`.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
    """
    properties: Json = {"AuthType": "AWS_IAM", "Qualifier": ALIAS, "TargetFunctionArn": att(function_id(door), "Arn")}
    return resource("Lambda::Url", properties, DependsOn=[alias_id(door)])
