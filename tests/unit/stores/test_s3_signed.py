"""What functions ask S3 for, how they sign it, what they try again, and what they do not believe."""

import datetime as dt
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import parse_headers
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lamella.errors import StoreError
from lamella.stores import connections, s3_requests
from lamella.stores.addresses import address_of, object_address
from lamella.stores.bucket import Bucket, read_bucket
from lamella.stores.opening import open_store
from lamella.stores.s3_parts import PART_BYTES
from lamella.stores.s3_signed import SignedS3Store
from lamella.stores.s3_xml import BadXmlError, read_xml

KEY, SECRET, TOKEN = "AKIATEST", "wJalrXUtnFEMI-very-secret", "token/with+signs=="


@pytest.fixture(autouse=True)
def in_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    for name, value in {**values, "AWS_REGION": "eu-central-1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "lamella.stores.s3", None)
    monkeypatch.setattr(s3_requests, "_FIRST_PAUSE_S", 0.001)


@contextmanager
def serving(*answers: bytes) -> Iterator[tuple[SignedS3Store, list[bytes]]]:
    """A store whose server gives these answers, and what it was asked.

    It takes a new connection when the last one is closed, by it after an answer that says so, or by whoever asks.
    """
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            left = list(answers)
            while left:
                connection, _ = server.accept()
                with connection, connection.makefile("rb") as lines:
                    while left and (request := _request(lines)):
                        asked.append(request)
                        answer = left.pop(0)
                        connection.sendall(answer)
                        if b"Connection: close" in answer:
                            break

        thread = Thread(target=serve, daemon=True)
        thread.start()
        store = open_store(f"s3://b/p?endpoint_url={quote(f'http://127.0.0.1:{server.getsockname()[1]}')}")
        assert isinstance(store, SignedS3Store)
        yield store, asked
        thread.join(10)
    assert len(asked) == len(answers)
    assert all(SECRET.encode() not in request for request in asked)


def _request(lines: Any) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = lines.readline()
        if not line:
            return b""
        head += line
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return head + (lines.read(int(length[1])) if length else b"")


def answer(status: int, body: bytes = b"", *headers: str, closes: bool = False) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, *["Connection: close"] * closes]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(status: int, code: str, *headers: str) -> bytes:
    return answer(status, f"<Error><Code>{code}</Code></Error>".encode(), *headers)


def ranged(content: bytes, start: int = 0) -> bytes:
    return answer(206, content, f"Content-Range: bytes {start}-{start + len(content) - 1}/100")


def page(*keys: str, token: str = "") -> bytes:
    found = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-11-21T09:05:07.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
        f"<Size>3</Size><Owner><ID>1</ID></Owner></Contents>"
        for key in keys
    )
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return answer(200, f"<ListBucketResult><EncodingType>url</EncodingType>{more}{found}</ListBucketResult>".encode())


def their_authorization(request: bytes) -> tuple[str, str]:
    """What botocore signs the same request with, and what it was signed with."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, _, rest = head.partition(b"\r\n")
    method, target, _ = line.decode().split()
    headers = dict(parse_headers(BytesIO(rest + b"\r\n\r\n")).items())
    signed = re.search("SignedHeaders=([^,]+)", headers["Authorization"])
    assert signed is not None
    given = {n: v for n, v in headers.items() if n.lower() in signed[1].split(";") and not n.lower().startswith("host")}
    moment = dt.datetime.fromisoformat(given.pop("X-Amz-Date")).replace(tzinfo=None)  # as theirs gives it to itself
    theirs = AWSRequest(method, f"http://{headers['Host']}{target}", headers=given, data=body)
    with patch("botocore.auth.get_current_datetime", return_value=moment):
        S3SigV4Auth(TheirCredentials(KEY, SECRET, TOKEN), "s3", "eu-central-1").add_auth(theirs)
    return theirs.headers["Authorization"], headers["Authorization"]


def test_every_request_is_signed_as_botocore_signs_it() -> None:
    key = "a b+c&d=e?f#g%20h%25/größe~(1)*.txt"
    with serving(
        answer(200), answer(200), ranged(b"xyz"), answer(200), page("p/a", token="t+/="), page("p/b"), answer(204)
    ) as (store, asked):
        store.put(key, b"content", memoryview(b"more"))
        assert store.create(key, b"")
        store.read_into(key, memoryview(bytearray(3)))
        assert store.size(key) == 0
        assert [entry.key for entry in store.list("a /+")] == ["a", "b"]
        store.delete(key)
    for request in asked:
        theirs, ours = their_authorization(request)
        assert ours == theirs
        assert b"X-Amz-Security-Token: " + TOKEN.encode() in request
    assert asked[0].endswith(b"\r\n\r\ncontentmore")
    assert asked[0].startswith(
        b"PUT /b/p/a%20b%2Bc%26d%3De%3Ff%23g%2520h%2525/gr%C3%B6%C3%9Fe~%281%29%2A.txt HTTP/1.1\r\n"
    )
    assert b"continuation-token=t%2B%2F%3D" in asked[5]


def test_one_connection_serves_one_request_after_the_other() -> None:
    with serving(answer(200, b"1"), refusal(404, "NoSuchKey"), answer(204), answer(200, b"2")) as (store, asked):
        assert store.get("a") == b"1"
        with pytest.raises(StoreError, match="there is no object"):
            store.get("b")
        store.delete("b")
        assert store.get("a") == b"2"
    assert len(asked) == 4  # the server takes a second connection only where the first is closed


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    silent = answer(200, b"1").replace(b"\r\n\r\n", b"\r\nX: Connection: close\r\n\r\n")  # closes without saying so
    with serving(silent, answer(200, b"2")) as (store, _):
        assert [store.get("a"), store.get("a")] == [b"1", b"2"]


@pytest.mark.parametrize(
    "passing",
    [
        refusal(503, "SlowDown"),
        refusal(429, "TooManyRequests"),
        refusal(400, "RequestTimeout"),
        refusal(500, "InternalError"),
        answer(502, b"<html>bad gateway"),
        answer(200, b"1234567890", closes=True)[:-5],
        b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Le",
        b"SSH-2.0-x\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_passes_is_tried_again_and_then_said(passing: bytes) -> None:
    closing = (
        passing if b"Connection: close" in passing else passing.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    )
    with serving(closing, closing, closing, answer(200, b"1")) as (store, _):
        assert store.get("a") == b"1"
    with serving(*[closing] * 4) as (store, _), pytest.raises(StoreError, match=r"s3://b/p/a\?") as caught:
        store.get("a")
    assert caught.value.hint
    assert SECRET not in f"{caught.value.message}{caught.value.hint}"


def test_a_refusal_is_not_tried_again() -> None:
    with (
        serving(refusal(403, "AccessDenied")) as (store, _),
        pytest.raises(StoreError, match=r"refuses .*AccessDenied"),
    ):
        store.put("a", b"1")


def test_the_reason_is_told_though_the_body_was_not_read() -> None:
    """A server may answer, and close, before it has read what is sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(refusal(403, "AccessDenied", "Connection: close"))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

        thread = Thread(target=serve, daemon=True)
        thread.start()
        store = open_store(f"s3://b?endpoint_url={quote(f'http://127.0.0.1:{server.getsockname()[1]}')}")
        with pytest.raises(StoreError, match="AccessDenied"):
            store.put("a", bytes(20 << 20))
        thread.join(10)


def test_a_lost_answer_to_a_creation_is_found_to_be_its_own() -> None:
    with serving(answer(500, closes=True), refusal(412, "PreconditionFailed"), answer(200, b"1")) as (store, asked):
        assert store.create("a", b"1")
    assert [request.split()[0] for request in asked] == [b"PUT", b"PUT", b"GET"]
    with serving(refusal(412, "PreconditionFailed"), answer(200, b"2")) as (store, _):
        assert not store.create("a", b"1")
    with serving(refusal(409, "ConditionalRequestConflict"), answer(200)) as (store, _):
        assert store.create("a", b"1")


def begun() -> bytes:
    return answer(200, b"<InitiateMultipartUploadResult><UploadId>u+1</UploadId></InitiateMultipartUploadResult>")


def test_an_upload_whose_end_fails_is_tried_again_and_then_given_up() -> None:
    failed = answer(200, b"<Error><Code>InternalError</Code></Error>")
    closing = [answer(200, b"", 'ETag: "&1"', closes=True)] * 2
    done = answer(200, b"<CompleteMultipartUploadResult/>")
    content = memoryview(bytes(PART_BYTES + 1))
    with serving(begun().replace(b"200 X", b"200 X\r\nConnection: close"), *closing, failed, done) as (store, asked):
        store.put("a", content)
    assert b"partNumber=1&uploadId=u%2B1" in asked[1] + asked[2]
    assert asked[4].endswith(b'<Part><PartNumber>2</PartNumber><ETag>"&amp;1"</ETag></Part></CompleteMultipartUpload>')
    broken = begun().replace(b"200 X", b"200 X\r\nConnection: close")
    answers, told = (broken, *closing, *[failed] * 4, answer(204)), r"cannot serve .*: InternalError"
    with serving(*answers) as (store, asked), pytest.raises(StoreError, match=told):
        store.put("a", content)
    assert asked[-1].startswith(b"DELETE /b/p/a?uploadId=u%2B1 ")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (ranged(b"0123", start=8), "another range"),
        (answer(200, b"0123456789"), "another range"),
        (answer(206, b"0123"), "another range"),
        (refusal(416, "InvalidRange"), "ends before byte"),
    ],
)
def test_bytes_of_another_range_are_not_taken(given: bytes, reason: str) -> None:
    with serving(given) as (store, _), pytest.raises(StoreError, match=reason):
        store.read_into("a", memoryview(bytearray(4)), offset=4)


def test_more_than_was_asked_for_does_not_leave_the_buffer() -> None:
    buffer = bytearray(6)
    with serving(ranged(b"0123456789"), answer(200, b"next")) as (store, _):
        store.read_into("a", memoryview(buffer)[1:5])
        assert store.get("a") == b"next"
    assert buffer == b"\x000123\x00"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>', "declares a document type"),
        (b"<ListBucketResult><Contents>", "not well-formed"),
        (b"", "not well-formed"),
        ("<!DOCTYPE x><ListBucketResult/>".encode("utf-16"), "declares a document type"),
        (b"<a>" * 20 + b"</a>" * 20, "too large"),
        (b"<a>" + b"<b/>" * 50_001 + b"</a>", "too large"),
        (b" " * (8 << 20) + b"<a/>", "too large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_xml_that_is_not_s3_s_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(BadXmlError, match=reason):
        read_xml(body)
    told = f"its answer is not S3's: .*{reason}"
    with serving(answer(200, body, closes=True)) as (store, _), pytest.raises(StoreError, match=told) as caught:
        list(store.list())
    assert caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"<Size>3", b"<Size>-", "a size that is none"),
        (b"2026-11-21T", b"yesterday--", "a time that is none"),
    ],
)
def test_a_listing_with_odd_values_is_refused(old: bytes, new: bytes, reason: str) -> None:
    with serving(page("p/a").replace(old, new)) as (store, _), pytest.raises(StoreError, match=reason):
        list(store.list())


def test_a_listing_that_does_not_go_on_ends() -> None:
    pages = (page("p/a", token="t"), page("p/b", token="t"))
    with serving(*pages) as (store, _), pytest.raises(StoreError, match="does not go on"):
        list(store.list())


@pytest.mark.parametrize(
    ("uri", "region", "address"),
    [
        ("s3://models", "eu-central-1", "https://models.s3.eu-central-1.amazonaws.com"),
        ("s3://models?region=cn-north-1", "cn-north-1", "https://models.s3.cn-north-1.amazonaws.com.cn"),
        ("s3://my.models", "us-east-1", "https://s3.us-east-1.amazonaws.com/my.models"),
        ("s3://MODELS", "us-east-1", "https://s3.us-east-1.amazonaws.com/MODELS"),
        ("s3://evil.example%23", "us-east-1", "https://s3.us-east-1.amazonaws.com/evil.example%2523"),
        ("s3://models?endpoint_url=http://h:1/s3/", "us-east-1", "http://h:1/s3/models"),
        ("s3://models?endpoint_url=http://[::1]:1", "us-east-1", "http://[::1]:1/models"),
    ],
)
def test_a_bucket_is_asked_where_it_is(uri: str, region: str, address: str) -> None:
    assert address_of(read_bucket(uri), region) == address


def test_the_environment_names_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all/")
    assert object_address(Bucket("b"), "r", "a b") == "http://all/b/a%20b"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    assert object_address(Bucket("b"), "r", "a") == "http://s3/b/a"
    assert object_address(Bucket("b", endpoint_url="http://own"), "r", "a") == "http://own/b/a"


def test_a_bucket_in_another_region_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS answers, from a server that stands in for all of its regions; several threads learn it at once."""
    asked, both = [], Barrier(2)
    moved = refusal(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1", "Connection: close")
    found = answer(200, b"1", closes=True)
    with serving(moved, moved, found, found, found) as (at, seen), ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(s3_requests, "endpoint_of", lambda _: None)

        def address(bucket: Bucket, region: str, key: str) -> str:
            if region == "eu-central-1":
                both.wait(10)
            asked.append(region)
            return object_address(bucket, region, key)

        monkeypatch.setattr(s3_requests, "object_address", address)
        assert list(pool.map(at.get, ["a", "a"])) == [b"1", b"1"]
        assert at.get("a") == b"1"
    assert sorted(asked) == ["eu-central-1"] * 2 + ["eu-west-1"] * 3
    assert b"/eu-west-1/s3/aws4_request" in seen[-1]


def test_a_server_of_one_s_own_moves_nobody() -> None:
    moved = refusal(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1")
    with serving(moved) as (store, _), pytest.raises(StoreError, match="PermanentRedirect"):
        store.get("a")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of this machine that nobody else has signed, with its key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(built.public_bytes(Encoding.PEM) + secret)
    return path


@pytest.mark.parametrize("trusted", [True, False])
def test_a_server_must_show_a_certificate_that_is_trusted(
    trusted: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_context", connections._context.__wrapped__)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate) if trusted else "")
    context, accepted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            plain, _ = server.accept()
            accepted.append(plain)
            with plain, suppress(ssl.SSLError), context.wrap_socket(plain, server_side=True) as connection:
                with connection.makefile("rb") as lines:
                    _request(lines)
                connection.sendall(answer(200, b"1", closes=True))

        thread = Thread(target=serve, daemon=True)
        thread.start()
        store = open_store(f"s3://b?endpoint_url={quote(f'https://127.0.0.1:{server.getsockname()[1]}')}")
        if trusted:
            assert store.get("a") == b"1"
        else:
            with pytest.raises(StoreError, match="cannot be reached: SSLCertVerificationError"):
                store.get("a")
        thread.join(10)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # it was asked once
            server.accept()
    assert len(accepted) == 1
