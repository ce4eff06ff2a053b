"""Measures the wheels that Lamella ships figures for anew, in the versions that are installed here.

`python -m lamella.packaging.recording` downloads some 160 MB and writes `wheels.json` beside this file.
"""

from __future__ import annotations

from pathlib import Path

from lamella.packaging.closure import DISTRIBUTIONS, fetch_records, pinned
from lamella.packaging.records import Record, written
from lamella.platforms.base import Architecture

PYTHONS = ("3.13", "3.14")
ARCHITECTURES: tuple[Architecture, ...] = ("x86_64", "arm64")
EXTRA = ("ml-dtypes",)


def measured_records() -> list[Record]:
    """Figures for every Python and architecture.

    Raises:
        WheelsError: They cannot be fetched.
    """
    wanted = [pinned(name) for name in (*DISTRIBUTIONS, *EXTRA)]
    pairs = [(python, architecture) for python in PYTHONS for architecture in ARCHITECTURES]
    return [
        record
        for python, architecture in pairs
        for record in fetch_records(wanted, python=python, architecture=architecture)
    ]


if __name__ == "__main__":
    Path(__file__).with_name("wheels.json").write_text(written(measured_records()))
