"""A bucket as a store inside of functions: what they need of S3's protocol, with their role's credentials, no boto3.

What boto3 finds on a user's machine, such as profiles, single sign-on, proxies, and buckets that want sessions of their
own, is left to `lamella.stores.s3`, which no package holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from http.client import HTTPException, HTTPResponse
from time import time
from urllib.parse import unquote_plus

from lamella.errors import StoreError
from lamella.stores.base import Buffer, Entry, check_key, may_begin_a_key, too_short
from lamella.stores.bucket import Bucket, read_bucket
from lamella.stores.s3_parts import PART_BYTES, PARTS_AT_ONCE, parts_of
from lamella.stores.s3_reasons import CONFLICT, PAST_END, THERE_ALREADY, answered, contended, unreachable
from lamella.stores.s3_requests import ATTEMPTS, BucketRequests, RefusedError, Request, read_all
from lamella.stores.s3_xml import BadXmlError, Element, read_xml

_BLOCK_BYTES = 1 << 20  # where a connection breaks, no more than this is read again
_DELETED_AT_ONCE = 8
_IF_NONE = {"If-None-Match": "*"}


class SignedS3Store:
    """Objects in a bucket, below a prefix.

    Args:
        bucket: Where, with endpoint and region.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._requests = bucket, BucketRequests(bucket)

    @property
    def uri(self) -> str:
        """`s3://`, bucket and prefix, and the endpoint and region if they were given."""
        return self._bucket.uri()

    def put(self, key: str, *buffers: Buffer, lasting: bool = True) -> str:
        """Write an object; above 64 MiB in parts, of which nothing is seen before the last has arrived."""
        name, uri = self._place(key)
        with _errors(uri):
            self._write(name, buffers, {})
        return uri

    def create(self, key: str, *buffers: Buffer) -> bool:
        """Write it unless another is there (`If-None-Match: *`)."""
        name, uri = self._place(key)
        with _errors(uri):
            for _ in range(ATTEMPTS):
                try:
                    self._write(name, buffers, _IF_NONE)
                except RefusedError as error:
                    if error.code in THERE_ALREADY:  # perhaps by the first of two attempts, whose answer was lost
                        return self.get(key) == b"".join(buffers)
                    if error.code not in CONFLICT:  # two writers at once: S3 asks one of them to try again
                        raise
                else:
                    return True
        raise contended(uri)

    def get(self, key: str) -> bytes:
        """The whole object."""
        name, uri = self._place(key)
        with _errors(uri):
            return self._requests.ask(Request("GET", name), HTTPResponse.read)

    def read_into(self, key: str, buffer: memoryview, *, offset: int = 0) -> None:
        """Fill `buffer` by a ranged read, which goes on where it is interrupted."""
        name, uri = self._place(key)
        view, filled = buffer.cast("B"), 0
        if not view:
            self.size(key)
        with _errors(uri):
            while filled < len(view):
                count = self._receive(name, view[filled:], offset + filled)
                if not count:
                    raise too_short(uri, offset, len(view))
                filled += count

    def size(self, key: str) -> int:
        """The object's size in bytes."""
        name, uri = self._place(key)
        with _errors(uri):
            return self._requests.ask(Request("HEAD", name), _length)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, a thousand a request."""
        if not may_begin_a_key(prefix):
            return
        above = self._bucket.key("")
        with _errors(self.uri):
            for found in self._contents(above + prefix):
                entry = _entry(found, above)
                if entry.key:  # else the prefix itself, which some tools make an object to show a folder
                    yield entry

    def delete(self, key: str) -> None:
        """Remove an object."""
        name, uri = self._place(key)
        with _errors(uri):
            self._requests.ask(Request("DELETE", name), read_all)

    def delete_all(self, prefix: str, *, older_than_s: float | None = None) -> int:
        """Remove every object whose key begins with `prefix`, several at once; return how many there were."""
        from concurrent.futures import ThreadPoolExecutor

        before = float("inf") if older_than_s is None else time() - older_than_s
        keys = [entry.key for entry in self.list(prefix) if entry.modified < before]
        with ThreadPoolExecutor(_DELETED_AT_ONCE) as pool:
            return len(list(pool.map(self.delete, keys)))

    def _write(self, name: str, buffers: Sequence[Buffer], condition: Mapping[str, str]) -> None:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        if sum(map(len, views)) <= PART_BYTES:
            self._requests.ask(Request("PUT", name, headers=condition, body=views), read_all)
        else:
            self._write_parts(name, tuple(parts_of(views)), condition)

    def _write_parts(self, name: str, parts: Sequence[Sequence[memoryview]], condition: Mapping[str, str]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        begun = self._requests.ask(Request("POST", name, {"uploads": ""}), read_all)
        upload = {"uploadId": read_xml(begun).say("UploadId")}

        def send(numbered: tuple[int, Sequence[memoryview]]) -> str:
            number, views = numbered
            query = {"partNumber": str(number), **upload}
            etag = self._requests.ask(Request("PUT", name, query, body=views), _etag)
            return f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"

        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                sent = "".join(pool.map(send, enumerate(parts, 1)))
            listed = f"<CompleteMultipartUpload>{sent}</CompleteMultipartUpload>".encode()
            self._requests.ask(Request("POST", name, upload, condition, [memoryview(listed)]), _completed)
        except BaseException:
            with suppress(Exception):  # what failed first is what is told; a bucket's lifecycle ends the upload
                self._requests.ask(Request("DELETE", name, upload), read_all)
            raise

    def _receive(self, name: str, view: memoryview, offset: int) -> int:
        """Read into the front of `view` until it is full or the object ends; return how many bytes came."""
        wanted = {"Range": f"bytes={offset}-{offset + len(view) - 1}"}
        try:
            return self._requests.ask(Request("GET", name, headers=wanted), partial(_fill, view=view, offset=offset))
        except RefusedError as error:
            if error.code in PAST_END:
                return 0
            raise

    def _contents(self, prefix: str) -> Iterator[Element]:
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        while True:
            page = read_xml(self._requests.ask(Request("GET", query=query), read_all))
            encoded = page.say("EncodingType") == "url"
            for found in page.all("Contents"):
                found.text = unquote_plus(found.say("Key")) if encoded else found.say("Key")
                yield found
            following = page.say("NextContinuationToken")
            if page.say("IsTruncated") != "true":
                return
            if following in ("", query.get("continuation-token")):
                raise BadXmlError("a listing does not go on")
            query["continuation-token"] = following

    def _place(self, key: str) -> tuple[str, str]:
        """The object's key in the bucket, and its URI."""
        return self._bucket.key(check_key(key)), self._bucket.uri(key)


def open_bucket(uri: str) -> SignedS3Store:
    """The store of an `s3://` URI."""
    return SignedS3Store(read_bucket(uri))


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    """Turn what fails into a `StoreError` that names `uri`."""
    try:
        yield
    except RefusedError as error:
        raise answered(uri, error.code) from error
    except BadXmlError as error:
        raise StoreError(
            f"the server cannot serve `{uri}`: its answer is not S3's: {error}", hint="see `endpoint_url`"
        ) from error
    except (OSError, HTTPException) as error:
        raise unreachable(uri, error) from error


def _fill(answer: HTTPResponse, *, view: memoryview, offset: int) -> int:
    """Read the body into the front of `view`; where the connection breaks after some bytes, these are what came."""
    given = answer.headers.get("Content-Range", "")
    if not given.startswith(f"bytes {offset}-") and (answer.status == 206 or offset):
        raise BadXmlError("another range than was asked for")
    filled = 0
    try:
        while filled < len(view) and (count := answer.readinto(view[filled : filled + _BLOCK_BYTES])):
            filled += count
    except (OSError, HTTPException):
        if not filled:
            raise
    if not filled:
        raise ConnectionResetError("nothing came")
    return filled


def _length(answer: HTTPResponse) -> int:
    read_all(answer)
    return _number(answer.headers.get("Content-Length", ""))


def _etag(answer: HTTPResponse) -> str:
    from xml.sax.saxutils import escape

    read_all(answer)
    return escape(answer.headers.get("ETag", ""))


def _completed(answer: HTTPResponse) -> None:
    """S3 begins to answer before it is done: an error may come with status 200."""
    root = read_xml(read_all(answer))
    if root.name == "Error":
        raise RefusedError(500, root.say("Code"))


def _entry(found: Element, above: str) -> Entry:
    try:
        modified = datetime.fromisoformat(found.say("LastModified")).timestamp()
    except ValueError as error:
        raise BadXmlError("a time that is none") from error
    return Entry(found.text.removeprefix(above), _number(found.say("Size")), modified, found.say("ETag").strip('"'))


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadXmlError("a size that is none")
    return int(text)
