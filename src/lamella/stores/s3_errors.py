"""What boto3 raises, in Lamella's terms. Messages name the object and S3's reason, never a credential."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lamella.errors import LamellaError, StoreError
from lamella.stores.base import missing

_MISSING = {"NoSuchKey", "404", "NotFound"}
_REFUSED = {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_RIGHTS = "see which credentials boto3 finds, and what they may do in this bucket"
_REACH = "see `endpoint_url`, the region, and the network"


@contextmanager
def errors(uri: str) -> Iterator[None]:
    """Turn boto3's exceptions into a `StoreError` that names `uri`."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _answered(uri, error) from error
    except BotoCoreError as error:
        raise _unanswered(uri, error) from error


def refused_because_there(error: Exception) -> bool:
    """Whether a conditional write found an object."""
    return _code(error) in ("PreconditionFailed", "412")


def conflict(error: Exception) -> bool:
    """Whether two conditional writes met."""
    return _code(error) in ("ConditionalRequestConflict", "409")


def past_end(error: Exception) -> bool:
    """Whether a range begins behind the object's end."""
    return _code(error) in ("InvalidRange", "416")


def interrupted(error: Exception) -> bool:
    """Whether the connection broke while the answer came."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    return isinstance(error, HTTPClientError | IncompleteReadError)


def _code(error: Exception) -> str:
    from botocore.exceptions import ClientError

    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _answered(uri: str, error: Exception) -> LamellaError:
    code = _code(error)
    if code in _MISSING:
        return missing(uri)
    if code == "NoSuchBucket":
        return StoreError(f"the bucket of `{uri}` does not exist", hint="make it, or name another")
    if code in _REFUSED:
        return StoreError(f"the server refuses `{uri}`: {code}", hint=_RIGHTS)
    return StoreError(f"the server cannot serve `{uri}`: {code or 'no reason given'}", hint="try again later")


def _unanswered(uri: str, error: Exception) -> LamellaError:
    from botocore.exceptions import CredentialRetrievalError, NoCredentialsError, PartialCredentialsError

    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return StoreError(
            f"no credentials for `{uri}`", hint="set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or a profile"
        )
    return StoreError(f"`{uri}` cannot be reached: {type(error).__name__}", hint=_REACH)
