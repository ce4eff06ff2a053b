"""URLs with which whoever has them may read or write one object of a bucket for a while."""

from __future__ import annotations

from time import time

from lamella.stores.addresses import object_address, region_of
from lamella.stores.bucket import read_object
from lamella.stores.credentials import FunctionCredentials
from lamella.stores.sigv4 import presigned_url

_credentials = FunctionCredentials()


def presigned(method: str, uri: str, *, expires_s: int) -> str | None:
    """Such a URL, signed with this function's credentials: it ends with these, too. None where it is no bucket.

    Args:
        method: `GET` or `PUT`.
        uri: The object's URI.
        expires_s: Seconds for which it holds.

    Raises:
        StoreError: There are no credentials, or the URI names no object.
    """
    if not uri.startswith("s3://"):
        return None
    bucket, key = read_object(uri)
    region = region_of(bucket)
    return presigned_url(
        method,
        object_address(bucket, region, key),
        service="s3",
        region=region,
        credentials=_credentials(),
        at_s=time(),
        expires_s=expires_s,
    )
