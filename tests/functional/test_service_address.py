"""Where the service listens, whom it tells so, and how it keeps its token."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

import lamella
from lamella.cli.deployments import service
from lamella.errors import RemoteError
from lamella.gateway.address import Address, ServiceFolder
from lamella.gateway.starting import running_service, started_service, stop_service

ELSEWHERE = "127.0.0.2"
"""An address of this machine that a socket on 127.0.0.1 does not answer at, and one on all addresses does."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "home"
    monkeypatch.setenv("LAMELLA_HOME", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(lamella.__file__).parents[1]))
    monkeypatch.delenv("LAMELLA_HOST", raising=False)
    yield folder
    stop_service(folder)


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def status_of(address: Address, token: str) -> int:
    request = Request(f"{address.url}/v2", headers={"Authorization": f"Bearer {token}"})
    try:
        with urlopen(request, timeout=10) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_host_it_listens_on_loopback_only(
    home: Path, given: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if given is not None:
        monkeypatch.setenv("LAMELLA_HOST", given)
    address = started_service(home)
    assert (address.host, address.is_exposed) == ("127.0.0.1", False)
    assert listens("127.0.0.1", address.port)
    assert not listens(ELSEWHERE, address.port)
    service()
    assert "other machines" not in capsys.readouterr().err
    monkeypatch.setenv("LAMELLA_HOST", "0.0.0.0")
    service()
    said = capsys.readouterr().err
    assert "not on 0.0.0.0" in said
    assert f"kill {address.pid}" in said


def test_a_service_for_other_machines_says_so_each_time(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAMELLA_HOST", "0.0.0.0")
    address = started_service(home)
    assert address.is_exposed
    assert address.url == f"http://127.0.0.1:{address.port}"
    assert listens(ELSEWHERE, address.port)
    assert (status_of(address, address.token), status_of(address, "wrong")) == (200, 401)
    service()
    said = capsys.readouterr().err
    assert "warning: the service listens on 0.0.0.0" in said
    assert "TLS" in said
    assert "WARNING" in ServiceFolder(home).log.read_text()
    assert address.token not in ServiceFolder(home).log.read_text() + said


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="there is no IPv6 here")
@pytest.mark.parametrize("host", ["::", "::1"])
def test_ipv6(home: Path, host: str) -> None:
    address = started_service(home, host=host)
    assert address.url == f"http://[::1]:{address.port}"
    assert address.is_exposed == (host == "::")
    assert status_of(address, address.token) == 200


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_no_interface_is_explained(home: Path, host: str) -> None:
    with pytest.raises(RemoteError, match=f"cannot listen on `{host}`") as caught:
        started_service(home, host=host)
    assert "LAMELLA_HOST" in caught.value.message
    assert "Traceback" not in ServiceFolder(home).log.read_text()


def test_its_files_are_its_users_alone_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        started_service(home)
    finally:
        os.umask(before)
    folder = home / "service"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("token", "address.json", "port", "lock"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize(("kept", "is_taken"), [("", False), ("\n", False), ("of-my-own\n", True)])
def test_a_token_that_was_edited_lets_nobody_else_in(home: Path, kept: str, is_taken: bool) -> None:
    folder = ServiceFolder(home)
    folder.make()
    folder.token_file.write_text(kept)
    address = started_service(home)
    assert (address.token == "of-my-own") == is_taken
    assert status_of(address, "") == 401
    assert status_of(address, address.token) == 200


def test_port_and_token_outlive_the_process(home: Path) -> None:
    first = started_service(home)
    stop_service(home)
    assert running_service(home) is None
    second = started_service(home)
    assert (second.port, second.token) == (first.port, first.token)
    assert second.pid != first.pid
