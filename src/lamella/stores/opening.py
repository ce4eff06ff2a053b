"""From a URI to a store, and to an object in it."""

from __future__ import annotations

import os
from pathlib import Path

from lamella.errors import MissingDependencyError, UsageError
from lamella.stores.base import Store


def open_store(uri: str) -> Store:
    """The store behind a URI, or behind the path of a folder. Connects to nothing yet.

    Args:
        uri: `file:///absolute/folder`, `s3://bucket/prefix`, or `s3://bucket/prefix?endpoint_url=...&region=...`.

    Raises:
        UsageError: There is no such kind of store.
        MissingDependencyError: It needs a library that is not installed.
    """
    scheme = _scheme(uri)
    if scheme == "s3":
        return _open_bucket(uri)
    from lamella.stores.directory import DirectoryStore, open_directory

    return open_directory(uri) if scheme == "file" else DirectoryStore(Path(os.path.abspath(uri)))


def _open_bucket(uri: str) -> Store:
    """By boto3 where Lamella is installed; packages hold what signs by itself instead, and only if they need it."""
    try:
        from lamella.stores.s3 import open_bucket
    except ModuleNotFoundError:
        return _open_signed(uri)
    return open_bucket(uri)


def _open_signed(uri: str) -> Store:
    try:
        from lamella.stores.s3_signed import open_bucket
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"`{uri}` cannot be opened: this package has no S3 in it", hint="deploy again with this store"
        ) from error
    return open_bucket(uri)


def split_uri(uri: str) -> tuple[str, str]:
    """URI of a store that holds an object, and the object's key there.

    Raises:
        UsageError: There is no such kind of store.
        StoreError: It names no object.
    """
    if _scheme(uri) == "s3":
        from lamella.stores.bucket import split_object

        return split_object(uri)
    from lamella.stores.directory import split_file

    return split_file(uri)


def key_within(store_uri: str, uri: str) -> str | None:
    """The key of an object in a store; None where it lies outside of it.

    Raises:
        UsageError: There is no such kind of store.
    """
    scheme = _scheme(uri)
    if not _scheme(store_uri):
        store_uri = open_store(store_uri).uri
    if scheme != _scheme(store_uri):
        return None
    if scheme == "s3":
        from lamella.stores.bucket import key_in_bucket

        return key_in_bucket(store_uri, uri)
    from lamella.stores.directory import key_in_folder

    return key_in_folder(store_uri, uri)


def _scheme(uri: str) -> str:
    scheme, mark, _ = uri.partition("://")
    if mark and scheme not in ("file", "s3"):
        raise UsageError(f"`{uri}` is no store: `{scheme}` is not known", hint="stores are `file://` and `s3://`")
    return scheme if mark else ""
