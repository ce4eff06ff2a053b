"""The servers that are compared, and how each is started, asked, weighed and ended."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import cast

import numpy as np
from machine import processor_s
from results import ROOT
from serving_client import Job, Load
from serving_models import Array, Subject, answer, request

PEERS = Path(__file__).with_name("peers")
ENVIRONMENTS = ROOT / ".venv-servers"
BATCH = 32
"""Rows of a batch at most, for peers that must be told; their waits are their own defaults."""

_START_S, _END_S = 60.0, 0.3
_LAMELLA = [sys.executable, "-m", "lamella", "serve"]


@dataclass(frozen=True)
class Candidate:
    """A server.

    Attributes:
        label: Its name in tables.
        command: Its command line, for a model, a port and a folder for its files.
        form: How requests are written.
        path: Where they go.
        environment: Its environment in `.venv-servers`; empty: that of this process.
        package: What is imported to use it.
        lonely: Whether it needs a network of its own.
    """

    label: str
    command: Callable[[Subject, int, Path], Sequence[str]]
    form: str
    path: str
    environment: str = ""
    package: str = "lamella"
    lonely: bool = False

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(ENVIRONMENTS / self.environment / "bin" / "python") if self.environment else sys.executable

    @property
    def is_there(self) -> bool:
        """Whether its environment is."""
        return Path(self.python).exists()


def _bin(environment: str, name: str) -> str:
    return str(ENVIRONMENTS / environment / "bin" / name)


def _lamella(subject: Subject, port: int, _folder: Path) -> list[str]:
    return [*_LAMELLA, f"model={subject.path}", "--port", str(port)]


def _unbatched(subject: Subject, port: int, folder: Path) -> list[str]:
    return [*_lamella(subject, port, folder), "--max-batch-size", "1"]


def _script(environment: str) -> Callable[[Subject, int, Path], list[str]]:
    return lambda _subject, _port, _folder: [_bin(environment, "python"), str(PEERS / f"{environment}_app.py")]


def _ray(subject: Subject, port: int, folder: Path) -> list[str]:
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *_script("ray")(subject, port, folder)]
    return ["unshare", "-n", "-p", "-f", "--kill-child", "--mount-proc", *inside]


def _bentoml(_subject: Subject, port: int, _folder: Path) -> list[str]:
    program = "bentoml_app:Model"
    return [_bin("bentoml", "bentoml"), "serve", program, "--port", str(port), "--host", "127.0.0.1"]


def _fastapi(_subject: Subject, port: int, _folder: Path) -> list[str]:
    program = "fastapi_app:app"
    return [_bin("fastapi", "uvicorn"), program, "--port", str(port), "--log-level", "warning", "--no-access-log"]


def _mlserver(subject: Subject, port: int, folder: Path) -> list[str]:
    """Batching on where all requests have one shape: its batches join nothing else."""
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "debug": False}
    batching = {} if subject.mixed else {"max_batch_size": BATCH, "max_batch_time": 0.005}
    model = {"name": "model", "implementation": "mlserver_app.Model", **batching}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [_bin("mlserver", "mlserver"), "start", str(folder)]


_INFER = "/v2/models/model/infer"
LAMELLA, UNBATCHED, BARE = "Lamella", "Lamella, no batching", "ONNX Runtime, no server"
CANDIDATES = (
    Candidate("LitServe", _script("litserve"), "base64", "/predict", "litserve", "litserve"),
    Candidate("BentoML", _bentoml, "base64 items", "/infer", "bentoml", "bentoml"),
    Candidate("Ray Serve", _ray, "bytes", "/", "ray", "ray.serve", lonely=True),
    Candidate("MLServer", _mlserver, "json", _INFER, "mlserver", "mlserver"),
    Candidate("Triton", _script("triton"), "binary", _INFER, "triton", "pytriton.triton"),
    Candidate("FastAPI", _fastapi, "lists", "/predict", "fastapi", "fastapi"),
    Candidate(UNBATCHED, _unbatched, "binary", _INFER),
    Candidate(LAMELLA, _lamella, "binary", _INFER),
)


class Running:
    """A server that runs, with the load's process beside it.

    Args:
        candidate: The server.
        subject: The model it serves.
        threads: For one operator.
        folder: For its files; made.
    """

    def __init__(self, candidate: Candidate, subject: Subject, *, threads: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._candidate, self._folder, self._subject = candidate, folder, subject
        self._port = _free_port()
        self._requests = folder / "requests.pickle"
        every = [request(candidate.form, candidate.path, feeds, subject.output) for feeds in subject.requests]
        self._requests.write_bytes(pickle.dumps(every))
        given = {"MODEL": subject.path, "OUTPUT": subject.output, "THREADS": threads, "PORT": self._port}
        told = {"BATCH": BATCH, "PYTHONPATH": PEERS if candidate.environment else ROOT / "src", "DO_NOT_TRACK": 1}
        quiet = {"BENTOML_DO_NOT_TRACK": True, "RAY_USAGE_STATS_ENABLED": 0, "LAMELLA_THREADS": threads}
        self._variables = os.environ | {name: str(value) for name, value in (given | told | quiet).items()}
        self.started_s = 0.0

    def __enter__(self) -> Running:
        command = self._candidate.command(self._subject, self._port, self._folder)
        with (self._folder / "log").open("ab") as log:
            began = time.monotonic()
            self._process = subprocess.Popen(
                command, cwd=PEERS, env=self._variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            if self._candidate.lonely:
                self._wait_for_network()
            self.started_s = cast("float", self._ask("first", seconds=_START_S)) - began
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def answers(self) -> list[Array]:
        """The answers to all requests, asked at once."""
        told = cast("list[tuple[bytes, bytes]]", self._ask("answers"))
        return [answer(self._candidate.form, head, body) for head, body in told]

    def closed(self, clients: int, seconds: float) -> Load:
        """The load of so many clients that ask again as soon as they are answered."""
        return cast("Load", self._ask("closed", clients=clients, seconds=seconds))

    def open(self, rate: float, seconds: float, seed: int) -> Load:
        """The load of requests at random times, so many a second."""
        return cast("Load", self._ask("open", rate=rate, seconds=seconds, seed=seed))

    def memory_bytes(self) -> int:
        """Resident memory of all its processes; a page that several share is divided among them."""
        return sum(_proportional_bytes(process) for process in self._processes())

    def processor_s(self) -> float:
        """Processor time that its processes have used."""
        return sum(_used_s(process) for process in self._processes())

    def _ask(self, kind: str, **job: float) -> object:
        told = Job(
            kind=kind,
            port=self._port,
            clients=int(job.get("clients", 1)),
            seconds=job.get("seconds", 0),
            rate=job.get("rate", 1),
            seed=int(job.get("seed", 0)),
        )
        place = self._folder / "job.json"
        place.write_text(json.dumps(told))
        inside = ["nsenter", "-t", str(self._process.pid), "-n"] if self._candidate.lonely else []
        program = [sys.executable, str(Path(__file__).with_name("serving_client.py")), str(place), str(self._requests)]
        done = subprocess.run([*inside, *program], capture_output=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace").strip().splitlines()[-1][:300])
        return pickle.loads(done.stdout)  # noqa: S301 - written by `serving_client`

    def _wait_for_network(self) -> None:
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self._process.pid}/ns/net") == own:
            time.sleep(0.001)

    def _processes(self) -> list[int]:
        from lamella.targets.local.process import descendants

        return descendants(self._process.pid)

    def _end(self) -> None:
        """Ask it to end, then kill what is left of it: some take ten seconds, and nothing depends on how they end."""
        every = self._processes()
        self._process.send_signal(signal.SIGTERM if not self._candidate.lonely else signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        for process in every:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()


def _proportional_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _used_s(process: int) -> float:
    try:
        return processor_s(process)
    except OSError:  # it has ended
        return 0.0


def _free_port() -> int:
    """A port with two free ones behind it, most likely: servers take those for what else they speak."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def import_s(candidate: Candidate) -> float:
    """Seconds to import its package, in a new process."""
    program = f"import time; t = time.perf_counter(); import {candidate.package}; print(time.perf_counter() - t)"
    done = subprocess.run([candidate.python, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def bare(subject: Subject, threads: int, seconds: float) -> dict[str, float]:
    """The engine without a server, in a process of its own; see `serving_bare.py`."""
    place = subject.path.with_name(f"{subject.name}-{os.getpid()}.npz")
    np.savez(place, *[one for feeds in subject.requests for one in feeds.values()], allow_pickle=False)
    names = json.dumps(list(subject.requests[0]))
    program = [sys.executable, str(Path(__file__).with_name("serving_bare.py"))]
    try:
        done = subprocess.run(
            [*program, str(subject.path), subject.output, names, str(place), str(threads), str(seconds)],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        place.unlink()
    return cast("dict[str, float]", json.loads(done.stdout))
