"""Images: the same everywhere, accepted by skopeo and podman, and what runs from them is what was pushed."""

import hashlib
import json
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.functional.packages import run_chain
from tests.functional.registries import need

import lamella
from lamella.errors import PackageError, UsageError
from lamella.packaging.images.bases import open_base
from lamella.packaging.images.building import Image, build_image, check_image_size, image_blobs
from lamella.packaging.images.files import write_archive, write_layout
from lamella.packaging.images.layers import ImageLayer
from lamella.packaging.images.unpacking import unpack_image
from lamella.packaging.package import Package, build_packages
from lamella.platforms import load_platform

WIDTH = 256
INPUTS = {"x": np.linspace(-1, 1, 3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)}
AWS = load_platform("aws-lambda")


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    lamella.slice(models.mlp(folder / "mlp.onnx", width=WIDTH), folder / "mlp.slices", slices=2)
    return folder / "mlp.slices"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def packages(sliced: Path, cache: Path) -> list[Package]:
    return build_packages(sliced, name="mlp", platform=AWS, delivery="image", cache=cache)


@pytest.fixture(scope="module")
def images(packages: list[Package], cache: Path) -> list[Image]:
    return [build_image(package, cache=cache) for package in packages]


@pytest.fixture(scope="module")
def expected(sliced: Path) -> Any:
    with lamella.Pipeline(sliced) as pipeline:
        return pipeline.infer(INPUTS)["y"]


def skopeo(*arguments: str) -> str:
    need("skopeo")
    finished = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False, timeout=100)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def unpacked(layout: Path, folder: Path) -> Path:
    """`/var/task` of the one image in a layout, by nothing of Lamella's."""

    def document(digest: str) -> Any:
        return json.loads((layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes())

    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    for layer in document(entry["digest"])["layers"]:
        with tarfile.open(layout / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")) as archive:
            archive.extractall(folder, filter="data")
    return folder / "var" / "task"


def test_layers_go_from_what_changes_least_to_what_changes_most(images: list[Image], packages: list[Package]) -> None:
    assert [layer.kind for layer in images[0].layers] == ["dependencies", "function-side", "model", "function"]
    kinds = {layer.kind: layer.blob.media_type.rpartition("+")[2] for layer in images[0].layers}
    assert kinds["dependencies"] == kinds["function-side"] == "gzip"
    assert kinds["model"] == "application/vnd.oci.image.layer.v1.tar"  # weights hardly get smaller
    assert [image.unpacked_bytes for image in images] == [package.unzipped_bytes for package in packages]
    assert images[0].layers[:2] == images[1].layers[:2]


def test_the_same_package_is_the_same_image_wherever_it_is_built(
    sliced: Path, packages: list[Package], images: list[Image], tmp_path: Path
) -> None:
    again = build_packages(sliced, name="mlp", platform=AWS, delivery="image", cache=tmp_path)
    assert again[0].folder != packages[0].folder
    for path in again[0].folder.rglob("*"):
        os.utime(path, (1, 1))
    elsewhere = build_image(again[0], cache=tmp_path)
    assert elsewhere.manifest == images[0].manifest
    for blob in elsewhere.descriptors:
        content = elsewhere.blobs.path(blob.digest).read_bytes()
        assert (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)) == (blob.digest, blob.size)


def test_an_image_under_another_name_shares_all_but_one_small_layer(
    sliced: Path, images: list[Image], cache: Path
) -> None:
    package, _ = build_packages(sliced, name="other", platform=AWS, delivery="image", cache=cache)
    built = {path: path.stat().st_ino for path in images[0].blobs.path("").iterdir()}
    image = build_image(package, cache=cache)
    assert image.layers[:3] == images[0].layers[:3]
    assert image.layers[3] != images[0].layers[3]
    assert image.layers[3].blob.size < 2000
    after = {path: path.stat().st_ino for path in images[0].blobs.path("").iterdir()}
    assert after.items() >= built.items()
    assert len(after) == len(built) + 3  # that layer, the config, the manifest


def test_a_blob_that_was_removed_is_built_again(packages: list[Package], cache: Path) -> None:
    image = build_image(packages[0], cache=cache)
    lost = image.blobs.path(image.layers[2].blob.digest)
    lost.unlink()
    assert build_image(packages[0], cache=cache) == image
    assert lost.is_file()


def test_entries_are_owned_by_root_dated_1970_and_readable(images: list[Image]) -> None:
    names = []
    for layer in images[0].layers:
        with tarfile.open(images[0].blobs.path(layer.blob.digest)) as archive:
            entries = archive.getmembers()
        assert [e.name for e in entries if e.isreg()] == sorted(e.name for e in entries if e.isreg())
        assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries} == {(0, 0, "", "", 0)}
        assert {(e.isdir(), e.mode) for e in entries} == {(True, 0o755), (False, 0o644)}
        names += [entry.name for entry in entries]
    assert {"var", "var/task", "var/task/function.json", "var/task/lamella/runtime/handler.py"} <= set(names)


def test_skopeo_takes_a_layout_and_what_it_copies_infers(images: list[Image], expected: Any, tmp_path: Path) -> None:
    write_layout(images, tmp_path / "layout")
    shown = json.loads(skopeo("inspect", "--config", f"oci:{tmp_path / 'layout'}:mlp-slice-1"))
    assert shown["config"]["Cmd"] == ["lamella.runtime.handler.handle"]
    assert shown["config"]["WorkingDir"] == "/var/task"
    assert "LAMBDA_TASK_ROOT=/var/task" in shown["config"]["Env"]
    folders = []
    for image in images:
        place = tmp_path / image.name
        skopeo("copy", f"oci:{tmp_path / 'layout'}:{image.name}", f"oci:{place}")
        folders.append(unpacked(place, tmp_path / f"{image.name}-unpacked"))
    np.testing.assert_allclose(run_chain(folders, INPUTS)["y"], expected, rtol=1e-6)


def test_a_layout_is_replaced_and_keeps_nothing_of_the_old_one(images: list[Image], tmp_path: Path) -> None:
    write_layout(images, tmp_path / "layout")
    write_layout(images[:1], tmp_path / "layout")
    held = {path.name for path in (tmp_path / "layout" / "blobs" / "sha256").iterdir()}
    assert held == {blob.digest.removeprefix("sha256:") for blob in images[0].descriptors}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match="is no image layout, and not empty"):
        write_layout(images, tmp_path / "other")


def test_an_archive_is_the_same_twice_and_skopeo_reads_it(images: list[Image], tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_archive(images[0], tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    shown = json.loads(skopeo("inspect", f"oci-archive:{tmp_path / 'a.tar'}"))
    assert shown["Digest"] == images[0].manifest.digest
    assert shown["Layers"] == [layer.blob.digest for layer in images[0].layers]


def test_what_runs_here_is_unpacked_from_the_image(images: list[Image], packages: list[Package], expected: Any) -> None:
    folders = [unpack_image(image, package.files) for image, package in zip(images, packages, strict=True)]
    for folder, package in zip(folders, packages, strict=True):
        held = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        assert held.keys() == {file.path for file in package.files}
        assert all(hashlib.sha256(held[f.path].read_bytes()).hexdigest() == f.sha256 for f in package.files)
        assert not any(path.stat().st_mode & 0o222 for path in held.values())
        (weights,) = (folder / "model").glob("*.data")
        assert weights.stat().st_nlink == 1  # engines refuse some weights in files with several names
    engines = [next(folder.glob("onnxruntime/capi/*pybind11*")) for folder in folders]
    assert engines[0].samefile(engines[1])
    np.testing.assert_allclose(run_chain(folders, INPUTS)["y"], expected, rtol=1e-6)


def test_a_damaged_layer_is_not_run(images: list[Image], packages: list[Package], tmp_path: Path) -> None:
    blobs = image_blobs(tmp_path)
    for blob in images[0].descriptors:
        with images[0].blobs.path(blob.digest).open("rb") as source, blobs.new(blob) as target:
            target.write(source.read())
    damaged = blobs.path(images[0].layers[2].blob.digest)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(content)
    with pytest.raises(PackageError, match="the blob of layer `sha256:"):
        unpack_image(replace(images[0], blobs=blobs), packages[0].files)
    assert not any((tmp_path / "images" / "functions").iterdir())


def test_an_image_stands_on_a_base_from_a_layout(
    images: list[Image], packages: list[Package], cache: Path, tmp_path: Path
) -> None:
    write_layout(images[:1], tmp_path / "layout")
    base = open_base(tmp_path / "layout", architecture=packages[1].architecture, blobs=image_blobs(cache))
    assert [layer.kind for layer in base.layers] == ["", "", "", ""]
    image = build_image(packages[1], base=base, cache=cache)
    assert [layer.diff_id for layer in image.layers[:4]] == [layer.diff_id for layer in images[0].layers]
    assert image.unpacked_bytes > images[0].unpacked_bytes + images[1].unpacked_bytes
    config = json.loads(image.blobs.read(image.config))
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
    assert len(config["history"]) == len(image.layers)
    with pytest.raises(PackageError, match=r"of them in its base, above the 90,000,000 of AWS Lambda"):
        check_image_size(image, replace(AWS, limits=replace(AWS.limits, image_bytes=90_000_000)))


def written_base(image: Image, folder: Path, config: dict[str, Any], layers: dict[str, str], kind: str) -> Path:
    """A layout with the image under another run configuration, manifest type, and other types of layers."""
    content = {**json.loads(image.blobs.read(image.config)), "config": config}
    blob = image.blobs.add(json.dumps(content).encode(), "application/vnd.docker.container.image.v1+json")
    manifest = json.loads(image.blobs.read(image.manifest))
    for layer in manifest["layers"]:
        layer["mediaType"] = layers.get(layer["mediaType"], layer["mediaType"])
    manifest |= {"config": blob.view(), "mediaType": kind}
    described = image.blobs.add(json.dumps(manifest).encode(), kind)
    write_layout([replace(image, config=blob, manifest=described)], folder)
    return folder


def test_on_a_base_of_aws_lambda_s_its_own_runtime_calls_the_handler(
    images: list[Image], packages: list[Package], cache: Path, tmp_path: Path
) -> None:
    """Pulled from a registry, such bases come in Docker's types."""
    run = {
        "Entrypoint": ["/lambda-entrypoint.sh"],
        "Env": ["LANG=en_US.UTF-8", "LAMBDA_TASK_ROOT=/var/task", "LAMBDA_RUNTIME_DIR=/var/runtime"],
        "WorkingDir": "/var/task",
    }
    docker = {
        "application/vnd.oci.image.layer.v1.tar+gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.oci.image.layer.v1.tar": "application/vnd.docker.image.rootfs.diff.tar",
    }
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    layout = written_base(images[0], tmp_path / "base", run, docker, kind)
    base = open_base(layout, architecture=packages[1].architecture, blobs=image_blobs(cache))
    image = build_image(packages[1], base=base, cache=cache)
    found = json.loads(image.blobs.read(image.config))["config"]
    assert found == {**run, "Cmd": ["lamella.runtime.handler.handle"]}
    manifest = json.loads(image.blobs.read(image.manifest))
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert {layer["mediaType"] for layer in manifest["layers"]} == docker.keys()


def test_layers_that_lambda_does_not_take_are_refused(
    images: list[Image], packages: list[Package], cache: Path, tmp_path: Path
) -> None:
    kind = "application/vnd.oci.image.layer.v1.tar"
    zstd = {f"{kind}+gzip": f"{kind}+zstd"}
    layout = written_base(images[0], tmp_path / "base", {}, zstd, "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(PackageError, match=r"has a layer of type `.*zstd`, which AWS Lambda does not take"):
        open_base(layout, architecture=packages[0].architecture, blobs=image_blobs(cache))


def test_a_base_for_other_processors_is_refused(images: list[Image], cache: Path, tmp_path: Path) -> None:
    write_layout(images[:1], tmp_path / "layout")
    other: Any = "arm64" if json.loads(images[0].blobs.read(images[0].config))["architecture"] == "amd64" else "x86_64"
    with pytest.raises(PackageError, match="has no images for linux/"):
        open_base(tmp_path / "layout", architecture=other, blobs=image_blobs(cache))


def test_a_base_whose_layer_is_not_what_its_config_says_is_refused(
    images: list[Image], packages: list[Package], cache: Path, tmp_path: Path
) -> None:
    first = images[0].layers[0]
    swapped = replace(images[0], layers=(ImageLayer(first.blob, "sha256:" + "0" * 64, 1), *images[0].layers[1:]))
    config = json.loads(swapped.blobs.read(swapped.config))
    config["rootfs"]["diff_ids"][0] = "sha256:" + "0" * 64
    blob = swapped.blobs.add(json.dumps(config).encode(), swapped.config.media_type)
    manifest = {**json.loads(swapped.blobs.read(swapped.manifest)), "config": blob.view()}
    described = swapped.blobs.add(json.dumps(manifest).encode(), swapped.manifest.media_type)
    write_layout([replace(swapped, config=blob, manifest=described)], tmp_path / "layout")
    with pytest.raises(PackageError, match=r"unpacks to `sha256:.*`, not to `sha256:0000"):
        open_base(tmp_path / "layout", architecture=packages[0].architecture, blobs=image_blobs(cache))


def test_a_deployment_by_image_infers_as_one_by_package(
    sliced: Path, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path))
    with lamella.deploy(sliced, delivery="image") as endpoint:
        np.testing.assert_allclose(endpoint.infer(INPUTS)["y"], expected, rtol=1e-6)
        for function in endpoint.functions:
            folder = Path(function.folder)
            assert folder.parent == tmp_path / "images" / "functions"
            assert function.sha256 == folder.name
            assert image_blobs().path(f"sha256:{folder.name}").is_file()  # the manifest of what runs
