"""What AWS says no with, in Lamella's terms: what was asked, AWS's reason, and the way out. Never a credential.

Each service has its own names for the same reasons:

- https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/CommonErrors.html (those of STS and IAM, too)
- https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors
- https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
- https://docs.aws.amazon.com/step-functions/latest/apireference/CommonErrors.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lamella.errors import LamellaError, RemoteError, UsageError

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "AuthFailure",
    "InvalidSignatureException",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}
_THROTTLED = {"Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "SlowDown"}
_QUOTA = {
    "LimitExceededException",
    "ServiceQuotaExceededException",
    "LimitExceeded",
    "ServiceLimitExceeded",
    "TooManyBuckets",
}


class AwsRefusedError(RemoteError):
    """AWS answered a call with an error.

    Attributes:
        code: AWS's name for the reason.
    """

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what boto3 raises into Lamella's errors.

    Args:
        what: What was asked.

    Raises:
        AwsRefusedError: AWS answered with an error.
        RemoteError: It did not answer.
        UsageError: The user's AWS configuration makes no sense.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _refused(what, error) from error
    except Boto3Error as error:  # of transfers, around what went wrong
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ClientError):
            raise _refused(what, cause) from error
        raise RemoteError(f"{what} failed: {error}", hint="try again") from error
    except BotoCoreError as error:
        raise _unanswered(what, error) from error


def _refused(what: str, error: Exception) -> AwsRefusedError:
    from botocore.exceptions import ClientError

    assert isinstance(error, ClientError)
    said = error.response.get("Error", {})
    code, message = str(said.get("Code", "")), str(said.get("Message", ""))
    return AwsRefusedError(f"AWS refuses {what}: {code or 'no reason given'}: {message}", code=code, hint=_hint(code))


def _hint(code: str) -> str | None:
    if code in _EXPIRED:
        return "the credentials have expired: get new ones (`aws sso login`, or a new session), and run it again"
    if code in _UNKNOWN:
        return "see which credentials are used: `aws sts get-caller-identity`, `AWS_PROFILE`, `AWS_ACCESS_KEY_ID`"
    if code in _DENIED:
        return "`lamella iam-policy` prints what must be allowed, to deploy or to send requests"
    if code in _THROTTLED:
        return "AWS takes no more calls for a moment: run it again, it goes on where it stopped"
    if code in _QUOTA:
        return "ask AWS for a higher quota (Service Quotas), or ask for less"
    return None


def _unanswered(what: str, error: Exception) -> LamellaError:
    from botocore.exceptions import (
        CredentialRetrievalError,
        EndpointConnectionError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
        SSOError,
        TokenRetrievalError,
    )

    if isinstance(error, ProfileNotFound):
        return UsageError(str(error), hint="`aws configure list-profiles` lists them")
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return RemoteError(
            "there are no credentials for AWS", hint="`aws configure`, `aws sso login`, or set `AWS_PROFILE`"
        )
    if isinstance(error, CredentialRetrievalError | SSOError | TokenRetrievalError):
        return RemoteError(f"the credentials for AWS cannot be had: {error}", hint="log in again: `aws sso login`")
    if isinstance(error, EndpointConnectionError):
        return RemoteError(f"{what} cannot be reached: {error}", hint="see the region, and the network")
    return RemoteError(f"{what} failed: {type(error).__name__}: {error}", hint="see the network, and try again")


def is_throttled(code: str) -> bool:
    """Whether AWS takes no more calls for now."""
    return code in _THROTTLED
