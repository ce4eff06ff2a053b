"""Keeping instances: a ping to the function of every slice."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from lamella.runtime.calling import Caller
from lamella.runtime.models import Model
from lamella.runtime.payload import PING

EVENT = "warm"
"""The value of `lamella` in the event that asks for it."""

ALIAS = "live"
"""The version that answers."""

_AT_THE_SAME_TIME = 16


def ping(models: Iterable[Model], caller: Caller) -> dict[str, object]:
    """Ask every slice for a sign of life, all at once; returns which function gave none, and why."""
    functions = sorted({entry.function for model in models for entry in model.slices})

    def ask(function: str) -> str | None:
        answered = caller.invoke(f"{function}:{ALIAS}", PING)
        said = f"{answered.error_type}: {answered.error_message}"
        return None if answered.error_type is None else said

    with ThreadPoolExecutor(_AT_THE_SAME_TIME) as pool:
        found = dict(zip(functions, pool.map(ask, functions), strict=True))
    failed = {function: said for function, said in found.items() if said is not None}
    return {"lamella": "pong", "functions": len(functions), "failed": failed}
