"""An AWS account as its user's credentials reach it: the only place of the target that talks to AWS.

Credentials and region come from where boto3 looks for them: the environment, its files, SSO, a role.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

from lamella.errors import MissingDependencyError, UsageError
from lamella.targets.aws.refusals import AwsRefusedError, explained

if TYPE_CHECKING:
    from lamella.stores.base import Store

ATTEMPTS = 8
"""Of each call that AWS throttles or fails to answer; boto3 waits longer and longer in between.

https://docs.aws.amazon.com/boto3/latest/guide/retries.html
"""

_CONNECT_S, _READ_S = 10.0, 910.0  # a function may take 900 s
_ELSEWHERE = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SFN")  # a server that stands for AWS; boto3 finds it, too
_Json = dict[str, Any]


class Account:
    """Calls AWS in one region. Thread-safe.

    Args:
        region: Which one; by default the one of the environment, or of the profile.
        profile: Of the user's AWS configuration.

    Raises:
        MissingDependencyError: boto3 is not installed.
        UsageError: There is no such profile, or nobody says which region.
    """

    def __init__(self, region: str | None = None, *, profile: str | None = None) -> None:
        try:
            import boto3
        except ImportError:
            raise MissingDependencyError(
                "the target `aws` needs `boto3`, which is not installed", hint="pip install 'lamella[aws]'"
            ) from None
        with explained("the AWS configuration"):
            given = region or os.environ.get("AWS_REGION")  # which AWS's other tools read, and boto3 does not
            self._session = boto3.Session(profile_name=profile, region_name=given)
        if self._session.region_name is None:
            raise UsageError("nobody says which region of AWS", hint="give `--region`, or set `AWS_REGION`")
        self._clients: dict[str, Any] = {}
        self._stores: dict[str, Store] = {}
        self._lock = RLock()

    @property
    def region(self) -> str:
        """Where it is."""
        return str(self._session.region_name)

    @cached_property
    def number(self) -> str:
        """The account's twelve digits.

        Raises:
            RemoteError: The credentials are missing, refused or expired.
        """
        return str(self.call("sts", "get_caller_identity")["Account"])

    def call(self, service: str, operation: str, **parameters: object) -> _Json:
        """One call; what AWS throttles is tried again.

        Args:
            service: As boto3 calls it: `cloudformation`.
            operation: As boto3 calls it: `create_change_set`.
            parameters: As AWS calls them.

        Raises:
            RemoteError: AWS refuses, or cannot be reached; `AwsRefusedError.code` has the reason.
        """
        with explained(f"{service}:{operation}"):
            found: _Json = getattr(self._client(service), operation)(**parameters)
            return found

    def try_call(self, service: str, operation: str, *codes: str, **parameters: object) -> _Json | None:
        """The same; None where AWS answers with one of these error codes."""
        try:
            return self.call(service, operation, **parameters)
        except AwsRefusedError as error:
            if error.code in codes:
                return None
            raise

    def pages(self, service: str, operation: str, entries: str, **parameters: object) -> Iterator[Any]:
        """The entries of all pages of an answer.

        Raises:
            RemoteError: AWS refuses, or cannot be reached.
        """
        with explained(f"{service}:{operation}"):
            for page in self._client(service).get_paginator(operation).paginate(**parameters):
                yield from page.get(entries, ())

    def upload(self, path: str, bucket: str, key: str) -> None:
        """Put a file into a bucket, a large one in parts.

        Raises:
            RemoteError: AWS refuses, or cannot be reached.
        """
        with explained(f"s3://{bucket}/{key}"):
            self._client("s3").upload_file(path, bucket, key)

    def store(self, uri: str) -> Store:
        """The bucket behind an `s3://` URI, opened with these credentials; once, since that takes a while."""
        from lamella.stores.bucket import read_bucket
        from lamella.stores.s3 import S3Store

        with self._lock:
            if uri not in self._stores:
                self._stores[uri] = S3Store(read_bucket(uri), session=self._session)
            return self._stores[uri]

    def _client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients while it runs
        from botocore.config import Config

        with self._lock:
            if service not in self._clients:
                config = Config(
                    retries={
                        "mode": "adaptive" if service == "cloudformation" else "standard",
                        "max_attempts": ATTEMPTS,
                    },
                    connect_timeout=_CONNECT_S,
                    read_timeout=_READ_S,
                    user_agent_extra="lamella",
                    # A server that stands for AWS has one name, where Step Functions wants `sync-` in front of it.
                    inject_host_prefix=not any(map(os.environ.get, _ELSEWHERE)),
                )
                self._clients[service] = self._session.client(service, config=config)
            return self._clients[service]
