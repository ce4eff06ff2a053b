"""Where the time of a function goes: its INIT phase once, and each request's phases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

Phase = Literal["fetch_ms", "decode_ms", "infer_ms", "encode_ms", "put_ms"]


@dataclass(frozen=True, slots=True)
class InitTiming:
    """Milliseconds of the INIT phase.

    Attributes:
        import_ms: Importing NumPy, the engine and Lamella.
        weights_ms: Fetching weights from an object store; 0 where they lie in the package or on a mount.
        session_ms: Loading the slice into the engine, which maps its weights.
    """

    import_ms: float
    weights_ms: float
    session_ms: float


@dataclass(slots=True)
class Timing:
    """Milliseconds of one request inside the function.

    Attributes:
        fetch_ms: Reading tensors that came by reference.
        decode_ms: From the event to arrays.
        infer_ms: The engine.
        encode_ms: From arrays to the answer.
        put_ms: Writing tensors that go by reference.
        cold_start: Whether this is the first request of its instance.
        init: The INIT phase, with that first request only.
        put_bytes: Bytes of tensors that went by reference.
    """

    fetch_ms: float = 0.0
    decode_ms: float = 0.0
    infer_ms: float = 0.0
    encode_ms: float = 0.0
    put_ms: float = 0.0
    cold_start: bool = False
    init: InitTiming | None = None
    put_bytes: int = 0

    @contextmanager
    def measure(self, phase: Phase) -> Iterator[None]:
        """Add the time inside to a phase."""
        started = perf_counter()
        try:
            yield
        finally:
            setattr(self, phase, getattr(self, phase) + since_ms(started))


def since_ms(started: float) -> float:
    """Milliseconds since `perf_counter` gave `started`."""
    return (perf_counter() - started) * 1000
