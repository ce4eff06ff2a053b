"""SQL servers, each in processes of its own on the loopback interface, with a folder and an account of its own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER, PASSWORD = "lamella", "very/s:ecret"
QUOTED = "very%2Fs%3Aecret"
_PATIENCE_S = 60
_MARIADB_ACCOUNT = (
    f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
    "CREATE DATABASE results CHARACTER SET latin1;\n"  # not that of the keys
    f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
)


def postgresql_programs() -> Path | None:
    """The folder of PostgreSQL's programs, where Debian has them; None if it is not installed."""
    return next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)


def lacking(kind: str) -> str | None:
    """What has to be installed for a server; None if it is there."""
    if kind == "postgresql":
        return None if postgresql_programs() else "postgresql"
    return None if shutil.which("mariadbd") else "mariadb-server"


@contextmanager
def sql_server(kind: str) -> Iterator[str]:
    """A URL with the account and its password, without a table.

    Servers refuse to run for root, and their account must reach their folder, so that it is none of pytest's.
    """
    folder = Path(tempfile.mkdtemp(prefix="lamella-sql-"))
    try:
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            os.chown(folder, account.pw_uid, account.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with {"postgresql": _postgresql, "mariadb": _mariadb}[kind](folder, port) as database:
            yield f"{kind}://{USER}:{QUOTED}@127.0.0.1:{port}/{database}"
    finally:
        shutil.rmtree(folder)


@contextmanager
def _postgresql(folder: Path, port: int) -> Iterator[str]:
    programs, secret = postgresql_programs(), folder / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data = str(folder / "data")
    made = ("--auth", "scram-sha-256", "--username", USER, "--pwfile", str(secret), "--no-sync", "--encoding", "UTF8")
    _run(folder, f"{programs}/initdb", "--pgdata", data, *made)
    settings = (f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off")
    with _process(folder, f"{programs}/postgres", "-D", data, *(word for pair in settings for word in ("-c", pair))):
        _awaited(port, folder)
        yield "postgres"


@contextmanager
def _mariadb(folder: Path, port: int) -> Iterator[str]:
    script, data = folder / "account.sql", f"--datadir={folder}/data"
    script.write_text(_MARIADB_ACCOUNT)
    script.chmod(0o644)
    _run(folder, "mariadb-install-db", "--no-defaults", data, "--skip-test-db")
    places = (f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--init-file={script}")
    with _process(
        folder,
        "mariadbd",
        "--no-defaults",
        data,
        *places,
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--skip-log-bin",
        "--skip-name-resolve",
    ):
        _awaited(port, folder)
        yield "results"


def _account() -> dict[str, str]:
    return {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}


def _run(folder: Path, *command: str) -> None:
    with (folder / "log").open("ab") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, cwd=folder, timeout=_PATIENCE_S, **_account())


@contextmanager
def _process(folder: Path, *command: str) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **_account())
        try:
            yield
        finally:
            process.send_signal(
                signal.SIGINT if "postgres" in command[0] else signal.SIGTERM
            )  # for PostgreSQL, its fast end
            try:
                process.wait(_PATIENCE_S)
            finally:
                process.kill()


def _awaited(port: int, folder: Path) -> None:
    """Until it takes requests: PostgreSQL listens before that."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    name = "postgresql+psycopg" if (folder / "secret").exists() else "mariadb+pymysql"
    database = "postgres" if (folder / "secret").exists() else "results"
    engine = create_engine(f"{name}://{USER}:{QUOTED}@127.0.0.1:{port}/{database}", poolclass=NullPool)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            engine.connect().close()
        except SQLAlchemyError as error:
            if time.monotonic() > deadline:
                raise AssertionError((folder / "log").read_text()[-2000:]) from error
            time.sleep(0.05)
        else:
            return
