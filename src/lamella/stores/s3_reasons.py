"""What S3 answers, and that it does not, in Lamella's terms. Messages name the object and the reason, never a key."""

from __future__ import annotations

from lamella.errors import StoreError
from lamella.stores.base import missing

_MISSING = {"NoSuchKey", "404", "NotFound"}
_REFUSED = {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_RIGHTS = "see which credentials are used, and what they may do in this bucket"
_REACH = "see `endpoint_url`, the region, and the network"

THERE_ALREADY = ("PreconditionFailed", "412")
"""Codes for a conditional write that found an object."""

CONFLICT = ("ConditionalRequestConflict", "409")
"""Codes for two conditional writes that met."""

PAST_END = ("InvalidRange", "416")
"""Codes for a range that begins behind the object's end."""


def answered(uri: str, code: str) -> StoreError:
    """The error for S3's code."""
    if code in _MISSING:
        return missing(uri)
    if code == "NoSuchBucket":
        return StoreError(f"the bucket of `{uri}` does not exist", hint="make it, or name another")
    if code in _REFUSED:
        return StoreError(f"the server refuses `{uri}`: {code}", hint=_RIGHTS)
    return StoreError(f"the server cannot serve `{uri}`: {code or 'no reason given'}", hint="try again later")


def unreachable(uri: str, error: Exception) -> StoreError:
    """The error for a server that does not answer, or breaks off."""
    return StoreError(f"`{uri}` cannot be reached: {type(error).__name__}", hint=_REACH)


def contended(uri: str) -> StoreError:
    """The error for an object that others write whenever it is to be created."""
    return StoreError(f"`{uri}` cannot be created: others write it all the time", hint="try again")
