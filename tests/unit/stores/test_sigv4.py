"""Signatures are those of AWS's own client."""

import calendar
import datetime as dt
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials

from lamella.stores.sigv4 import Credentials, presigned_url, signed_headers

MOMENT = dt.datetime(2026, 11, 21, 9, 5, 7, tzinfo=dt.UTC)
AT_S = float(calendar.timegm(MOMENT.timetuple()))
LAMBDA = "https://lambda.eu-central-1.amazonaws.com"
BUCKET = "https://bucket.s3.eu-central-1.amazonaws.com"
URLS = {
    "a function": ("lambda", f"{LAMBDA}/2015-03-31/functions/bert-slice-0/invocations?Qualifier=7"),
    "an ARN": (
        "lambda",
        f"{LAMBDA}/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A1%3Afunction%3Af%3A7/invocations",
    ),
    "no path": ("states", "https://states.eu-central-1.amazonaws.com"),
    "a port": ("states", "http://127.0.0.1:5000/"),
    "an object": ("s3", f"{BUCKET}/a%20b/gr%C3%B6%C3%9Fe%2B%28~%29.npz"),
    "a listing": ("s3", f"{BUCKET}/?prefix=a%2Fb&list-type=2&delimiter=&continuation-token=%2B%3D"),
    "a mark": ("s3", f"{BUCKET}/key?uploads"),
}
TOKENS = [None, "token/with+signs=="]


@contextmanager
def their_clock() -> Iterator[None]:
    with patch("botocore.auth.get_current_datetime", return_value=MOMENT.replace(tzinfo=None)):
        yield


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("name", URLS)
def test_headers_are_signed_as_botocore_signs_them(name: str, token: str | None) -> None:
    service, url = URLS[name]
    body = b'{"frame":"AA=="}'
    headers = {"Content-Type": "application/json", "X-Amz-Invocation-Type": "RequestResponse", "X-Odd": "a   b "}
    theirs = AWSRequest("POST", url, headers=dict(headers), data=body)
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    with their_clock():
        signer(TheirCredentials("AKIA", "secret", token), service, "eu-central-1").add_auth(theirs)
    digest = hashlib.sha256(body).hexdigest()
    if service == "s3":  # over HTTPS they leave the body out unless they are told otherwise
        digest = theirs.headers["X-Amz-Content-SHA256"]
    ours = signed_headers(
        "POST",
        url,
        headers,
        digest,
        service=service,
        region="eu-central-1",
        credentials=Credentials("AKIA", "secret", token),
        at_s=AT_S,
    )
    assert ours["Authorization"] == theirs.headers["Authorization"]
    assert ours["X-Amz-Date"] == theirs.headers["X-Amz-Date"]
    assert ours.get("X-Amz-Security-Token") == theirs.headers.get("X-Amz-Security-Token")
    assert ours["Host"] == urlsplit(url).netloc


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("name", ["a function", "an object", "a listing"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_urls_are_signed_as_botocore_signs_them(method: str, name: str, token: str | None) -> None:
    service, url = URLS[name]
    theirs = AWSRequest(method, url)
    signer = S3SigV4QueryAuth if service == "s3" else SigV4QueryAuth
    with their_clock():
        signer(TheirCredentials("AKIA", "secret", token), service, "eu-central-1", expires=900).add_auth(theirs)
    ours = presigned_url(
        method,
        url,
        service=service,
        region="eu-central-1",
        credentials=Credentials("AKIA", "secret", token),
        at_s=AT_S,
        expires_s=900,
    )
    assert dict(parse_qsl(urlsplit(ours).query)) == dict(parse_qsl(urlsplit(theirs.url).query))
    assert urlsplit(ours)[:3] == urlsplit(theirs.url)[:3]


def test_no_secret_is_shown() -> None:
    assert "secret" not in repr(Credentials("AKIA", "secret-key", "secret-token"))
