"""AWS's signature, version 4: for functions, where importing boto3 takes longer than everything else together.

https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from time import gmtime, strftime
from urllib.parse import quote, urlsplit

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""Stands for the digest of a body that is not signed; S3 alone takes it."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs.

    Attributes:
        access_key_id: The key's name.
        secret_access_key: The key.
        session_token: Of temporary credentials, as a function's role gives them.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    payload_sha256: str,
    *,
    service: str,
    region: str,
    credentials: Credentials,
    at_s: float,
) -> dict[str, str]:
    """The headers of a request, with those that sign it.

    Args:
        method: Such as `GET`.
        url: The whole of it; path and query are percent-encoded already, each byte once.
        headers: What is sent beside; all of it is signed. `Host` is added.
        payload_sha256: Digest of the body in hexadecimal digits, or `UNSIGNED_PAYLOAD`.
        service: Such as `s3` or `lambda`.
        region: Such as `eu-central-1`.
        credentials: Who signs.
        at_s: The time, in seconds since 1970; AWS takes a difference of five minutes.
    """
    stamp = _stamp(at_s)
    sent = {**headers, "Host": urlsplit(url).netloc, "X-Amz-Date": stamp}
    if credentials.session_token:
        sent["X-Amz-Security-Token"] = credentials.session_token
    if service == "s3":
        sent["X-Amz-Content-SHA256"] = payload_sha256
    names, canonical = _canonical_headers(sent)
    request = (method, _path(url, service), _query(urlsplit(url).query), canonical, names, payload_sha256)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    signature = _signature(request, stamp, scope, credentials)
    sent["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return sent


def presigned_url(
    method: str, url: str, *, service: str, region: str, credentials: Credentials, at_s: float, expires_s: int
) -> str:
    """A URL that does one thing for whoever has it, until it expires or the credentials do.

    Args:
        method: What may be done there.
        url: Percent-encoded already.
        service: As for `signed_headers`.
        region: As for `signed_headers`.
        credentials: Who lets it be done.
        at_s: The time, in seconds since 1970.
        expires_s: Seconds for which it holds, a week at most.
    """
    stamp, parts = _stamp(at_s), urlsplit(url)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    given = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session_token:
        given["X-Amz-Security-Token"] = credentials.session_token
    added = "&".join(f"{name}={quote(value, safe=_UNRESERVED)}" for name, value in given.items())
    query = _query(f"{parts.query}&{added}" if parts.query else added)
    names, canonical = _canonical_headers({"Host": parts.netloc})
    body = UNSIGNED_PAYLOAD if service == "s3" else sha256(b"").hexdigest()
    signature = _signature((method, _path(url, service), query, canonical, names, body), stamp, scope, credentials)
    return f"{parts.scheme}://{parts.netloc}{parts.path or '/'}?{query}&X-Amz-Signature={signature}"


def _signature(request: tuple[str, ...], stamp: str, scope: str, credentials: Credentials) -> str:
    digest = sha256("\n".join(request).encode()).hexdigest()
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    date, region, service, _ = scope.split("/")
    return _hmac(_key(credentials.secret_access_key, date, region, service), text).hex()


@lru_cache(maxsize=16)
def _key(secret: str, date: str, region: str, service: str) -> bytes:
    """What signs for one day."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _canonical_headers(headers: Mapping[str, str]) -> tuple[str, str]:
    pairs = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    return ";".join(name for name, _ in pairs), "".join(f"{name}:{value}\n" for name, value in pairs)


def _path(url: str, service: str) -> str:
    """All services but S3 encode what the URL has encoded already once more."""
    path = urlsplit(url).path or "/"
    return path if service == "s3" else quote(path, safe=f"/{_UNRESERVED}")


def _query(query: str) -> str:
    pairs = (part.partition("=") for part in query.split("&") if part)
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


def _stamp(at_s: float) -> str:
    return strftime("%Y%m%dT%H%M%SZ", gmtime(at_s))
