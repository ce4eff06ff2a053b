"""What the cache holds of images: shown, pruned, and verified like all else in it."""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests import models
from tests.functional.packages import damage

import lamella
from lamella.errors import PackageError
from lamella.packaging.cache import in_use
from lamella.packaging.images.bases import open_base
from lamella.packaging.images.building import Image, build_image, image_blobs
from lamella.packaging.images.files import write_layout
from lamella.packaging.images.unpacking import unpack_image
from lamella.packaging.inventory import Kept, disk_bytes, inventory
from lamella.packaging.items import ensure_package, item_of
from lamella.packaging.layers import LayerFile
from lamella.packaging.package import Package
from lamella.packaging.pruning import prune, verify
from lamella.runtime.function import FunctionConfig
from lamella.targets import packages as targets_packages

DAY_S = 86400
SMALL = {"blob": 10, "function": 2, "unpacked": 2, "package": 2}
"""Of two images with the same engine and function side: two layers each, a manifest and a configuration."""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def small_package(cache: Path, index: int) -> Package:
    """A package with all kinds of files, and no engine that works."""
    name = f"mlp-slice-{index}"
    function = FunctionConfig(name=name, slice=index, file="slice.onnx", inputs=(), outputs=(), delivery="image")
    items = (
        item_of("function.json", function.encoded()),
        item_of("lamella/wire.py", b"# the function side\n" * 500),
        item_of("numpy/core.so", b"the engine " * 5000),
        item_of("model/slice.data", np.random.default_rng(index).bytes(50_000)),
    )
    folder = ensure_package(cache, items)
    files = tuple(sorted((LayerFile(i.path, i.size, i.sha256) for i in items), key=lambda file: file.path))
    return Package(function, folder, folder.name, sum(i.size for i in items), (), files, "x86_64", "3.13")


@pytest.fixture
def packages(cache: Path) -> list[Package]:
    return [small_package(cache, index) for index in range(2)]


def built(packages: Sequence[Package], cache: Path) -> tuple[list[Image], list[Path]]:
    images = [build_image(package, cache=cache) for package in packages]
    return images, [unpack_image(image, package.files) for image, package in zip(images, packages, strict=True)]


@pytest.fixture
def images(packages: list[Package], cache: Path) -> list[Image]:
    return built(packages, cache)[0]


def kinds(found: Sequence[Kept]) -> dict[str, int]:
    return dict(Counter(kept.kind for kept in found))


def function_folder(image: Image) -> Path:
    return image.blobs.folder / "functions" / image.manifest.digest.removeprefix("sha256:")


def blob_of(image: Image, kind: str) -> Path:
    return image.blobs.path(next(layer.blob.digest for layer in image.layers if layer.kind == kind))


def age(place: Path, days: float) -> None:
    os.utime(place, (time.time() - days * DAY_S,) * 2)


def test_it_shows_blobs_and_what_was_unpacked(images: list[Image], cache: Path) -> None:
    found = inventory(cache)
    assert kinds(found) == SMALL
    said = {kept.folder: kept.what for kept in found}
    assert said[blob_of(images[0], "model")] == "an image's layer: model"
    assert said[blob_of(images[0], "dependencies")] == "an image's layer: dependencies"
    assert said[images[0].blobs.path(images[0].manifest.digest)] == "an image's manifest or configuration"
    assert said[function_folder(images[1])] == "mlp-slice-1, unpacked from its image"
    shown = subprocess.run(["du", "-sb", "--apparent-size", cache], capture_output=True, text=True, check=True)
    folders = sum(path.stat().st_size for path in (cache, *cache.rglob("*")) if path.is_dir())
    assert disk_bytes(found) == int(shown.stdout.split()[0]) - folders


def test_all_of_images_is_pruned_and_built_again(images: list[Image], packages: list[Package], cache: Path) -> None:
    assert kinds(prune(cache, older_than_days=0).removed) == SMALL
    assert [path for path in cache.rglob("*") if not path.is_dir()] == []
    again = [small_package(cache, index) for index in range(2)]
    assert again == packages
    assert built(again, cache)[0] == images
    assert kinds(verify(cache).intact) == SMALL


def test_what_was_not_used_for_long_is_pruned_and_what_is_asked_for_stays(
    images: list[Image], packages: list[Package], cache: Path
) -> None:
    for kept in inventory(cache):
        age(kept.folder, 31)
    built(packages[:1], cache)
    assert kinds(prune(cache).removed) == {"blob": 4, "function": 1, "unpacked": 2, "package": 2}
    assert not blob_of(images[1], "model").exists()
    assert all(images[0].blobs.path(blob.digest).is_file() for blob in images[0].descriptors)
    notes = [json.loads(path.read_text()) for path in (images[0].blobs.folder / "layers").iterdir()]
    assert {note["blob"]["digest"] for note in notes} == {layer.blob.digest for layer in images[0].layers}
    folder = function_folder(images[0])
    assert (folder / "numpy/core.so").read_bytes() == b"the engine " * 5000  # what it shares is unpacked no more


@pytest.mark.usefixtures("images")
def test_images_stay_while_the_cache_is_in_use(cache: Path) -> None:
    with in_use(cache), pytest.raises(PackageError, match="nothing was pruned"):
        prune(cache, older_than_days=0)
    assert kinds(inventory(cache)) == SMALL


def test_nothing_is_pruned_between_building_an_image_and_writing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("LAMELLA_HOME", str(cache))

    def prune_and_write(images: Sequence[Image], folder: Path) -> None:
        with pytest.raises(PackageError, match="nothing was pruned"):
            prune(older_than_days=0)
        write_layout(images, folder)

    monkeypatch.setattr(targets_packages, "write_layout", prune_and_write)
    model = models.mlp(tmp_path / "mlp.onnx")
    made = lamella.package(model, tmp_path / "images", format="oci", base_image="none", slices=1, verify=False)
    assert made[0].path == tmp_path / "images"
    assert (tmp_path / "images" / "index.json").is_file()


def test_pruning_frees_what_no_layout_outside_shares(images: list[Image], cache: Path, tmp_path: Path) -> None:
    taken = disk_bytes(inventory(cache))
    write_layout(images, tmp_path / "layout")
    shared = sum({blob.digest: blob.size for image in images for blob in image.descriptors}.values())
    assert prune(cache, older_than_days=0).freed_bytes == taken - shared > 0


@pytest.mark.parametrize(
    ("kind", "damaged"),
    [
        ("dependencies", {"blob": 1, "function": 2, "unpacked": 1}),
        ("model", {"blob": 1, "function": 1}),
        ("function", {"blob": 1, "function": 1}),
    ],
)
def test_a_damaged_layer_is_found_with_all_that_can_no_more_be_compared(
    kind: str, damaged: dict[str, int], images: list[Image], packages: list[Package], cache: Path
) -> None:
    damage(blob_of(images[0], kind))
    assert kinds(verify(cache).damaged) == damaged
    assert built(packages, cache)[0] == images
    assert verify(cache).damaged == ()
    assert kinds(inventory(cache)) == SMALL


def test_a_damaged_manifest_is_found(images: list[Image], packages: list[Package], cache: Path) -> None:
    damage(images[0].blobs.path(images[0].manifest.digest))
    assert kinds(verify(cache).damaged) == {"blob": 1, "function": 1}
    assert built(packages, cache)[0] == images
    assert verify(cache).damaged == ()


@pytest.mark.parametrize(
    ("path", "damaged"),
    [("model/slice.data", {"function": 1}), ("numpy/core.so", {"function": 2, "unpacked": 1})],
)
def test_damage_to_what_was_unpacked_is_found(
    path: str, damaged: dict[str, int], images: list[Image], packages: list[Package], cache: Path
) -> None:
    damage(function_folder(images[0]) / path)
    assert kinds(verify(cache).damaged) == damaged
    built(packages, cache)
    assert verify(cache).damaged == ()


def test_what_was_added_or_lost_is_damage(images: list[Image], cache: Path) -> None:
    for number, image in enumerate(images):
        folder = function_folder(image)
        folder.chmod(0o755)
        (folder / "added").touch() if number else (folder / "function.json").unlink()
    assert kinds(verify(cache).damaged) == {"function": 2}


def test_a_note_that_says_another_content_is_found(images: list[Image], packages: list[Package], cache: Path) -> None:
    """Or nobody could ever unpack that layer."""
    notes = {path: json.loads(path.read_text()) for path in (cache / "images" / "layers").iterdir()}
    digest = images[0].layers[0].blob.digest
    (note,) = [path for path, content in notes.items() if content["blob"]["digest"] == digest]
    note.write_text(json.dumps({**notes[note], "diff_id": f"sha256:{'0' * 64}"}))
    assert kinds(verify(cache).damaged) == {"blob": 1, "unpacked": 1, "function": 2}
    assert built(packages, cache)[0] == images
    assert verify(cache).damaged == ()


def test_what_an_interrupted_build_left_is_removed(images: list[Image], cache: Path) -> None:
    left = [blob_of(images[0], "model").with_name(".building-abc"), cache / "images/layers" / ".note.abc.partial"]
    for path in left:
        path.write_bytes(b"half")
    assert sorted(kept.folder for kept in inventory(cache) if kept.kind == "unfinished") == sorted(left)
    pruned = prune(cache)
    assert (kinds(pruned.removed), pruned.freed_bytes) == ({"unfinished": 2}, 8)
    assert not any(path.exists() for path in left)


def test_layers_of_a_base_are_shown_and_verified_as_well(
    images: list[Image], packages: list[Package], tmp_path: Path
) -> None:
    write_layout(images[:1], tmp_path / "base")
    other = tmp_path / "other"
    base = open_base(tmp_path / "base", architecture="x86_64", blobs=image_blobs(other))
    build_image(packages[1], base=base, cache=other)
    assert Counter(kept.what for kept in inventory(other)) == {
        "a base image's layer": 2,  # of its four: the image has the other two as well
        "an image's layer: dependencies": 1,
        "an image's layer: function-side": 1,
        "an image's layer: model": 1,
        "an image's layer: function": 1,
        "an image's manifest or configuration": 3,
    }
    assert verify(other).damaged == ()
    damage(image_blobs(other).path(base.layers[0].blob.digest))
    assert kinds(verify(other).damaged) == {"blob": 1}


def test_a_deployment_that_runs_from_images_survives_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("LAMELLA_HOME", str(cache))
    lamella.slice(models.mlp(tmp_path / "mlp.onnx"), tmp_path / "slices", slices=2, verify=False)
    inputs = {"x": np.ones((1, 32), np.float32)}
    for _ in range(2):
        with lamella.deploy(
            tmp_path / "slices", name="mlp", platform="aws-lambda", target="local", delivery="image"
        ) as endpoint:
            with pytest.raises(PackageError, match="something runs from them"):
                prune(older_than_days=0)
            first = endpoint.infer(inputs)["y"]
        assert kinds(verify().intact) == {"closure": 2, **SMALL}
        assert kinds(prune(older_than_days=0).removed) == {"closure": 2, **SMALL}
    assert first.shape == (1, 32)
