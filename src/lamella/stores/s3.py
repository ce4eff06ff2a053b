"""A bucket as a store on a user's machine: S3, and what speaks its protocol. Functions have `s3_signed`.

Credentials come from where boto3 looks for them (the environment, its files, the function's role), never from a URI.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import time
from typing import Any, TypeVar

from lamella.errors import MissingDependencyError, StoreError
from lamella.stores.base import Buffer, Entry, check_key, may_begin_a_key, too_short
from lamella.stores.bucket import Bucket, read_bucket
from lamella.stores.s3_errors import conflict, errors, interrupted, past_end, refused_because_there
from lamella.stores.s3_parts import PART_BYTES, PARTS_AT_ONCE, parts_of
from lamella.stores.s3_reasons import contended

CONNECTIONS = 16
"""Kept open, and used by as many threads at once."""

_BLOCK_BYTES = 1 << 20  # urllib3 copies what `readinto` gives, one block of this size after the other
_ATTEMPTS = 4
_DELETED_AT_ONCE = 1000  # by one request: S3's limit
_Result = TypeVar("_Result")
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class S3Store:
    """Objects in a bucket, below a prefix.

    Args:
        bucket: Where, with endpoint and region.
        session: A boto3 session with credentials and a region; by default what boto3 finds itself.

    Raises:
        MissingDependencyError: boto3 is not installed.
    """

    def __init__(self, bucket: Bucket, *, session: Any | None = None) -> None:  # noqa: ANN401 - boto3's types
        self._bucket = bucket
        self._client = _client(bucket, session)

    @property
    def uri(self) -> str:
        """`s3://`, bucket and prefix, and the endpoint and region if they were given."""
        return self._bucket.uri()

    def put(self, key: str, *buffers: Buffer, lasting: bool = True) -> str:
        """Write an object; above 64 MiB in parts, of which nothing is seen before the last has arrived."""
        place, uri = self._place(key)
        with errors(uri):
            self._write(place, buffers)
        return uri

    def create(self, key: str, *buffers: Buffer) -> bool:
        """Write it unless another is there (`If-None-Match: *`)."""
        place, uri = self._place(key)
        with errors(uri):
            for _ in range(_ATTEMPTS):
                try:
                    self._write(place, buffers, IfNoneMatch="*")
                except Exception as error:
                    if refused_because_there(error):  # perhaps by the first of two attempts, whose answer was lost
                        return self.get(key) == b"".join(buffers)
                    if not conflict(error):  # two writers at once: S3 asks one of them to try again
                        raise
                else:
                    return True
        raise contended(uri)

    def get(self, key: str) -> bytes:
        """The whole object."""
        place, uri = self._place(key)
        with errors(uri):
            return _again(lambda: self._read(place))

    def read_into(self, key: str, buffer: memoryview, *, offset: int = 0) -> None:
        """Fill `buffer` by a ranged read, which goes on where it is interrupted."""
        place, uri = self._place(key)
        view, filled = buffer.cast("B"), 0
        if not view:
            self.size(key)
        with errors(uri):
            while filled < len(view):
                count = _again(lambda: self._receive(place, view[filled:], offset + filled))  # noqa: B023 - run at once
                if not count:
                    raise too_short(uri, offset, len(view))
                filled += count

    def size(self, key: str) -> int:
        """The object's size in bytes."""
        place, uri = self._place(key)
        with errors(uri):
            return int(self._client.head_object(**place)["ContentLength"])

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, a thousand a request."""
        if not may_begin_a_key(prefix):
            return
        above = self._bucket.key("")
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket.name, Prefix=above + prefix)
        with errors(self.uri):
            for page in pages:
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(above)
                    if key:  # the prefix itself, which some tools make an object to show a folder
                        etag = found["ETag"].strip('"')
                        yield Entry(key, found["Size"], found["LastModified"].timestamp(), etag)

    def delete(self, key: str) -> None:
        """Remove an object."""
        place, uri = self._place(key)
        with errors(uri):
            self._client.delete_object(**place)

    def delete_all(self, prefix: str, *, older_than_s: float | None = None) -> int:
        """Remove every object whose key begins with `prefix`, a thousand a request; return how many there were."""
        before = float("inf") if older_than_s is None else time() - older_than_s
        keys = [entry.key for entry in self.list(prefix) if entry.modified < before]
        odd = [key for key in keys if _NOT_IN_XML.search(key)]  # such a request is XML, which cannot say these
        for key in odd:
            self.delete(key)
        plain = [key for key in keys if not _NOT_IN_XML.search(key)]
        for start in range(0, len(plain), _DELETED_AT_ONCE):
            self._delete(plain[start : start + _DELETED_AT_ONCE])
        return len(keys)

    def _delete(self, keys: Sequence[str]) -> None:
        listed = {"Objects": [{"Key": self._bucket.key(key)} for key in keys], "Quiet": True}
        with errors(self.uri):
            failed = self._client.delete_objects(Bucket=self._bucket.name, Delete=listed).get("Errors", ())
        for found in failed:
            raise StoreError(
                f"`{found['Key']}` and {len(failed) - 1} more cannot be deleted from `{self.uri}`: {found['Code']}",
                hint="see what the credentials may do in this bucket",
            )

    def _write(self, place: dict[str, str], buffers: Sequence[Buffer], **condition: str) -> None:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        if sum(map(len, views)) <= PART_BYTES:
            whole = buffers[0] if len(buffers) == 1 and isinstance(buffers[0], bytes) else b"".join(views)
            self._client.put_object(Body=whole, **place, **condition)
        else:
            self._write_parts(place, tuple(parts_of(views)), condition)

    def _write_parts(
        self, place: dict[str, str], parts: Sequence[Sequence[memoryview]], condition: dict[str, str]
    ) -> None:
        upload = {**place, "UploadId": self._client.create_multipart_upload(**place)["UploadId"]}

        def send(numbered: tuple[int, Sequence[memoryview]]) -> dict[str, object]:
            number, views = numbered
            sent = self._client.upload_part(Body=b"".join(views), PartNumber=number, **upload)
            return {"ETag": sent["ETag"], "PartNumber": number}

        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                sent = list(pool.map(send, enumerate(parts, 1)))
            self._client.complete_multipart_upload(MultipartUpload={"Parts": sent}, **upload, **condition)
        except BaseException:
            with suppress(Exception):  # what failed first is what is told; a bucket's lifecycle ends the upload
                self._client.abort_multipart_upload(**upload)
            raise

    def _read(self, place: dict[str, str]) -> bytes:
        content: bytes = self._client.get_object(**place)["Body"].read()
        return content

    def _receive(self, place: dict[str, str], view: memoryview, offset: int) -> int:
        """Read into the front of `view` until it is full or the object ends; return how many bytes came.

        Where the connection breaks after some, these are what came.
        """
        filled = 0
        try:
            wanted = f"bytes={offset}-{offset + len(view) - 1}"
            body = self._client.get_object(Range=wanted, **place)["Body"]
            while filled < len(view):
                count = body.readinto(view[filled : filled + _BLOCK_BYTES])
                if not count:
                    break
                filled += count
        except Exception as error:
            if past_end(error):
                return 0
            if not filled or not interrupted(error):
                raise
        return filled

    def _place(self, key: str) -> tuple[dict[str, str], str]:
        """The arguments that name an object, and its URI."""
        place = {"Bucket": self._bucket.name, "Key": self._bucket.key(check_key(key))}
        return place, self._bucket.uri(key)


def open_bucket(uri: str) -> S3Store:
    """The store of an `s3://` URI."""
    return S3Store(read_bucket(uri))


def _client(bucket: Bucket, session: Any | None = None) -> Any:  # noqa: ANN401 - boto3 makes its clients' methods as it goes
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise MissingDependencyError(
            f"`{bucket.uri()}` needs boto3, which is not installed", hint="install it with `pip install boto3`"
        ) from error
    settings = Config(
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        # Other servers than AWS's do not know the newer checksums, and every object here that matters has a SHA-256.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Names in front of an endpoint's own need a DNS of its own.
        s3={"addressing_style": "path" if bucket.endpoint_url else "auto"},
    )
    session = session or boto3.session.Session(region_name=bucket.region)
    region = None if session.region_name or not bucket.endpoint_url else "us-east-1"  # such servers take any
    return session.client("s3", endpoint_url=bucket.endpoint_url, region_name=region, config=settings)


def _again(action: Callable[[], _Result]) -> _Result:
    """Repeat what an interrupted connection ended; boto3 itself repeats only what fails before the answer comes."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return action()
        except Exception as error:
            if not interrupted(error):
                raise
    return action()
