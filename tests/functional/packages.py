"""Runs a package as a platform would: by a Python that sees the standard library and the package, and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lamella.runtime.payload import Event, decode_answer, encode_event

PROGRAM = """
import json, sys
package = sys.argv[1]
sys.path.insert(0, package)
before = set(sys.modules)
from time import perf_counter
started = perf_counter()
from lamella.runtime.handler import handle
seconds = perf_counter() - started
answers = [handle(json.loads(line), None) for line in sys.stdin]
modules = {
    name: getattr(module, "__file__", None) or ""
    for name, module in list(sys.modules.items())
    if name not in before
}
json.dump({"answers": answers, "seconds": seconds, "modules": modules}, sys.stdout)
"""


def damage(path: Path) -> None:
    """Change a byte in the middle of a file, and nothing that a look at the folder would show."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        (byte,) = file.read(1)
        file.seek(status.st_size // 2)
        file.write(bytes([byte ^ 1]))
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def run_package(folder: Path, *events: Event, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the function in `folder` answers, and the modules that came in."""
    surroundings = {"PATH": os.environ["PATH"], "LAMBDA_TASK_ROOT": str(folder), **(environment or {})}
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, str(folder)],
        input="\n".join(encode_event(event).decode() for event in events),
        capture_output=True,
        text=True,
        check=False,
        env=surroundings,
        cwd=folder,
        timeout=100,
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def run_chain(folders: list[Path], inputs: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Any:
    """Values of all slices, run one after the other, each in a process of its own."""
    values = dict(inputs)
    for folder in folders:
        wanted = [spec["name"] for spec in json.loads((folder / "function.json").read_text())["inputs"]]
        event = Event("a-request", {name: values[name] for name in wanted})
        (answer,) = run_package(folder, event, environment=environment)["answers"]
        values |= {name: np.array(array) for name, array in decode_answer(answer).tensors.items()}
    return values
