"""What only S3 does: URIs with settings, credentials, servers that refuse or break off."""

import logging
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.parse import quote

import pytest

from lamella.errors import LamellaError, MissingDependencyError, StoreError, UsageError
from lamella.stores.bucket import Bucket, key_in_bucket, read_bucket, split_object
from lamella.stores.opening import open_store

SECRET = "wJalrXUtnFEMI-very-secret"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.fixture(params=["boto3", "signed"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two speaks S3: the user's, or that of functions, whose packages lack the other's module."""
    if request.param == "signed":
        monkeypatch.setitem(sys.modules, "lamella.stores.s3", None)
    name: str = request.param
    return name


@pytest.mark.parametrize(
    ("uri", "bucket"),
    [
        ("s3://b", Bucket("b")),
        ("s3://b/", Bucket("b")),
        ("s3://b/p/q/", Bucket("b", "p/q")),
        ("s3://b/gr%C3%B6%C3%9Fe%3F", Bucket("b", "größe?")),
        ("s3://b?region=eu-west-1", Bucket("b", region="eu-west-1")),
        ("s3://b/p?endpoint_url=http%3A%2F%2Fh%3A1", Bucket("b", "p", "http://h:1")),
        ("s3://b/p?endpoint_url=http://h:1&region=r", Bucket("b", "p", "http://h:1", "r")),
    ],
)
def test_a_uri_names_a_place(uri: str, bucket: Bucket) -> None:
    assert read_bucket(uri) == bucket
    assert read_bucket(bucket.uri()) == bucket


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://", "it names no bucket"),
        ("s3:///key", "it names no bucket"),
        ("s3://b?endpoint=x", "`endpoint` is no setting"),
        ("s3://b?endpoint_url=h:1", "is no URL"),
        ("s3://b?endpoint_url=file:///x", "is no URL"),
        (f"s3://b?endpoint_url=http://user:{SECRET}@h", "holds credentials"),
        ("gs://b", "`gs` is not known"),
    ],
)
def test_what_names_no_place_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        open_store(uri)
    assert caught.value.hint
    assert SECRET not in caught.value.message


def test_objects_are_found_in_their_bucket_only() -> None:
    assert split_object("s3://b/p/a%20b/?region=r") == ("s3://b?region=r", "p/a b/")
    assert key_in_bucket("s3://b/p", "s3://b/p/a/") == "a/"
    assert key_in_bucket("s3://b/p", "s3://b/p/") is None
    assert key_in_bucket("s3://b", "s3://b/p/a") == "p/a"
    assert key_in_bucket("s3://b/p", "s3://c/p/a") is None
    assert key_in_bucket("s3://b/p", "s3://b/pp/a") is None
    assert key_in_bucket("s3://b/p", "s3://b/p/a?endpoint_url=http://h") is None
    with pytest.raises(StoreError, match="names no object"):
        split_object("s3://b")


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingDependencyError, match="needs boto3") as caught:
        open_store("s3://b")
    assert "pip install boto3" in (caught.value.hint or "")


def failure(uri: str) -> LamellaError:
    with pytest.raises(StoreError) as caught:
        open_store(uri).get("a/b")
    assert caught.value.hint
    assert re.search(r"s3://b/a/b\b", caught.value.message)
    return caught.value


def test_a_server_that_is_not_there_is_unreachable(client: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="lamella")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        error = failure(f"s3://b?endpoint_url=http://127.0.0.1:{held.getsockname()[1]}")
    reason = {"boto3": "EndpointConnectionError", "signed": "ConnectionRefusedError"}[client]
    assert f"cannot be reached: {reason}" in error.message
    assert SECRET not in f"{error.message}{error.hint}{caplog.text}"


@pytest.mark.usefixtures("client")
def test_without_credentials_it_says_where_to_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    error = failure("s3://b?endpoint_url=http://127.0.0.1:1")
    assert error.message.startswith("no credentials for")
    assert "AWS_SECRET_ACCESS_KEY" in (error.hint or "")


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that gives these answers, one a connection, and closes it; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65536)
                    asked.append(request)
                    connection.sendall(answer)

        asked: list[bytes] = []
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)
        assert len(asked) == len(answers)
        assert all(SECRET.encode() not in request for request in asked)


def refusal(status: int, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (404, "NoSuchKey", "there is no object"),
        (404, "NoSuchBucket", "does not exist"),
        (403, "AccessDenied", "refuses"),
        (403, "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
        (418, "Odd", "cannot serve .*: Odd"),
    ],
)
def test_a_refusal_is_said_with_its_reason(status: int, code: str, reason: str) -> None:
    with answering(refusal(status, code)) as url:
        error = failure(f"s3://b?endpoint_url={quote(url)}")
    assert re.search(reason, error.message)


def part(content: bytes, start: int, total: int, *, sent: int) -> bytes:
    head = (
        f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(content)}\r\nConnection: close\r\n"
        f"Content-Range: bytes {start}-{start + len(content) - 1}/{total}\r\n\r\n"
    )
    return head.encode() + content[:sent]


@pytest.mark.usefixtures("client")
def test_a_read_goes_on_where_it_was_interrupted() -> None:
    content = bytes(range(100))
    with answering(part(content, 0, 100, sent=30), part(content[30:], 30, 100, sent=70)) as url:
        buffer = bytearray(100)
        open_store(f"s3://b?endpoint_url={quote(url)}").read_into("a/b", memoryview(buffer))
    assert buffer == content


@pytest.mark.usefixtures("client")
def test_a_read_that_is_interrupted_at_once_is_tried_again_and_then_fails() -> None:
    content = bytes(range(100))
    broken = part(content, 0, 100, sent=0)
    with answering(broken, broken, part(content, 0, 100, sent=100)) as url:
        buffer = bytearray(100)
        open_store(f"s3://b?endpoint_url={quote(url)}").read_into("a/b", memoryview(buffer))
    assert buffer == content
    with answering(*[broken] * 4) as url, pytest.raises(StoreError, match="cannot be reached"):
        open_store(f"s3://b?endpoint_url={quote(url)}").read_into("a/b", memoryview(bytearray(100)))
