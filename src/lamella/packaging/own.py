"""Lamella's own function side: the files of Lamella that go into a package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from lamella import __version__
from lamella.errors import UsageError
from lamella.stores.bucket import read_bucket

FUNCTION_SIDE = (
    "array_files.py",
    "errors.py",
    "tensors.py",
    "wire.py",
    "runtime",
    "engines/__init__.py",
    "engines/base.py",
    "engines/onnxruntime.py",
    "engines/reasons.py",
    "stores",
)
"""Files, and folders with all their sources. Those that speak S3 go only where there is an S3 store."""

_S3 = "s3"
_BOTO3 = ("stores/s3.py", "stores/s3_errors.py")
"""What needs boto3, on a user's machine: importing that alone would take longer than all else of a function."""

_ENGINES = "engines/"
_DIRECTORY_BUCKET = "--x-s3"  # S3 Express: wants sessions, and lists in no order

INIT = f'"""The function side of Lamella."""\n\n__version__ = "{__version__}"\n'
"""`lamella/__init__.py` in a package: nothing of what the real one offers is there."""


def own_files(*, s3: bool = False, engine: bool = True) -> dict[str, bytes]:
    """The sources, by their path in a package.

    Args:
        s3: Whether the function reads from or writes to an S3 store.
        engine: Whether it runs a slice.
    """
    root = Path(str(files("lamella")))
    found = {
        f"lamella/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in _sources(root, s3=s3, engine=engine)
    }
    return {"lamella/__init__.py": INIT.encode(), **found}


def speaks_s3(store: str | None) -> bool:
    """Whether functions with this store must speak S3.

    Raises:
        UsageError: They cannot, in that bucket.
    """
    if store is None or not store.startswith("s3:"):
        return False
    name = read_bucket(store).name
    if name.startswith("arn:") or name.endswith(_DIRECTORY_BUCKET):
        raise UsageError(
            f"functions cannot use the bucket `{name}`: it is named by an ARN, or a directory bucket",
            hint="give a general purpose bucket, or an access point's alias",
        )
    return True


def own_bytes() -> int:
    """Bytes of these sources."""
    return sum(len(data) for data in own_files().values())


def _sources(root: Path, *, s3: bool, engine: bool) -> Iterator[Path]:
    for name in FUNCTION_SIDE if engine else (name for name in FUNCTION_SIDE if not name.startswith(_ENGINES)):
        path = root / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            left_out = source.relative_to(root).as_posix() in _BOTO3 if s3 else source.name.startswith(_S3)
            if not left_out:
                yield source
