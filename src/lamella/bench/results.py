"""What a measurement is: what ran, where, how, and every sample. Summaries, tables and charts are made from it, later.

Whatever measures gives this: the metrics of a deployment, load generators, sweeps over memory sizes. What one of them
does not know is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class FunctionUnderTest:
    """A function that takes part.

    Attributes:
        slice: Its slice.
        function: Its name.
        memory_mb: Its memory.
        sha256: Digest of its package: model, engine and code.
    """

    slice: int
    function: str
    memory_mb: int
    sha256: str


@dataclass(frozen=True)
class Subject:
    """What ran.

    Attributes:
        name: The deployment, or whatever else was measured: `bert@dev`.
        model: Name of the model.
        file: File name of the model.
        version: The version that was live.
        target: Where it runs: `local`, `aws`.
        platform: Whose limits hold and whose prices were taken.
        architecture: What the functions run on.
        engine: What executes the slices.
        delivery: How the model reaches the functions.
        functions: One for each slice.
        scenario: MLPerf's name for how requests arrive; None where they came as they came.
        mode: `performance` or `accuracy`; None likewise.
    """

    name: str
    model: str
    file: str
    version: int | None
    target: str
    platform: str
    architecture: str
    engine: str
    delivery: str
    functions: tuple[FunctionUnderTest, ...]
    scenario: str | None = None
    mode: str | None = None


@dataclass(frozen=True)
class Place:
    """Where it was measured.

    Attributes:
        region: Of a cloud; None on this machine, which the other attributes then describe.
        system: Operating system and its version.
        processor: The processor's name.
        processors: How many there are.
        memory_bytes: The machine's memory.
        python: Python's version.
        versions: Versions of packages, by name.
        commit: The revision of Lamella, where it runs from a repository.
    """

    region: str | None
    system: str
    processor: str
    processors: int
    memory_bytes: int
    python: str
    versions: Mapping[str, str]
    commit: str | None


@dataclass(frozen=True)
class Run:
    """One run of a function in a request. Times are in milliseconds.

    Attributes:
        slice: The function's slice; None for a door.
        function: The function.
        ended_ms: When it had its answer, since 1970.
        duration_ms: From the event to the answer.
        billed_ms: What is charged; None where nobody says.
        memory_mb: The function's memory.
        max_memory_mb: The most that its instance has used so far; None where nobody says.
        init_ms: Starting or restoring the instance; None if it was there.
        usd: What the platform charges for it.
        status: `success`, `error` or `timeout`.
        phases: Milliseconds of its parts, by name, where they were measured.
    """

    slice: int | None
    function: str
    ended_ms: float
    duration_ms: float
    billed_ms: float | None
    memory_mb: float
    max_memory_mb: float | None
    init_ms: float | None
    usd: float | None
    status: str = "success"
    phases: Mapping[str, float] = field(default_factory=dict)

    @property
    def cold_start(self) -> bool:
        """Whether an instance was started for it."""
        return self.init_ms is not None

    @property
    def began_ms(self) -> float:
        """When it, or the start of its instance, began: milliseconds since 1970."""
        return self.ended_ms - self.duration_ms - (self.init_ms or 0.0)


@dataclass(frozen=True)
class Sample:
    """One request. Times are in milliseconds.

    Attributes:
        request: Its id.
        began_ms: When it began, since 1970.
        latency_ms: Until its answer was there.
        status: `success`, or how it ended.
        whole: Whether all of it was seen. Others, such as pings and runs of one slice alone, are counted, and are in no
            summary of requests.
        runs: The functions that ran for it, by time; a slice that was tried again is there again.
        phases: Milliseconds of its parts, by name, where they were measured.
    """

    request: str
    began_ms: float
    latency_ms: float
    status: str
    whole: bool
    runs: tuple[Run, ...]
    phases: Mapping[str, float] = field(default_factory=dict)

    @property
    def cold_start(self) -> bool:
        """Whether it waited for an instance to start."""
        return any(run.cold_start for run in self.runs)

    @property
    def billed_ms(self) -> float:
        """What is charged, all functions together."""
        return sum(run.billed_ms or 0.0 for run in self.runs)

    @property
    def usd(self) -> float:
        """What the platform charges for its functions."""
        return sum(run.usd or 0.0 for run in self.runs)


@dataclass(frozen=True)
class Verdict:
    """Whether the measurement says what it was made for; if not, why not."""

    valid: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """One measurement.

    Attributes:
        kind: What made it: `metrics`, and what else there will be.
        created: When: ISO 8601, UTC.
        subject: What ran.
        place: Where.
        settings: How: spans of time, seeds, warm-ups.
        samples: Every request, by time.
        verdict: Whether it is valid.
    """

    kind: str
    created: str
    subject: Subject
    place: Place
    settings: Mapping[str, Setting]
    samples: tuple[Sample, ...]
    verdict: Verdict
