"""`MODEL.profile.json`: how long each operator of a model took on some machine, and how fast that machine is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lamella.errors import PlanError
from lamella.graph.model import Model
from lamella.planner.plan import structure_sha256

SCHEMA = "lamella.profile/1"

_MOST_BYTES = 64 << 20
_AGAIN = "measure it again with `lamella plan --profile`"


@dataclass(frozen=True)
class Machine:
    """The machine that a profile was measured on.

    Attributes:
        processor: Its processor's name, as the system gives it.
        gflops: 10^9 floating-point operations a second in a large FP32 convolution, on as many threads.
        memory_gb_s: 10^9 bytes a second that an element-wise operator reads and writes, likewise.
        floor_bytes: Resident memory of a process with Python, NumPy and the engine, and no model.
        runtime_ms: Starting such a process: Python and its imports.
    """

    processor: str
    gflops: float
    memory_gb_s: float
    floor_bytes: int
    runtime_ms: float


@dataclass(frozen=True)
class Profile:
    """One model, measured on one machine.

    With one thread, times are those of the processor: neither a limit on its share nor what else runs there counts.

    Attributes:
        structure_sha256: Digest of everything in the model but its large weights.
        machine: The machine.
        versions: Of `lamella`, `onnxruntime` and `python`.
        threads: Threads for one operator.
        dims: Sizes of the symbolic dimensions.
        rounds: Runs that the median is of.
        measured_ms: Median time of one run of the whole model, with every optimisation.
        node_ms: The part of that of each node of the main graph, by its index.
        session_ms: Creating the session, with the weights in the page cache.
        resident_bytes: Memory that the session takes after these runs, beyond the process's own: what it needs.
        peak_bytes: The most that was resident, likewise, with the pages of the model's file that loading reads through;
            the system takes those back where memory is short.
    """

    structure_sha256: str
    machine: Machine
    versions: Mapping[str, str]
    threads: int
    dims: Mapping[str, int]
    rounds: int
    measured_ms: float
    node_ms: tuple[float, ...]
    session_ms: float
    resident_bytes: int
    peak_bytes: int


def profile_path(model_path: str | Path) -> Path:
    """Where the profile of a model lies: beside it, under its name."""
    return Path(model_path).with_suffix(".profile.json")


def write_profile(profile: Profile, path: str | Path) -> None:
    """Write a profile as JSON, for `lamella.planner.profile.schema.json`."""
    Path(path).write_text(json.dumps({"schema": SCHEMA, **asdict(profile)}, indent=1) + "\n")


def read_profile(path: str | Path, model: Model) -> Profile:
    """Read the profile of `model`.

    Raises:
        PlanError: The file cannot be read, is no profile, or is one of another model; callers that need none may go on
            without it.
    """
    try:
        size = Path(path).stat().st_size
        if size > _MOST_BYTES:
            raise PlanError(f"`{path}` has {size} bytes, more than {_MOST_BYTES}", hint="it is no profile")
        content = json.loads(Path(path).read_text())
        if content["schema"] != SCHEMA:
            raise PlanError(f"`{path}` has schema {content['schema']!r}, not {SCHEMA!r}", hint=_AGAIN)
        profile = _profile_from(content)
    except OSError as error:
        raise PlanError(f"`{path}` cannot be read: {error.strerror}", hint=_AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise PlanError(f"`{path}` is no profile: {reason}", hint=_AGAIN) from error
    if profile.structure_sha256 != structure_sha256(model) or len(profile.node_ms) != len(model.graph.nodes):
        raise PlanError(f"`{path}` is not the profile of `{model.path}` as it is now", hint=_AGAIN)
    return profile


def _profile_from(content: Mapping[str, object]) -> Profile:
    machine = _mapping(content["machine"])
    nodes = content["node_ms"]
    if not isinstance(nodes, list):
        raise TypeError("`node_ms` is no list")
    return Profile(
        structure_sha256=str(content["structure_sha256"]),
        machine=Machine(
            processor=str(machine["processor"]),
            gflops=_positive(machine["gflops"]),
            memory_gb_s=_positive(machine["memory_gb_s"]),
            floor_bytes=_count(machine["floor_bytes"]),
            runtime_ms=_time(machine["runtime_ms"]),
        ),
        versions={name: str(version) for name, version in _mapping(content["versions"]).items()},
        threads=_count(content["threads"]),
        dims={name: _count(size) for name, size in _mapping(content["dims"]).items()},
        rounds=_count(content["rounds"]),
        measured_ms=_time(content["measured_ms"]),
        node_ms=tuple(_time(node) for node in nodes),
        session_ms=_time(content["session_ms"]),
        resident_bytes=_count(content["resident_bytes"]),
        peak_bytes=_count(content["peak_bytes"]),
    )


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {type(value).__name__}")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"a count was expected, not {value!r:.40}")
    return value


def _time(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= float(value) < float("inf"):  # type: ignore[arg-type]
        raise TypeError(f"a time was expected, not {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def _positive(value: object) -> float:
    found = _time(value)
    if found == 0:
        raise ValueError("a machine of speed 0")
    return found
