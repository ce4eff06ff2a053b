"""What every store does, wherever it keeps its objects."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from tests.conformance import s3_servers

from lamella.errors import StoreError
from lamella.stores.base import Entry, Store
from lamella.stores.opening import key_within, open_store, split_uri

IN_FUNCTIONS = ("moto in functions", "ceph in functions")
"""The same servers, with what packages hold instead of boto3."""

STORES = ("directory", "moto", "ceph", *IN_FUNCTIONS)
ODD_KEYS = (
    "plain",
    "a/b/c.txt",
    "a b+c&d=e?f#g%20h%25.txt",
    "größe/量/😀",
    "e\u0301/\u00e9",
    "quote'\"<>\\|*:;`$",
    "tab\tand\x7f",
    "double//slash",
    "folder/",
    "...",
    ".hidden/..two",
    "%~616263",
    "%.abc",
    "x" * 255,
    "y" * 400 + "/" + "z" * 500,
    "量" * 200,
)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("boto3")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    with s3_servers.moto_server(tmp_path_factory.mktemp("moto")) as url:
        yield s3_servers.make_bucket(url)


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("boto3")
    if lacking := s3_servers.lacking_for_ceph():
        pytest.skip(f"not installed: {', '.join(lacking)} (Debian: ceph-mon ceph-osd radosgw)")
    with s3_servers.ceph_gateway(tmp_path_factory.mktemp("ceph")) as url:
        yield s3_servers.make_bucket(url)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_servers.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_servers.SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in packages, which lack this module."""
    monkeypatch.setitem(sys.modules, "lamella.stores.s3", None)


@pytest.fixture(params=STORES)
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place."""
    if request.param == "directory":
        return (tmp_path / "größe 1").as_uri()
    if request.param in IN_FUNCTIONS:
        without_boto3(monkeypatch)
    bucket, _, settings = request.getfixturevalue(request.param.split()[0]).partition("?")
    request.getfixturevalue("credentials")
    return f"{bucket}/{os.urandom(8).hex()}/pre%20fix/gr%C3%B6%C3%9Fe?{settings}"


@pytest.fixture
def store(uri: str) -> Store:
    return open_store(uri)


def listed(store: Store, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def test_its_uri_opens_the_same_place(store: Store) -> None:
    store.put("a", b"1")
    assert open_store(store.uri).get("a") == b"1"
    assert open_store(store.uri).uri == store.uri


def test_an_object_is_its_buffers_in_a_row(store: Store) -> None:
    store.put("a", b"one", bytearray(b"two"), memoryview(b"xthree")[1:], b"", memoryview(b"four").cast("I"))
    assert store.get("a") == b"onetwothreefour"
    assert store.size("a") == 15
    store.put("a")
    assert store.get("a") == b""
    assert store.size("a") == 0


@pytest.mark.parametrize("key", ODD_KEYS)
def test_any_key_comes_back_from_listing_and_from_its_uri(store: Store, key: str) -> None:
    uri = store.put(key, key.encode())
    assert listed(store) == [key]
    assert store.get(key) == key.encode()
    assert key_within(store.uri, uri) == key
    place, rest = split_uri(uri)
    assert open_store(place).get(rest) == key.encode()
    store.delete(key)
    assert listed(store) == []


def test_odd_keys_do_not_meet(store: Store) -> None:
    for key in ODD_KEYS:
        store.put(key, key.encode())
    assert listed(store) == sorted(ODD_KEYS)
    assert [store.get(key) for key in ODD_KEYS] == [key.encode() for key in ODD_KEYS]
    assert store.delete_all("") == len(ODD_KEYS)
    assert listed(store) == []


@pytest.mark.parametrize("uri", ["directory", "ceph", "ceph in functions"], indirect=True)
def test_a_key_may_break_lines(store: Store) -> None:
    """Not in moto, whose routes match no line breaks."""
    store.put("line\nbreak", b"1")
    assert listed(store) == ["line\nbreak"]
    assert store.get("line\nbreak") == b"1"
    assert store.delete_all("line\n") == 1


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("in_function", [False, True])
def test_a_wrong_secret_is_refused(ceph: str, in_function: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a real server; moto takes any."""
    if in_function:
        without_boto3(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StoreError, match=r"the server refuses .*: SignatureDoesNotMatch") as caught:
        open_store(ceph).get("a")
    assert "wrong-secret" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize("key", ["", "/a", "..", "../a", "a/../b", "a/..", ".", "a/./b", "\udc80", "k" * 1025])
def test_what_is_no_key_is_refused(store: Store, key: str) -> None:
    actions: list[Callable[[], object]] = [
        lambda: store.put(key, b""),
        lambda: store.get(key),
        lambda: store.read_into(key, memoryview(bytearray(1))),
        lambda: store.size(key),
        lambda: store.delete(key),
    ]
    for action in actions:
        with pytest.raises(StoreError) as caught:
            action()
        assert caught.value.hint
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("prefix", ["../", "a/../../", "./", "/", "\udc80/"])
def test_listing_does_not_leave_the_store(uri: str, prefix: str) -> None:
    open_store(uri).put("outside", b"")
    inside = open_store(f"{uri.partition('?')[0]}/inside{uri.partition('?')[1]}{uri.partition('?')[2]}")
    inside.put("a", b"")
    assert listed(inside, prefix) == []
    assert inside.delete_all(prefix) == 0
    assert key_within(inside.uri, open_store(uri).put("outside", b"")) is None
    traversal = inside.uri.partition("?")[0] + "/../outside"
    assert key_within(inside.uri, traversal) in (None, "../outside")


def test_what_lies_outside_is_not_within(store: Store, tmp_path: Path) -> None:
    uri = store.put("a/b", b"")
    base, mark, settings = store.uri.partition("?")
    assert key_within(f"{base}/a{mark}{settings}", uri) == "b"
    assert key_within(f"{base}x{mark}{settings}", uri) is None
    assert key_within(f"{base}/a/bb{mark}{settings}", uri) is None
    assert key_within("s3://other", uri) is None
    assert key_within((tmp_path / "other").as_uri(), uri) is None


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (3, 4), (9, 1), (5, 0), (0, 0)])
def test_a_range_is_read_into_a_buffer(store: Store, offset: int, length: int) -> None:
    store.put("a", b"0123456789")
    buffer = bytearray(b"." * (length + 2))
    store.read_into("a", memoryview(buffer)[1:-1], offset=offset)
    assert bytes(buffer) == b"." + b"0123456789"[offset : offset + length] + b"."


def test_a_range_of_wide_elements_is_filled_by_bytes(store: Store) -> None:
    store.put("a", bytes(range(16)))
    buffer = bytearray(8)
    store.read_into("a", memoryview(buffer).cast("I"), offset=4)
    assert bytes(buffer) == bytes(range(4, 12))


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (8, 3), (10, 1), (1000, 1)])
def test_a_range_behind_the_end_is_refused(store: Store, offset: int, length: int) -> None:
    uri = store.put("a", b"0123456789")
    with pytest.raises(StoreError, match=re.escape(uri)):
        store.read_into("a", memoryview(bytearray(length)), offset=offset)


def test_a_large_object_is_written_and_read_whole(store: Store) -> None:
    block = os.urandom(1 << 20)
    size = 70 * len(block) + 7  # above what goes to S3 in one request
    store.put("large", *[block] * 70, b"rest of", b"")
    assert store.size("large") == size
    buffer = bytearray(size)
    store.read_into("large", memoryview(buffer))
    assert buffer == block * 70 + b"rest of"
    assert store.get("large") == buffer


def test_a_missing_object_is_named(store: Store) -> None:
    uri = store.put("here/a", b"")
    gone = uri.replace("here/a", "here/b")
    actions: list[Callable[[], object]] = [
        lambda: store.get("here/b"),
        lambda: store.size("here/b"),
        lambda: store.read_into("here/b", memoryview(bytearray(1))),
        lambda: store.read_into("here/b", memoryview(b"")),
    ]
    for action in actions:
        with pytest.raises(StoreError, match=re.escape(gone)) as caught:
            action()
        assert "there is no object" in caught.value.message
        assert caught.value.hint
    with pytest.raises(StoreError, match="there is no object"):
        store.get("here")
    store.delete("here/b")
    store.delete("nowhere/b")
    store.delete("here")
    assert listed(store) == ["here/a"]


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert listed(store) == []
    assert store.delete_all("") == 0


def test_listing_says_what_is_there_in_order(store: Store) -> None:
    began = time.time()
    for key in ("b/2", "a.b", "a/b", "a-b", "b/10", "c", "ab/c"):
        store.put(key, key.encode() * 3)
    assert listed(store) == ["a-b", "a.b", "a/b", "ab/c", "b/10", "b/2", "c"]
    assert listed(store, "a") == ["a-b", "a.b", "a/b", "ab/c"]
    assert listed(store, "a/") == ["a/b"]
    assert listed(store, "b/1") == ["b/10"]
    assert listed(store, "b/2") == ["b/2"]
    assert listed(store, "d/") == []
    entry = next(iter(store.list("c")))
    assert entry == Entry("c", 3, entry.modified, entry.etag)
    assert began - 2 <= entry.modified <= time.time() + 2


def test_more_objects_than_a_page_are_listed_and_deleted(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"many/{number:04}", b""), range(1050)))
    store.put("other", b"")
    assert listed(store, "many/") == [f"many/{number:04}" for number in range(1050)]
    assert store.delete_all("many/") == 1050
    assert listed(store) == ["other"]


def test_writing_again_changes_the_etag(store: Store) -> None:
    seen = set()
    for content in (b"1", b"2", b"33"):
        store.put("a", content)
        seen |= {entry.etag for entry in store.list()}
    assert len(seen) == 3


def test_creating_writes_once(store: Store) -> None:
    assert store.create("a/b", b"first", b"!")
    assert not store.create("a/b", b"second")
    assert store.create("a/b", b"first!")  # as after a connection that broke before the answer
    assert store.get("a/b") == b"first!"
    store.delete("a/b")
    assert store.create("a/b", b"third")
    assert listed(store) == ["a/b"]


def test_of_many_who_create_at_once_one_succeeds(store: Store) -> None:
    start = Event()

    def create(number: int) -> bool:
        start.wait(10)
        return store.create("race", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(create, number) for number in range(8)]
        start.set()
        won = [number for number, each in enumerate(waiting) if each.result(60)]
    assert len(won) == 1
    assert store.get("race") == str(won[0]).encode()


def test_only_old_objects_are_deleted_where_an_age_is_given(store: Store) -> None:
    store.put("old/a", b"1")
    store.put("other", b"2")
    assert store.delete_all("old/", older_than_s=3600) == 0
    assert listed(store) == ["old/a", "other"]
    assert store.delete_all("old/", older_than_s=-3600) == 1
    assert listed(store) == ["other"]


def test_a_reader_sees_one_version_or_the_other(store: Store) -> None:
    versions = [bytes([number]) * 300_000 for number in range(4)]
    store.put("a", versions[0])
    done = Event()

    def write() -> None:
        for number in range(60):
            store.put("a", versions[number % 4])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        reads = 0
        while not done.is_set() or reads < 5:
            assert store.get("a") in versions
            reads += 1
        writing.result(60)


def test_deleting_and_writing_side_by_side_loses_nothing(store: Store) -> None:
    def work(number: int) -> None:
        for step in range(30):
            store.put(f"shared/deep/{number}", str(step).encode())
            assert store.get(f"shared/deep/{number}") == str(step).encode()
            store.delete(f"shared/deep/{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert listed(store) == []


def test_an_object_that_is_a_folder_too(request: pytest.FixtureRequest, store: Store) -> None:
    """S3 has both; a directory cannot, and refuses the second."""
    store.put("a", b"1")
    store.put("b/c", b"2")
    if request.node.callspec.params["uri"] == "directory":
        for action in (store.put, store.create):
            for key in ("a/b", "b"):
                with pytest.raises(StoreError, match="a folder is in its place"):
                    action(key, b"3")
    else:
        store.put("a/b", b"3")
        store.put("b", b"4")
        assert listed(store) == ["a", "a/b", "b", "b/c"]
    assert store.get("a") == b"1"
    assert store.get("b/c") == b"2"
