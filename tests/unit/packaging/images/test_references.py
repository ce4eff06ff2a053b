"""Names of images, and who logs in."""

import base64
import json
from pathlib import Path

import pytest

from lamella.errors import PackageError, RegistryError, UsageError
from lamella.packaging.images.blobs import descriptor_of
from lamella.packaging.images.credentials import Credentials, find_credentials
from lamella.packaging.images.references import Reference, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("public.ecr.aws/lambda/python:3.13", Reference("public.ecr.aws", "lambda/python", "3.13")),
        ("localhost:5000/a/b_c", Reference("localhost:5000", "a/b_c")),
        ("localhost/a", Reference("localhost", "a")),
        ("[::1]:5000/a:1", Reference("[::1]:5000", "a", "1")),
        (f"127.0.0.1:80/a:v1@{DIGEST}", Reference("127.0.0.1:80", "a", "v1", DIGEST)),
        ("python:3.13-slim", Reference("docker.io", "library/python", "3.13-slim")),
        ("user/image", Reference("docker.io", "user/image")),
        (
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/bert:slice-0",
            Reference("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "team/bert", "slice-0"),
        ),
    ],
)
def test_names_are_read_as_docker_reads_them(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


def test_a_reference_asks_for_its_digest_else_its_tag() -> None:
    assert parse_reference(f"a.b/c:1@{DIGEST}").manifest == DIGEST
    assert parse_reference("a.b/c:1").manifest == "1"
    assert parse_reference("a.b/c").manifest == "latest"
    assert parse_reference("python").address == "registry-1.docker.io"
    assert str(parse_reference(f"a.b/c:1@{DIGEST}")) == f"a.b/c:1@{DIGEST}"


@pytest.mark.parametrize(
    "text", ["", "a.b/", "A/b", "a.b/C", "a.b/c:", "a.b/c@sha256:12", "a.b/../c", "a.b/c d", "a.b//c", "https://a.b/c"]
)
def test_what_names_no_image_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no image"):
        parse_reference(text)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {"digest": "sha256:../../etc/passwd", "size": 1},
        {"digest": "sha512:" + "0" * 128, "size": 1},
        {"digest": DIGEST, "size": -1},
        {"digest": DIGEST, "size": True},
        {"digest": DIGEST, "size": 1, "annotations": []},
        {"digest": DIGEST, "size": 1, "annotations": ["x"]},
    ],
)
def test_damaged_descriptors_are_refused(entry: object) -> None:
    if entry == {"digest": DIGEST, "size": 1, "annotations": []}:
        assert descriptor_of(entry).annotations == {}
        return
    with pytest.raises(PackageError):
        descriptor_of(entry)


@pytest.fixture
def logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in which nobody has logged in; where `docker login` would write."""
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path / "config.json"


def test_who_logged_in_with_docker_is_found(logins: Path) -> None:
    assert find_credentials("a.b") is None
    auth = base64.b64encode(b"me:pass:word").decode()
    logins.write_text(json.dumps({"auths": {"a.b": {"auth": auth}, "https://index.docker.io/v1/": {"auth": auth}}}))
    assert find_credentials("a.b") == Credentials("me", "pass:word")
    assert find_credentials("registry-1.docker.io") == Credentials("me", "pass:word")
    assert find_credentials("other") is None
    assert "word" not in repr(find_credentials("a.b"))


def test_a_credential_helper_is_asked(logins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logins.write_text(json.dumps({"credHelpers": {"a.b": "of-test", "c.d": "missing"}}))
    helper = tmp_path / "docker-credential-of-test"
    helper.write_text('#!/bin/sh\nread name\necho "{\\"Username\\": \\"$name\\", \\"Secret\\": \\"$1\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_credentials("a.b") == Credentials("a.b", "get")
    with pytest.raises(RegistryError, match=r"`docker-credential-missing` gives no credentials for `c\.d`"):
        find_credentials("c.d")


def test_a_damaged_file_says_so(logins: Path) -> None:
    logins.write_text("{")
    with pytest.raises(RegistryError, match="cannot be read"):
        find_credentials("a.b")
