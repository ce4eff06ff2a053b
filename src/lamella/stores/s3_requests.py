"""Signed requests to one bucket, without boto3: importing that takes longer than all else that a function starts with.

Connections stay open from one request to the next, and are used by as many threads as there are. What may pass by
itself is tried again, after a pause that is random, so that many functions do not come back at the same moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from random import uniform
from ssl import SSLCertVerificationError
from time import sleep, time
from typing import TypeVar
from urllib.parse import quote, urlsplit

from lamella.errors import StoreError
from lamella.stores.addresses import address_of, endpoint_of, object_address, region_of
from lamella.stores.bucket import Bucket
from lamella.stores.connections import KeptConnections, new_connection
from lamella.stores.credentials import FunctionCredentials
from lamella.stores.s3_xml import MOST_BYTES, BadXmlError, read_xml
from lamella.stores.sigv4 import Credentials, signed_headers

ATTEMPTS = 4

_FIRST_PAUSE_S, _PAUSE_GROWS = 0.1, 4.0
_CONNECT_S, _ANSWER_S = 5.0, 60.0
_BLOCK_BYTES = 4 << 20  # the time limit of a socket holds for what is sent by one call
_PASSING_STATUS = {429, 500, 502, 503, 504}
_PASSING_CODES = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "Throttling"}
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_Result = TypeVar("_Result")


class RefusedError(Exception):
    """The server has answered that it will not.

    Args:
        status: HTTP's.
        code: S3's, or the status where it says none.
        region: Where the bucket is, if the server says so.
    """

    def __init__(self, status: int, code: str, region: str | None = None) -> None:
        super().__init__(code)
        self.code, self.region = code, region
        self.passing = status in _PASSING_STATUS or code in _PASSING_CODES


@dataclass(frozen=True)
class Request:
    """What to ask a bucket for.

    Attributes:
        method: Such as `GET`.
        key: The object's, in the bucket; None for the bucket itself.
        query: Names and values, as they are.
        headers: Sent, and signed.
        body: Buffers in a row, of bytes.
    """

    method: str
    key: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[memoryview] = ()


class BucketRequests:
    """Sends them.

    Args:
        bucket: Where; its prefix does not count.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._region = replace(bucket, prefix=""), region_of(bucket)
        self._find_credentials = FunctionCredentials()
        self._kept = KeptConnections()

    def ask(self, request: Request, read: Callable[[HTTPResponse], _Result]) -> _Result:
        """Send a request until it is answered, or fails for good.

        Args:
            request: What to ask for.
            read: Takes what is needed from an answer that is no refusal.

        Raises:
            RefusedError: The server will not.
            OSError: It cannot be reached, or breaks off.
            HTTPException: What it speaks is no HTTP, or ends too soon.
            StoreError: There are no credentials.
        """
        for attempt in range(1, ATTEMPTS):
            region = self._region  # another thread may find out meanwhile that it is another one
            try:
                return self._exchange(request, read, region)
            except RefusedError as error:
                if self._moved(region, error.region):
                    continue
                if not error.passing:
                    raise
            except SSLCertVerificationError:
                raise
            except (HTTPException, OSError):
                self._kept.forget()
            sleep(_pause_s(attempt))
        return self._exchange(request, read, self._region)

    def _moved(self, asked: str, told: str | None) -> bool:
        """Whether the bucket is in another region of AWS than the one that was asked; from now on, that one is."""
        if told is None or told == asked or not _REGION.fullmatch(told) or endpoint_of(self._bucket):
            return False
        self._region = told
        return True

    def _exchange(self, request: Request, read: Callable[[HTTPResponse], _Result], region: str) -> _Result:
        url = self._url(request, region)
        place, headers = urlsplit(url), self._signed(request, url, region)
        target = f"{place.path or '/'}{'?' if place.query else ''}{place.query}"
        connection = self._kept.take(place.netloc) or new_connection(place.scheme, place.netloc)
        used_up = True
        try:
            with _answer(connection, request, target, headers) as answer:
                found = read(answer) if answer.status < 300 else _refusal(answer)
                used_up = answer.will_close or not answer.isclosed() or bool(answer.length)  # or something is left
        finally:
            if used_up:
                connection.close()
        if not used_up:
            self._kept.keep(connection, place.netloc)
        if isinstance(found, RefusedError):
            raise found
        return found

    def _url(self, request: Request, region: str) -> str:
        address = (
            address_of(self._bucket, region)
            if request.key is None
            else object_address(self._bucket, region, request.key)
        )
        query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in request.query.items())
        return f"{address}{'?' if query else ''}{query}"

    def _credentials(self, request: Request) -> Credentials:
        try:
            return self._find_credentials()
        except StoreError as error:
            uri = self._bucket.uri(request.key)
            raise StoreError(f"no credentials for `{uri}`: {error.message}", hint=error.hint) from error

    def _signed(self, request: Request, url: str, region: str) -> dict[str, str]:
        digest = sha256()
        for view in request.body:
            digest.update(view)
        signed = signed_headers(
            request.method,
            url,
            request.headers,
            digest.hexdigest(),
            service="s3",
            region=region,
            credentials=self._credentials(request),
            at_s=time(),
        )
        if request.method in ("PUT", "POST"):
            signed["Content-Length"] = str(sum(map(len, request.body)))
        return signed


def read_all(answer: HTTPResponse) -> bytes:
    """What is answered beside objects: never more than some megabytes.

    Raises:
        BadXmlError: It is more.
        IncompleteRead: It ends too soon.
    """
    content = answer.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise BadXmlError("it is too large")
    if answer.length:
        raise IncompleteRead(content, answer.length)
    return content


def _answer(connection: HTTPConnection, request: Request, target: str, headers: Mapping[str, str]) -> HTTPResponse:
    if connection.sock is None:
        _connect(connection)
    body = _blocks(request.body) if request.body else None
    broken = False
    try:
        connection.request(request.method, target, body, dict(headers))
    except (BrokenPipeError, ConnectionResetError):  # of a server that refuses unread: its reason may be there
        broken = True
    answer = connection.getresponse()
    answer.will_close |= broken
    if answer.length is None and not answer.chunked:  # nobody could tell whether all of it came
        answer.close()
        raise HTTPException("an answer without a length")
    return answer


def _connect(connection: HTTPConnection) -> None:
    connection.timeout = _CONNECT_S
    connection.connect()
    connection.sock.settimeout(_ANSWER_S)


def _blocks(views: Sequence[memoryview]) -> Iterator[memoryview]:
    for view in views:
        for start in range(0, len(view), _BLOCK_BYTES):
            yield view[start : start + _BLOCK_BYTES]


def _refusal(answer: HTTPResponse) -> RefusedError:
    code = ""
    with suppress(BadXmlError):  # from whatever stands before S3
        code = read_xml(read_all(answer)).say("Code")
    return RefusedError(answer.status, code or str(answer.status), answer.headers.get("x-amz-bucket-region"))


def _pause_s(attempt: int) -> float:
    longest = _FIRST_PAUSE_S * _PAUSE_GROWS ** (attempt - 1)
    return uniform(longest / 2, longest)
