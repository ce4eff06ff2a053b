"""A deployment's own copies of its packages."""

from pathlib import Path

import pytest

from lamella.targets.keeping import keep


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "cache" / "packages" / "0123"
    for name in ("function.json", "model/slice.data", "numpy/core.so"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def held(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_made_once(package: Path, tmp_path: Path) -> None:
    kept = keep(package, tmp_path / "kept")
    assert held(kept) == held(package)
    assert (kept / "numpy/core.so").samefile(package / "numpy/core.so")
    assert not (kept / "model/slice.data").samefile(package / "model/slice.data")
    place = kept.stat().st_ino
    assert keep(package, tmp_path / "kept").stat().st_ino == place
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["0123"]


@pytest.mark.parametrize("name", ["function.json", "model/slice.data"])
@pytest.mark.parametrize("what", ["cut short", "lost"])
def test_a_copy_that_is_not_whole_is_made_again(name: str, what: str, package: Path, tmp_path: Path) -> None:
    kept = keep(package, tmp_path / "kept")
    (kept / name).parent.chmod(0o755)
    (kept / name).unlink()
    if what == "cut short":
        (kept / name).write_text("content")
    assert held(keep(package, tmp_path / "kept")) == held(package)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["0123"]
