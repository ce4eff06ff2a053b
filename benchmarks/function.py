"""One function instance as a process, with the memory and the share of the processors that its size brings.

It loads one slice and answers frames (`lamella.wire`) on a Unix socket, as a function on a platform would over its own
transport: each message is eight bytes of length and the frame. The answer to an empty message is a report, as JSON:
milliseconds of each request since the last one, and the peak of resident memory.

Its files are in the page cache when it starts, and charged to it: they are dropped, and read again by a process in the
same cgroup. So the limit counts them, while the time to read them is not that of this machine's disk.

This file is also the program of that process: python function.py '{"directory": ..., "slice": ..., ...}'
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from cgroup import MB_PER_VCPU, MemoryCgroup, function_cgroup

if TYPE_CHECKING:
    from models import Inputs

    from lamella.wire import Frame
    from lamella.workflow.parts import Source

_LENGTH_BYTES = 8


@dataclass(frozen=True)
class Function:
    """What an instance is made of.

    Attributes:
        directory: A slices directory in which every slice has its own weights.
        slice: Which of them.
        types: Datatypes of the values that it takes and gives.
        memory_mb: Its memory, which decides its share of the processors too.
    """

    directory: Path
    slice: int
    types: Mapping[str, str]
    memory_mb: int

    @property
    def threads(self) -> int:
        """Threads that its share of the processors pays for, at most the processors that there are."""
        return min(max(1, ceil(self.memory_mb / MB_PER_VCPU)), len(os.sched_getaffinity(0)))

    @property
    def files(self) -> list[Path]:
        """The files that it loads."""
        entry = json.loads((self.directory / "slices.json").read_text())["slices"][self.slice]
        names = (entry["file"], *(weight["file"] for weight in entry["weights"]))
        return [self.directory / name for name in dict.fromkeys(names)]


class Report(TypedDict):
    """What an instance says of itself. Memory is the kernel's peak of resident memory since the process started."""

    import_ms: float
    load_ms: float
    request_ms: list[float]
    peak_bytes: int


@dataclass(frozen=True)
class Instance:
    """A running instance.

    Attributes:
        inputs: Names of the values that it takes.
        start_ms: From starting the process until it could take a request.
        process: Its process.
        channel: The way to it.
        cgroup: What limits it.
    """

    inputs: tuple[str, ...]
    start_ms: float
    process: subprocess.Popen[bytes]
    channel: socket.socket
    cgroup: MemoryCgroup

    def infer(self, tensors: Inputs) -> Inputs:
        """One request: a frame there, a frame back.

        Raises:
            FunctionError: The process has ended.
        """
        from lamella.wire import decode, encode

        _send(self.channel, encode(tensors))
        return dict(decode(_answer(self.process, self.channel)))

    def report(self) -> Report:
        """What it measured since the last report."""
        self.channel.sendall(bytes(_LENGTH_BYTES))
        report: Report = json.loads(bytes(_answer(self.process, self.channel)))
        return report


class FunctionError(Exception):
    """An instance ended before its time."""


@contextlib.contextmanager
def started(function: Function) -> Iterator[Instance]:
    """Start an instance in a cgroup of its own, and end it afterwards.

    Raises:
        FunctionError: It ended while it loaded.
        OSError: No cgroup can be made.
    """
    with function_cgroup(function.memory_mb) as cgroup:
        _charge(function.files, cgroup)
        settings = {
            "directory": str(function.directory),
            "slice": function.slice,
            "types": dict(function.types),
            "threads": function.threads,
        }
        with _process(settings, cgroup) as (process, channel, begin):
            ready = json.loads(bytes(_answer(process, channel)))
            yield Instance(tuple(ready["inputs"]), 1000 * (ready["at"] - begin), process, channel, cgroup)


@contextlib.contextmanager
def _process(
    settings: dict[str, object], cgroup: MemoryCgroup
) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, float]]:
    ours, theirs = socket.socketpair()
    begin = time.monotonic()
    process = subprocess.Popen(
        [*cgroup.enter, sys.executable, __file__, json.dumps(settings | {"started": begin})],
        stdin=subprocess.DEVNULL,
        env=os.environ | {"FUNCTION_FD": str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    try:
        with ours:
            yield process, ours, begin
    finally:
        process.kill()
        process.wait()


def _answer(process: subprocess.Popen[bytes], channel: socket.socket) -> memoryview:
    received = _receive(channel)
    if received is None:
        status = process.wait()
        raise FunctionError(f"ended with status {status}{', killed: over its memory?' if status == -9 else ''}")
    return received


def _charge(files: Sequence[Path], cgroup: MemoryCgroup) -> None:
    """Bring files into the page cache so that the cgroup is charged with them."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    subprocess.run([*cgroup.enter, "cat", *map(str, files)], stdout=subprocess.DEVNULL, check=True)


def _send(channel: socket.socket, frame: Frame) -> None:
    parts = [len(frame.header).to_bytes(4, "little"), frame.header, *frame.buffers]
    channel.sendall(sum(len(part) for part in parts).to_bytes(_LENGTH_BYTES, "little"))
    for part in parts:
        channel.sendall(part)


def _receive(channel: socket.socket) -> memoryview | None:
    """The next message; None where the other side has gone."""
    length = _read(channel, _LENGTH_BYTES)
    return None if length is None else _read(channel, int.from_bytes(length, "little"))


def _read(channel: socket.socket, size: int) -> memoryview | None:
    view = memoryview(bytearray(size))
    position = 0
    while position < size:
        count = channel.recv_into(view[position:])
        if not count:
            return None
        position += count
    return view


def serve(settings: dict[str, object], channel: socket.socket) -> None:
    """Load a slice, say so, and answer until the other side goes."""
    import lamella.engines.onnxruntime  # noqa: F401  # a part of the imports, not of the load
    from lamella.runtime.memory import peak_rss_bytes
    from lamella.wire import decode, encode
    from lamella.workflow.pipeline import Pipeline

    imported = time.monotonic()
    pipeline = Pipeline(_only(settings), threads=int(str(settings["threads"])))
    ready = time.monotonic()
    _send_json(channel, {"at": ready, "inputs": [spec.name for spec in pipeline.inputs]})
    request_ms: list[float] = []
    while (message := _receive(channel)) is not None:
        if message:
            begin = time.perf_counter()
            outputs = pipeline.infer(decode(message))
            _send(channel, encode(outputs, kind="outputs"))
            request_ms.append(1000 * (time.perf_counter() - begin))
            continue
        report: Report = {
            "import_ms": 1000 * (imported - float(str(settings["started"]))),
            "load_ms": 1000 * (ready - imported),
            "request_ms": [round(value, 3) for value in request_ms],
            "peak_bytes": peak_rss_bytes(),
        }
        request_ms.clear()
        _send_json(channel, report)


def _only(settings: dict[str, object]) -> Source:
    """One slice of a slices directory as something that a pipeline runs."""
    from dataclasses import replace

    from lamella.tensors import TensorSpec
    from lamella.workflow.parts import open_source

    source = open_source(Path(str(settings["directory"])))
    part = source.parts[int(str(settings["slice"]))]
    types: dict[str, str] = dict(settings["types"])  # type: ignore[call-overload]
    specs = {name: TensorSpec(name, types[name], None) for name in (*part.inputs, *part.outputs)}
    return replace(
        source,
        inputs=tuple(specs[name] for name in part.inputs),
        optional_inputs=(),
        outputs=tuple(specs[name] for name in part.outputs),
        parts=(part,),
    )


def _send_json(channel: socket.socket, content: Mapping[str, object]) -> None:
    data = json.dumps(content).encode()
    channel.sendall(len(data).to_bytes(_LENGTH_BYTES, "little") + data)


if __name__ == "__main__":
    with socket.socket(fileno=int(os.environ.pop("FUNCTION_FD"))) as _channel:
        serve(json.loads(sys.argv[1]), _channel)
