"""Copies files from the bucket to the file system: the whole code of a function in the file system's network.

It imports nothing of Lamella's: CloudFormation carries this file's text as it is. A file that is larger than the
function's memory, or takes longer than one invocation, is copied in as many invocations as it needs.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import Any, BinaryIO

import boto3
from botocore.config import Config

PREFIX = "mount/"
BLOCK_BYTES, AT_ONCE = 16 << 20, 8
"""What is read from the bucket at once; it is all that is held in memory."""


class DamagedError(Exception):
    """What was copied is not what it should be."""


class TooShortError(Exception):
    """An object has fewer bytes than it should."""


def handle(event: Mapping[str, Any], _context: object) -> dict[str, object]:
    """Bring files to the file system, or remove what is not needed there.

    Reads `BUCKET` and `MOUNT` from the environment. A file has its name only when all of it is there and has its
    digest; until then what there is of it is kept under another name, and gone on with by the next invocation.

    Args:
        event: `{"files": [{"path", "size", "sha256"}, ...], "seconds": S}`: copy for about so many seconds; with 0,
            only look. Or `{"keep": [FOLDER, ...]}`: remove all other folders.

    Returns:
        `{"bytes": B, "missing": [PATH, ...]}`: what is there, also of files that are not whole. Or `{"removed": N}`.
    """
    mount = Path(os.environ["MOUNT"])
    if "keep" in event:
        return {"removed": keep(mount, {str(name) for name in event["keep"]})}
    until = monotonic() + float(event["seconds"])
    present = {file["path"]: bring(mount, file, until) for file in event["files"]}
    missing = [file["path"] for file in event["files"] if not is_there(place(mount, file["path"]), int(file["size"]))]
    return {"bytes": sum(present.values()), "missing": missing}


def keep(mount: Path, folders: set[str]) -> int:
    """Remove all folders but these; return how many that were."""
    others = [path for path in mount.iterdir() if path.name not in folders]
    for path in others:
        shutil.rmtree(path)
    return len(others)


def bring(mount: Path, file: Mapping[str, Any], until: float) -> int:
    """Copy what a file lacks, as long as there is time; return how many bytes of it are there."""
    path, size = place(mount, file["path"]), int(file["size"])
    if is_there(path, size):
        return size
    partial = path.with_name(f".{path.name}.partial")
    if monotonic() >= until:
        return partial.stat().st_size if partial.is_file() else 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as target:
        fcntl.lockf(target, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two that append would spoil it; closing it unlocks it
        if is_there(path, size):  # the other one has just ended
            return size
        present = extend(target, f"{PREFIX}{file['path']}", size, until)
        if present == size:
            os.fsync(target.fileno())
            check(partial, str(file["sha256"]))
            partial.replace(path)
    return present


def extend(target: BinaryIO, key: str, size: int, until: float) -> int:
    """Append what a file lacks of an object; return how many bytes it has then."""
    present = target.tell()

    def block(start: int) -> bytes:
        wanted = min(BLOCK_BYTES, size - start)
        span = f"bytes={start}-{start + wanted - 1}"
        found: bytes = client().get_object(Bucket=os.environ["BUCKET"], Key=key, Range=span)["Body"].read()
        if len(found) != wanted:
            raise TooShortError(f"{key} ends before byte {start + wanted}")
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        while present < size:
            starts = range(present, min(size, present + AT_ONCE * BLOCK_BYTES), BLOCK_BYTES)
            for found in pool.map(block, starts):  # in order: what is there is always the file's beginning
                target.write(found)
                target.flush()
                present += len(found)
            if monotonic() >= until:
                break
    return present


@cache
def client() -> Any:  # noqa: ANN401 - boto3 makes its clients while it runs
    """The bucket's service."""
    return boto3.client("s3", config=Config(max_pool_connections=AT_ONCE))


def check(partial: Path, sha256: str) -> None:
    """Refuse a file with another digest, and remove it."""
    with partial.open("rb") as source:
        found = hashlib.file_digest(source, "sha256").hexdigest()
    if found != sha256:
        partial.unlink()
        raise DamagedError(f"{partial.parent.name}/{partial.name} has the digest {found}, and should have {sha256}")


def is_there(path: Path, size: int) -> bool:
    """Whether a file is whole. Only this function writes here, and it names no file before it has its digest."""
    return path.is_file() and path.stat().st_size == size


def place(mount: Path, name: str) -> Path:
    """Where a name is on the mount, which it may not leave."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/"):
        raise ValueError(f"{name!r} is no place on the mount")
    return mount.joinpath(*parts)
