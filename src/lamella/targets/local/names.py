"""The forms in which AWS Lambda takes a function's name."""

from __future__ import annotations

import re

from lamella.targets.local.invocation import invalid_parameter

_NAME = re.compile(
    r"(?:(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?(?:\d{12}:)?function:|\d{12}:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,140})"
    r"(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)


def split_name(text: str, qualifier: str | None = None) -> tuple[str, str | None]:
    """A function's name and the version or alias that is meant, of what a caller has given.

    Args:
        text: `name`, `name:qualifier`, `123456789012:function:name`, or an ARN, each with or without a qualifier.
        qualifier: The one that was given apart.

    Raises:
        RefusedError: It is no name, or there are two different qualifiers.

    >>> split_name("arn:aws:lambda:us-east-1:123456789012:function:bert:live")
    ('bert', 'live')

    https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_RequestParameters
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise invalid_parameter(f"`{text}` is no function name")
    derived = match["qualifier"]
    if derived and qualifier and derived != qualifier:
        raise invalid_parameter("The derived qualifier from the function name does not match the specified qualifier.")
    return match["name"], qualifier or derived
