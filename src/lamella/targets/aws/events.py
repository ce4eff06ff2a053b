"""Requests that are objects: the bucket tells a queue of them, and the door takes them from there.

Between the two, nothing is lost: what fails comes again, and what fails five times waits in a second queue. S3 tells of
an object at least once, so the same may come twice.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/NotificationHowTo.html
"""

from __future__ import annotations

from lamella.targets.aws.functions import alias_id
from lamella.targets.aws.intrinsics import Json, Resources, att, excused, policy, ref, resource, statement, tag_list
from lamella.targets.aws.naming import Names
from lamella.targets.aws.release import Function
from lamella.targets.aws.settings import ObjectEvents, Settings
from lamella.targets.aws.storage import bucket_arn

QUEUE, DEAD_LETTERS = "Queue", "DeadLetters"
"""Logical ids."""

VISIBILITY = 6
"""A queue hides what a function is working on for this many times its timeout, plus the window: AWS's own advice."""

ATTEMPTS = 5
"""Likewise: fewer, and throttling alone would make dead letters."""

DAYS_S = 14 * 24 * 3600
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html"""

_HIDDEN_MOST_S = 12 * 3600  # a queue's longest
_LEAST_AT_ONCE = 2  # of an event source mapping: MaximumConcurrency


def event_resources(names: Names, settings: Settings, events: ObjectEvents, door: Function) -> Resources:
    """The queues, who may write to them, and the door as their reader."""
    tags = tag_list(names.tags(dict(settings.tags)))
    hidden_s = min(_HIDDEN_MOST_S, VISIBILITY * door.timeout_s + events.window_s)
    both: Json = {"MessageRetentionPeriod": DAYS_S, "SqsManagedSseEnabled": True, "Tags": tags}
    further: Json = {
        "VisibilityTimeout": hidden_s,
        "RedrivePolicy": {"deadLetterTargetArn": att(DEAD_LETTERS, "Arn"), "maxReceiveCount": ATTEMPTS},
    }
    return {
        DEAD_LETTERS: _queue({"QueueName": names.part("dead-letters", longest=80), **both}),
        QUEUE: _queue({"QueueName": names.part("queue", longest=80), **both, **further}),
        "QueuePolicy": _queue_policy(names),
        "QueueReader": _reader(settings, events, door),
    }


def notifications(events: ObjectEvents) -> Json:
    """What the bucket tells the queue of."""
    rule = {"S3Key": {"Rules": [{"Name": "prefix", "Value": events.inputs}]}}
    wanted: Json = {"Event": "s3:ObjectCreated:*", "Queue": att(QUEUE, "Arn"), "Filter": rule}
    return {"QueueConfigurations": [wanted]}


def queue_statement() -> Json:
    """Reading the queue: what AWS's own policy for that has, `AWSLambdaSQSQueueExecutionRole`.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """
    actions = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
    return statement("Queue", actions, att(QUEUE, "Arn"))


def _queue(properties: Json) -> Json:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-sqs-queue.html."""
    found = resource("SQS::Queue", properties, DeletionPolicy="Delete", UpdateReplacePolicy="Delete")
    return excused(found, CKV_AWS_27="SQS encrypts it with a key of its own; it holds keys of objects, no tensors")


def _queue_policy(names: Names) -> Json:
    """This bucket may write, and nothing goes unencrypted."""
    source: Json = {
        "ArnEquals": {"aws:SourceArn": bucket_arn(names)},
        "StringEquals": {"aws:SourceAccount": ref("AWS::AccountId")},
    }
    writes = statement("Bucket", ["sqs:SendMessage"], att(QUEUE, "Arn"), Condition=source)
    plain: Json = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": [att(QUEUE, "Arn")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    document = policy([{**writes, "Principal": {"Service": "s3.amazonaws.com"}}, plain])
    return resource("SQS::QueuePolicy", {"Queues": [ref(QUEUE)], "PolicyDocument": document})


def _reader(settings: Settings, events: ObjectEvents, door: Function) -> Json:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html (partial batch responses)."""
    properties: Json = {
        "EventSourceArn": att(QUEUE, "Arn"),
        "FunctionName": ref(alias_id(door)),
        "BatchSize": events.batch_size,
        "MaximumBatchingWindowInSeconds": events.window_s,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }
    if settings.concurrency is not None:  # what the function's cap refuses would count as an attempt
        properties["ScalingConfig"] = {"MaximumConcurrency": max(_LEAST_AT_ONCE, settings.concurrency)}
    return resource("Lambda::EventSourceMapping", properties)
