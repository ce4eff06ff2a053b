"""Where a bucket answers, and for which region requests to it are signed."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from lamella.stores.bucket import Bucket

_HOST = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Names that may stand in front of AWS's: one with dots would fit no certificate there."""

_UNRESERVED = "-_.~"


def region_of(bucket: Bucket) -> str:
    """The region of a bucket: its own, else the function's; other servers than AWS's take any."""
    return bucket.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def endpoint_of(bucket: Bucket) -> str | None:
    """The URL of the bucket's server, with no slash behind it; None for AWS's own."""
    given = bucket.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return given.rstrip("/") if given else None


def address_of(bucket: Bucket, region: str) -> str:
    """The URL of a bucket, percent-encoded, with no slash behind it.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
    """
    if endpoint := endpoint_of(bucket):
        return f"{endpoint}/{quote(bucket.name, safe=_UNRESERVED)}"
    server = f"s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    if _HOST.fullmatch(bucket.name):
        return f"https://{bucket.name}.{server}"
    return f"https://{server}/{quote(bucket.name, safe=_UNRESERVED)}"


def object_address(bucket: Bucket, region: str, key: str) -> str:
    """The URL of an object in a bucket, percent-encoded."""
    return f"{address_of(bucket, region)}/{quote(key, safe=f'/{_UNRESERVED}')}"
