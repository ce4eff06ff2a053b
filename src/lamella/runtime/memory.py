"""Memory of this process: how much it took, and giving it back."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path


def peak_rss_bytes() -> int:
    """The largest resident set that this process has had, in bytes (`VmHWM`; `ru_maxrss` where there is no /proc)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # no /proc: ask getrusage
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_free_memory() -> None:
    """Return freed heap pages to the system, where the C library can (glibc's `malloc_trim`)."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
