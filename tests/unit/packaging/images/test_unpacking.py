"""Layers from elsewhere: what they may not do to the machine that unpacks them."""

import gzip
import io
import tarfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from lamella.errors import PackageError
from lamella.packaging.images.blobs import TAR, TAR_GZIP, Blobs, Descriptor, digest_of_bytes
from lamella.packaging.images.contents import digests_of
from lamella.packaging.images.layers import ImageLayer
from lamella.packaging.images.unpacking import apply_layer

Entry = tuple[str, bytes | None, bytes]
FILE, FOLDER, LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE


def tar(*entries: Entry) -> bytes:
    """A tar file of names with contents (or targets of links) and types."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == FILE:
                entry.size = len(content or b"")
            else:
                entry.linkname = (content or b"").decode()
            archive.addfile(entry, io.BytesIO(content or b""))
    return target.getvalue()


def layer(blobs: Blobs, content: bytes, *, zipped: bool = False) -> ImageLayer:
    packed = gzip.compress(content) if zipped else content
    with blobs.new() as blob:
        blob.write(packed)
    kind = TAR_GZIP if zipped else TAR
    return ImageLayer(Descriptor(kind, blob.digest, blob.size), digest_of_bytes(content), len(content))


def applied(tmp_path: Path, *layers: Sequence[Entry], zipped: bool = False) -> Path:
    """A folder with layers, which are as well read without one."""
    blobs, folder = Blobs(tmp_path / "blobs"), tmp_path / "task"
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    made = [layer(blobs, tar(*entries), zipped=zipped) for entries in layers]
    for one in made:
        apply_layer(one, blobs, folder)
    if is_new:
        assert digests_of(made, blobs) == {path: sha256(data).hexdigest() for path, data in held(folder).items()}
    return folder


def held(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("zipped", [True, False])
def test_only_the_function_s_folder_is_taken(tmp_path: Path, zipped: bool) -> None:
    entries: list[Entry] = [
        ("var", None, FOLDER),
        ("var/task", None, FOLDER),
        ("./var/task/a/b", b"content", FILE),
        ("etc/passwd", b"root", FILE),
        ("var/tasks", b"no", FILE),
        ("usr/bin/python3", b"/usr/bin/python3.11", LINK),
    ]
    assert held(applied(tmp_path, entries, zipped=zipped)) == {"a/b": b"content"}


@pytest.mark.parametrize(
    "entry",
    [
        ("/var/task/a", b"", FILE),
        ("var/task/../../a", b"", FILE),
        ("../var/task/a", b"", FILE),
        ("var/task/link", b"/etc", LINK),
        ("var/task/link", b"var/task/a", tarfile.LNKTYPE),
        ("var/task/device", b"", tarfile.CHRTYPE),
        ("var/task/pipe", b"", tarfile.FIFOTYPE),
    ],
)
def test_what_leads_out_or_is_no_plain_file_is_refused(entry: Entry, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"outside of the image|no plain file"):
        applied(tmp_path, [entry])
    assert held(tmp_path / "task") == {}


def test_a_later_layer_replaces_and_removes(tmp_path: Path) -> None:
    first: list[Entry] = [(f"var/task/{name}", b"1", FILE) for name in ("a", "b", "c/d", "c/e", "f/g")]
    second: list[Entry] = [
        ("var/task/a", b"2", FILE),
        ("var/task/.wh.b", b"", FILE),
        ("var/task/c/new", b"2", FILE),
        ("var/task/c/.wh..wh..opq", b"", FILE),
        ("var/task/f", b"2", FILE),
        ("var/task/h", None, FOLDER),
    ]
    first.append(("var/task/h", b"1", FILE))
    assert held(applied(tmp_path, first, second)) == {"a": b"2", "c/new": b"2", "f": b"2"}


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", ".wh.../etc"])
def test_a_whiteout_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    first: list[Entry] = [("var/task/a", b"1", FILE)]
    applied(tmp_path, first, [(f"var/task/{name}", b"", FILE)])
    assert (tmp_path / "kept").read_text() == "kept"
    assert (tmp_path / "task" / "a").is_file()


def test_a_file_with_other_names_is_not_written_into(tmp_path: Path) -> None:
    folder = applied(tmp_path, [("var/task/a", b"1", FILE)])
    (tmp_path / "other").hardlink_to(folder / "a")
    applied(tmp_path, [("var/task/a", b"2", FILE)])
    assert (tmp_path / "other").read_bytes() == b"1"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_layer_that_is_cut_off_is_refused(zipped: bool, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    whole = layer(blobs, tar(("var/task/a", bytes(10_000), FILE)), zipped=zipped)
    path = blobs.path(whole.blob.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "task").mkdir()
    with pytest.raises(PackageError, match=r"cannot be read|the blob of layer"):
        apply_layer(whole, blobs, tmp_path / "task")


def test_a_layer_of_another_content_is_refused(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    made = layer(blobs, tar(("var/task/a", b"1", FILE)), zipped=True)
    wrong = ImageLayer(made.blob, digest_of_bytes(b""), 0)
    (tmp_path / "task").mkdir()
    with pytest.raises(PackageError, match="the content of layer"):
        apply_layer(wrong, blobs, tmp_path / "task")
