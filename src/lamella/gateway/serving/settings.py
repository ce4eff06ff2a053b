"""How a model is served."""

from __future__ import annotations

from dataclasses import dataclass

from lamella.errors import UsageError

LARGEST_BATCH = 64
"""Rows that are put together at most where nobody says otherwise."""

MOST_WAITING = 1000
"""Requests that wait at most where nobody says otherwise."""

MOST_WAITING_BYTES = 1 << 30
"""Bytes of inputs that wait at most."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is served.

    Attributes:
        max_batch_size: Rows that are put together at most; 1: requests are never put together; None: as many as
            measured latency says pays, `LARGEST_BATCH` at most.
        max_queue_delay_ms: How long a request waits at most for others to join it; None: a fraction of what the batch
            takes. One that is alone never waits.
        max_queue_size: Requests that wait at most; further ones are refused.
        instances: Batches that are computed at the same time.
        threads: Threads for one operator; None: this process's share of the CPU, divided among the instances.
        padding: Put texts of different lengths together, where a trial shows that their answers stay the same.
        low_memory: Keep one slice in memory at a time.
    """

    max_batch_size: int | None = None
    max_queue_delay_ms: float | None = None
    max_queue_size: int = MOST_WAITING
    instances: int = 1
    threads: int | None = None
    padding: bool = True
    low_memory: bool = False

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_queue_size", "instances", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"`{name}` is {value}", hint="give 1 or more")
        if self.max_queue_delay_ms is not None and not 0 <= self.max_queue_delay_ms <= 60_000:
            raise UsageError(
                f"`max_queue_delay_ms` is {self.max_queue_delay_ms:g}", hint="give milliseconds from 0 to 60000"
            )
