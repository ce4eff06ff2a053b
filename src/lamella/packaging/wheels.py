"""The wheels of a function: fetched for its Python and processors, measured, unpacked without what it never imports."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from lamella.platforms.base import Architecture

UNUSED = (
    "onnxruntime/backend/*",
    "onnxruntime/capi/libonnxruntime.so*",  # for C++ programs: the module for Python holds the engine itself
    "onnxruntime/datasets/*",
    "onnxruntime/quantization/*",
    "onnxruntime/tools/*",
    "onnxruntime/transformers/*",
    "numpy/_core/_*_tests.*.so",
    "numpy/_core/_simd.*.so",  # tests of vector instructions; those that NumPy uses are elsewhere
    "numpy/_core/include/*",
    "numpy/_pyinstaller/*",
    "numpy/conftest.py",
    "numpy/distutils/*",
    "numpy/doc/*",
    "numpy/f2py/*",
    "numpy/random/_examples/*",
    "*/tests/*",
    "*.a",
    "*.h",
    "*.pc",
    "*.pxd",
    "*.pyc",
    "*.pyi",
    # what an installer notes down, which differs from one environment to the next
    "*.dist-info/INSTALLER",
    "*.dist-info/RECORD",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "*.dist-info/uv_cache.json",
)
"""What a function never imports: it stays out of the package. A test infers with these blocked."""

_GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
_MACHINES: dict[Architecture, str] = {"x86_64": "x86_64", "arm64": "aarch64"}
_TIME_LIMIT_S = 300
_SPREAD = re.compile(r"[^/]+\.data/(?P<scheme>[^/]+)/(?P<rest>.+)")
_LIBRARIES = ("purelib", "platlib")


class WheelsError(Exception):
    """Wheels cannot be fetched or read. Never reaches a user as it is: figures of other versions stand in."""


@dataclass(frozen=True)
class Wheel:
    """One wheel, as it is unpacked into a package.

    Attributes:
        name: The distribution's name.
        version: Its version.
        unzipped_bytes: Its files.
        zipped_bytes: The same, compressed as the wheel has them.
        unused_bytes: Files that are left out (`UNUSED`).
        heaviest: Folders or files that take the most, with their bytes, in descending order.
    """

    name: str
    version: str
    unzipped_bytes: int
    zipped_bytes: int
    unused_bytes: int
    heaviest: tuple[tuple[str, int], ...]


def fetch_wheels(requirements: Sequence[str], *, python: str, architecture: Architecture) -> list[Wheel]:
    """Download wheels to a temporary folder with pip, and measure them.

    Downloads some 40 MB unless pip has them cached. Takes nothing but what is required: no dependencies.

    Args:
        requirements: Exact ones, such as `numpy==2.4.6`.
        python: Minor version, such as `3.13`.
        architecture: Of the function.

    Raises:
        WheelsError: pip is missing or fails, for instance because there is no network or no such wheel.
    """
    with tempfile.TemporaryDirectory(prefix="lamella-wheels-") as folder:
        wheels = download_wheels(requirements, Path(folder), python=python, architecture=architecture)
        return [measure_wheel(path) for path in wheels]


def download_wheels(
    requirements: Sequence[str], folder: Path, *, python: str, architecture: Architecture
) -> list[Path]:
    """Download wheels into a folder with pip, as `fetch_wheels` does, and leave them there.

    Raises:
        WheelsError: pip is missing or fails.
    """
    tags = (f"{glibc}_{_MACHINES[architecture]}" for glibc in _GLIBC)
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--retries", "1", "--timeout", "10", "--no-deps", "--only-binary=:all:", "--implementation", "cp"),
        *("--python-version", python, "--dest", str(folder)),
        *(argument for tag in tags for argument in ("--platform", tag)),
        *requirements,
    ]
    _run(command)
    return sorted(folder.glob("*.whl"))


def is_unused(path: str) -> bool:
    """Whether a file stays out of packages, by its path in one."""
    return any(fnmatchcase(path, pattern) for pattern in UNUSED)


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Write a wheel's files into a folder.

    Raises:
        WheelsError: It is no wheel, or names a file outside.
    """
    try:
        with ZipFile(wheel) as archive:
            for entry in archive.infolist():
                path = installed_path(entry.filename)
                if path is None or entry.is_dir() or is_unused(path):
                    continue
                if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                    raise WheelsError(f"`{wheel.name}` names `{path}`, outside of where it is unpacked")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as written:
                    shutil.copyfileobj(source, written, 1 << 20)
    except BadZipFile as error:
        raise WheelsError(f"`{wheel.name}` is no wheel: {error}") from error


def installed_path(path: str) -> str | None:
    """Where a wheel's file is installed, beside the libraries; None where it is not one of them, such as a script.

    https://packaging.python.org/en/latest/specifications/binary-distribution-format/#the-data-directory
    """
    spread = _SPREAD.fullmatch(path)
    if spread is None:
        return path
    return spread["rest"] if spread["scheme"] in _LIBRARIES else None


def _run(command: Sequence[str]) -> None:
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIME_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WheelsError(f"the wheels cannot be fetched: {error}") from error
    if finished.returncode:
        said = [line for line in finished.stderr.splitlines() if line.startswith("ERROR")]
        reason = (said or finished.stderr.splitlines() or ["pip gave no reason"])[-1]
        raise WheelsError(f"the wheels cannot be fetched: {reason.removeprefix('ERROR: ')}")


def measure_wheel(path: Path, *, shown: int = 5) -> Wheel:
    """Add up a wheel's files from its central directory; nothing is unpacked.

    Raises:
        WheelsError: It is no wheel.
    """
    sizes: Counter[str] = Counter()
    zipped = unused = 0
    try:
        with ZipFile(path) as archive:
            for entry in archive.infolist():
                if is_unused(entry.filename):
                    unused += entry.file_size
                else:
                    sizes[_place(entry.filename)] += entry.file_size
                    zipped += entry.compress_size
    except (OSError, BadZipFile) as error:
        raise WheelsError(f"`{path.name}` is no wheel: {error}") from error
    name, version, *_ = path.name.split("-")
    return Wheel(name, version, sizes.total(), zipped, unused, tuple(sizes.most_common(shown)))


def _place(file: str) -> str:
    """The folder under which a file is added up: a package's own, or that of a large library."""
    parts = file.split("/")
    return file if ".so" in parts[-1] else "/".join(parts[: min(2, len(parts) - 1)])
