"""The cache of packages: what is in it, making room, and finding what is damaged."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.functional.packages import damage, run_chain

import lamella
from lamella.errors import PackageError
from lamella.packaging import layers
from lamella.packaging.cache import ensure, in_use, remove_folder
from lamella.packaging.inventory import Kept, disk_bytes, inventory
from lamella.packaging.package import Package, build_packages
from lamella.packaging.pruning import prune, verify
from lamella.packaging.zip import write_zip
from lamella.platforms import load_platform
from lamella.targets.keeping import keep

AWS = load_platform("aws-lambda")
DAY_S = 86400
SURROUNDINGS = {**os.environ, "PYTHONPATH": str(Path(lamella.__file__).parents[1])}


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    lamella.slice(models.mlp(folder / "mlp.onnx"), folder / "slices", slices=2, verify=False)
    return folder / "slices"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def packages(sliced: Path, cache: Path) -> list[Package]:
    return build_packages(sliced, name="mlp", platform=AWS, cache=cache)


def kinds(found: object) -> list[str]:
    assert isinstance(found, (list, tuple))
    return sorted(kept.kind for kept in found)


def age(folder: Path, days: float) -> None:
    os.utime(folder, (time.time() - days * DAY_S,) * 2)


def entry(found: list[Kept], folder: Path) -> Kept:
    return next(kept for kept in found if kept.folder == folder)


def test_it_says_what_it_holds(packages: list[Package], cache: Path, tmp_path: Path) -> None:
    write_zip(packages[0], tmp_path / "package.zip")
    found = inventory(cache)
    assert kinds(found) == ["closure", "closure", "deflated", "deflated", "package", "package"]
    first = entry(found, packages[0].folder)
    assert first.what == "mlp-slice-0, delivered by `package`"
    assert first.size == packages[0].unzipped_bytes
    assert abs(first.used - time.time()) < 600
    engine, own = (entry(found, place).what for place in packages[0].closures)
    assert "onnxruntime 1." in engine
    assert "numpy 2." in engine
    assert own == "Lamella's function side"
    shown = subprocess.run(["du", "-sb", "--apparent-size", cache], capture_output=True, text=True, check=True)
    folders = sum(path.stat().st_size for path in (cache, *cache.rglob("*")) if path.is_dir())
    assert disk_bytes(found) == int(shown.stdout.split()[0]) - folders


def test_an_empty_cache_holds_nothing(cache: Path) -> None:
    assert inventory(cache) == []
    assert prune(cache).removed == ()
    assert verify(cache).intact == ()
    assert not cache.exists()


def test_what_was_not_used_for_long_is_removed_and_built_again(
    packages: list[Package], sliced: Path, cache: Path
) -> None:
    age(packages[0].folder, 31)
    age(packages[1].folder, 29)
    tried = prune(cache, dry_run=True)
    assert [kept.folder for kept in tried.removed] == [packages[0].folder]
    own = [path for path in packages[0].folder.rglob("*") if path.is_file() and path.stat().st_nlink == 1]
    assert tried.freed_bytes == sum(path.stat().st_size for path in own) > 0
    assert packages[0].folder.is_dir()
    assert prune(cache) == tried
    assert not packages[0].folder.exists()
    assert build_packages(sliced, name="mlp", platform=AWS, cache=cache) == packages
    assert prune(cache, older_than_days=1).removed == ()  # looking for them was using them
    assert kinds(prune(cache, older_than_days=0).removed) == ["closure", "closure", "package", "package"]
    assert [list(folder.iterdir()) for folder in sorted(cache.iterdir())] == [[], []]
    assert build_packages(sliced, name="mlp", platform=AWS, cache=cache) == packages


def test_a_deployment_s_copy_outlives_the_cache(packages: list[Package], cache: Path, tmp_path: Path) -> None:
    kept = [keep(package.folder, tmp_path / "deployment") for package in packages]
    pruned = prune(cache, older_than_days=0)
    shared = list(kept[0].rglob("*pybind11*"))
    assert shared[0].stat().st_nlink == 2  # one in each package that is kept
    assert pruned.freed_bytes < shared[0].stat().st_size
    assert run_chain(kept, {"x": np.ones((1, 32), np.float32)})["y"].shape == (1, 32)


@pytest.mark.usefixtures("packages")
def test_what_is_in_use_stays(cache: Path) -> None:
    program = "import sys; from pathlib import Path; from lamella.packaging.cache import in_use\n"
    program += f"with in_use(Path({str(cache)!r})): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], env=SURROUNDINGS, stdin=-1, stdout=-1, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "held\n"
        with in_use(cache):  # with others
            pass
        with pytest.raises(PackageError, match="nothing was pruned: packages in") as caught:
            prune(cache, older_than_days=0)
        assert caught.value.hint
        assert len(prune(cache, older_than_days=0, dry_run=True).removed) == 4
        user.communicate("")
    assert len(prune(cache, older_than_days=0).removed) == 4


def test_what_a_deployment_of_this_process_runs_from_stays(
    sliced: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMELLA_HOME", str(cache))
    with lamella.deploy(sliced, name="mlp", platform="aws-lambda", target="local") as endpoint:
        with pytest.raises(PackageError, match="something runs from them"):
            prune(older_than_days=0)
        assert endpoint.infer({"x": np.ones((1, 32), np.float32)})["y"].shape == (1, 32)
    assert len(prune(older_than_days=0).removed) == 4


def test_a_layer_that_is_pruned_as_soon_as_it_is_there_is_built_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it may be where a file system locks no folders."""
    removals = [True, False]

    def ensure_and_lose(folder: Path, fill: Any, is_intact: Any) -> None:
        ensure(folder, fill, is_intact)
        if removals.pop(0):
            remove_folder(folder)

    monkeypatch.setattr(layers, "ensure", ensure_and_lose)
    layer = layers.ensure_layer(cache, ["key"], lambda folder: (folder / "file").touch())
    assert [file.path for file in layer.files] == ["file"]
    removals[:] = [True] * 9
    with pytest.raises(PackageError, match="gone whenever it was written"):
        layers.ensure_layer(cache, ["other"], lambda folder: (folder / "file").touch())


def test_pruning_beside_builds_breaks_none(sliced: Path, cache: Path) -> None:
    program = f"""
import os
from pathlib import Path
from lamella.packaging.cache import in_use
from lamella.packaging.package import build_packages
from lamella.platforms import load_platform
cache, platform = Path({str(cache)!r}), load_platform("aws-lambda")
for number in range(12):
    with in_use(cache):
        for package in build_packages({str(sliced)!r}, name=f"of-{{os.getpid()}}", platform=platform, cache=cache):
            assert sum(p.stat().st_size for p in package.folder.rglob("*") if p.is_file()) == package.unzipped_bytes
    print("built", flush=True)
"""
    builders = [subprocess.Popen([sys.executable, "-c", program], env=SURROUNDINGS, stderr=-1) for _ in range(2)]
    pruned = refused = 0
    while any(builder.poll() is None for builder in builders):
        try:
            pruned += len(prune(cache, older_than_days=0).removed)
        except PackageError:
            refused += 1
    assert [builder.communicate()[1].decode() for builder in builders] == ["", ""]
    assert pruned > 0
    assert refused > 0


@pytest.mark.usefixtures("packages")
def test_what_an_interrupted_build_left_is_removed_however_new(cache: Path) -> None:
    left = cache / "packages" / ".building-abc"
    left.mkdir()
    (left / "half").write_text("content")
    assert entry(inventory(cache), left).kind == "unfinished"
    pruned = prune(cache)
    assert ([kept.folder for kept in pruned.removed], pruned.freed_bytes) == ([left], len("content"))
    assert not left.exists()


def test_a_damaged_package_is_found_by_its_digest_and_built_again(
    packages: list[Package], sliced: Path, cache: Path
) -> None:
    assert len(verify(cache).intact) == 4
    weights = next(packages[1].folder.glob("model/*.data"))
    damage(weights)
    assert build_packages(sliced, name="mlp", platform=AWS, cache=cache) == packages  # by its size it is intact
    found = verify(cache)
    assert [kept.folder for kept in found.damaged] == [packages[1].folder]
    assert len(found.intact) == 3
    assert not packages[1].folder.exists()
    assert build_packages(sliced, name="mlp", platform=AWS, cache=cache) == packages
    assert verify(cache).damaged == ()


def test_damage_to_what_is_shared_is_found_everywhere(
    packages: list[Package], sliced: Path, cache: Path, tmp_path: Path
) -> None:
    write_zip(packages[0], tmp_path / "package.zip")
    damage(next(packages[0].folder.glob("onnxruntime/capi/*pybind11*")))
    damage(next((cache / "deflated").glob("*/data")))
    assert kinds(verify(cache).damaged) == ["closure", "deflated", "package", "package"]
    assert build_packages(sliced, name="mlp", platform=AWS, cache=cache) == packages
    assert verify(cache).damaged == ()


def test_what_was_added_to_a_package_or_lost_is_damage(packages: list[Package], cache: Path) -> None:
    packages[0].folder.chmod(0o755)
    (packages[0].folder / "added").touch()
    listing = packages[1].closures[1] / "files.json"
    listing.chmod(0o644)
    listing.write_text("{")
    assert kinds(verify(cache).damaged) == ["closure", "package"]


def test_what_is_damaged_and_in_use_is_named(packages: list[Package], cache: Path) -> None:
    damage(packages[0].folder / "function.json")
    with in_use(cache), pytest.raises(PackageError, match=f"{packages[0].sha256}` cannot be removed, though damaged"):
        verify(cache)
    assert packages[0].folder.is_dir()
