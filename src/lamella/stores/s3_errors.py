"""What boto3 raises, in Lamella's terms. Messages name the object and S3's reason, never a credential."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lamella.errors import LamellaError, StoreError
from lamella.stores.s3_reasons import CONFLICT, PAST_END, THERE_ALREADY, answered, unreachable


@contextmanager
def errors(uri: str) -> Iterator[None]:
    """Turn boto3's exceptions into a `StoreError` that names `uri`."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise answered(uri, _code(error)) from error
    except BotoCoreError as error:
        raise _unanswered(uri, error) from error


def refused_because_there(error: Exception) -> bool:
    """Whether a conditional write found an object."""
    return _code(error) in THERE_ALREADY


def conflict(error: Exception) -> bool:
    """Whether two conditional writes met."""
    return _code(error) in CONFLICT


def past_end(error: Exception) -> bool:
    """Whether a range begins behind the object's end."""
    return _code(error) in PAST_END


def interrupted(error: Exception) -> bool:
    """Whether the connection broke while the answer came."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    return isinstance(error, HTTPClientError | IncompleteReadError)


def _code(error: Exception) -> str:
    from botocore.exceptions import ClientError

    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _unanswered(uri: str, error: Exception) -> LamellaError:
    from botocore.exceptions import CredentialRetrievalError, NoCredentialsError, PartialCredentialsError

    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return StoreError(
            f"no credentials for `{uri}`", hint="set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or a profile"
        )
    return unreachable(uri, error)
