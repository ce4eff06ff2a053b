"""`lamella cache`."""

from pathlib import Path

import pytest
from tests.functional.cli.conftest import Lamella
from tests.functional.packages import damage

import lamella as package
from lamella.packaging.package import Package, build_packages
from lamella.platforms import load_platform


@pytest.fixture
def packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Package]:
    monkeypatch.setenv("LAMELLA_HOME", str(folder / "home"))
    package.slice(folder / "mlp.onnx", folder / "slices", slices=2, verify=False)
    return build_packages(folder / "slices", name="mlp", platform=load_platform("aws-lambda"))


def test_it_shows_where_how_large_and_what(lamella: Lamella, folder: Path, packages: list[Package]) -> None:
    shown = lamella("cache")
    assert shown.status == 0
    assert str(folder / "home") in shown.out
    assert "mlp-slice-1, delivered by `package`" in shown.out
    content = lamella("cache", "--json").json
    assert content["schema"] == "lamella.cache/1"
    assert content["folder"] == str(folder / "home")
    assert {kept["folder"] for kept in content["kept"]} >= {str(one.folder) for one in packages}
    assert packages[0].unzipped_bytes < content["bytes"] < 2 * packages[0].unzipped_bytes


def test_nothing_is_removed_unasked(lamella: Lamella, packages: list[Package]) -> None:
    refused = lamella("cache", "prune", "--all")
    assert refused.status == 2
    assert "this removes 4 item(s) and frees" in refused.err
    assert "nothing was removed" in refused.err
    tried = lamella("cache", "prune", "--all", "--dry-run", "--json").json
    assert tried["dry_run"] is True
    assert len(tried["removed"]) == 4
    assert all(one.folder.is_dir() for one in packages)


def test_it_prunes(lamella: Lamella, packages: list[Package]) -> None:
    assert lamella("cache", "prune").err == "0 item(s) removed, 0 B freed\n"
    assert lamella("cache", "prune", "--older-than", "0.5", "--json").json["removed"] == []
    done = lamella("cache", "prune", "--all", "--yes", "--json")
    assert done.status == 0
    assert done.json["freed_bytes"] > packages[0].unzipped_bytes
    assert lamella("cache", "--json").json["kept"] == []
    assert "0 B" in lamella("cache").out


def test_it_verifies(lamella: Lamella, packages: list[Package]) -> None:
    assert lamella("cache", "verify").err == "4 item(s) are intact, 0 were damaged and are removed\n"
    damage(next(packages[0].folder.glob("model/*.data")))
    found = lamella("cache", "verify", "--json")
    assert found.status == 1
    assert (found.json["intact"], [one["folder"] for one in found.json["removed"]]) == (3, [str(packages[0].folder)])
    assert lamella("cache", "verify").status == 0
