"""S3 servers, each in processes of its own on the loopback interface."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

ACCESS_KEY, SECRET_KEY = "AKIATEST", "very-secret"
CEPH_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_PATIENCE_S = 60
_Found = TypeVar("_Found")
_ALLOWED = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")

_CEPH = """
[global]
fsid = 00000000-0000-4000-8000-000000000000
mon host = [v2:127.0.0.1:{monitor}/0]
mon initial members = a
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
auth allow insecure global id reclaim = false
mon allow pool size one = true
mon data avail crit = 1
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
run dir = {folder}
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw data = {folder}/rgw
"""


@contextmanager
def moto_server(folder: Path) -> Iterator[str]:
    """The URL of moto's server."""
    log = folder / "moto.log"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with _process(command, log):
        found = _awaited(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()), log)
        yield found[0]


@contextmanager
def ceph_gateway(folder: Path) -> Iterator[str]:
    """The URL of a Ceph RADOS gateway in front of a cluster of one monitor and one store in memory."""
    monitor, gateway = _free_port(), _free_port()
    (folder / "ceph.conf").write_text(_CEPH.format(folder=folder, monitor=monitor, gateway=gateway))
    (folder / "osd").mkdir()
    map_file, keyring, log = str(folder / "monmap"), str(folder / "keyring"), folder / "log"
    configured = ["-c", str(folder / "ceph.conf")]

    def run(*command: str) -> None:
        with log.open("ab") as output:
            subprocess.run([*command, *configured], check=True, stdout=output, stderr=output, timeout=_PATIENCE_S)

    run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{monitor}]", "--fsid", _fsid(), map_file)
    run("ceph-authtool", keyring, "--create-keyring")
    for entity in ("mon.", "client.admin", "osd.0"):
        run("ceph-authtool", keyring, "--gen-key", "-n", entity, *_ALLOWED)
    run("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file, "--keyring", keyring)
    with ExitStack() as started:
        started.enter_context(_process(["ceph-mon", "-i", "a", "-f", *configured], log))
        run("ceph", "--connect-timeout", "30", "osd", "create")
        run("ceph-osd", "-i", "0", "--mkfs")
        started.enter_context(_process(["ceph-osd", "-i", "0", "-f", *configured], log))
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        run("radosgw-admin", "user", "create", "--uid", "test", "--display-name", "test", *keys)
        started.enter_context(_process(["radosgw", "-f", "-n", "client.admin", *configured], log))
        _awaited(lambda: _answers(gateway), log)
        yield f"http://127.0.0.1:{gateway}"


def make_bucket(url: str) -> str:
    """The URI of a new bucket."""
    import boto3

    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket="bucket-of-tests")
    return f"s3://bucket-of-tests?endpoint_url={quote(url, safe='')}"


def lacking_for_ceph() -> list[str]:
    """Programs that the gateway needs and that are not installed here."""
    return [program for program in CEPH_PROGRAMS if shutil.which(program) is None]


def _fsid() -> str:
    found = re.search(r"fsid = (\S+)", _CEPH)
    assert found is not None
    return found[1]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    surroundings = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=surroundings)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def _awaited(condition: Callable[[], _Found | None], log: Path) -> _Found:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
