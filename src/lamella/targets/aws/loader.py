"""Copies files from the bucket to the file system: the whole code of a function in the file system's network.

It imports nothing of Lamella's: CloudFormation carries this file's text as it is.
"""

import os
import shutil
from pathlib import Path, PurePosixPath

import boto3

PREFIX = "mount/"


def handle(event: dict[str, object], _context: object) -> dict[str, int]:
    """Copy every object under `event["prefix"]` that is not there yet, then remove the folders in `event["remove"]`.

    A file appears whole or not at all. Reads `BUCKET` and `MOUNT` from the environment.
    """
    mount = Path(os.environ["MOUNT"])
    given, copied = str(event.get("prefix") or ""), 0
    if given:
        copied = copy(os.environ["BUCKET"], given, mount)
    removed = event.get("remove")
    folders = [place(mount, str(name)) for name in removed] if isinstance(removed, list) else []
    for folder in folders:
        if folder != mount and folder.is_dir():
            shutil.rmtree(folder)
    return {"copied": copied, "removed": len(folders)}


def copy(bucket: str, prefix: str, mount: Path) -> int:
    """Copy the objects under a prefix; return how many were missing or of another size."""
    client, copied = boto3.client("s3"), 0
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for found in (entry for page in pages for entry in page.get("Contents", ())):
        path = place(mount, found["Key"].removeprefix(PREFIX))
        if path.is_file() and path.stat().st_size == found["Size"]:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        client.download_file(bucket, found["Key"], str(partial))
        partial.replace(path)
        copied += 1
    return copied


def place(mount: Path, name: str) -> Path:
    """Where a name is on the mount, which it may not leave."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/"):
        raise ValueError(f"{name!r} is no place on the mount")
    return mount.joinpath(*parts)
