"""Images into a registry and out of it again: a real one, which refuses, breaks off, and lies."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.functional import registries
from tests.functional.packages import run_chain
from tests.functional.registries import Server
from tests.functional.test_images import skopeo, unpacked

import lamella
from lamella.errors import PackageError, RegistryError, UsageError
from lamella.packaging.images.bases import open_base
from lamella.packaging.images.blobs import Blobs
from lamella.packaging.images.building import Image, build_image, image_blobs
from lamella.packaging.images.credentials import Credentials
from lamella.packaging.images.files import write_layout
from lamella.packaging.images.pushing import push_image
from lamella.packaging.images.references import Reference
from lamella.packaging.images.registry import CHUNK_BYTES, Registry, open_registry
from lamella.packaging.images.session import RegistrySession
from lamella.packaging.package import build_packages
from lamella.platforms import load_platform

WIDTH = 256
WHO = Credentials("AWS", "a:long:password")
AWS = load_platform("aws-lambda")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    lamella.slice(models.mlp(folder / "mlp.onnx", width=WIDTH), folder / "mlp.slices", slices=2)
    return folder / "mlp.slices"


@pytest.fixture(scope="module")
def images(sliced: Path, cache: Path) -> list[Image]:
    packages = build_packages(sliced, name="mlp", platform=AWS, delivery="image", cache=cache)
    return [build_image(package, cache=cache) for package in packages]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with registries.registry(tmp_path / "server") as found:
        yield found


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nowhere"))


def opened(address: str, repository: str = "mlp", **session: Any) -> Registry:
    """A registry that is asked again without a long wait."""
    return Registry(RegistrySession(address, first_wait_s=0.01, **session), Reference(address, repository, "slice-0"))


def layer(image: Image) -> Any:
    """The largest."""
    return max((layer.blob for layer in image.layers), key=lambda blob: blob.size)


def test_what_was_pushed_comes_back_by_skopeo_and_infers(
    images: list[Image], sliced: Path, server: Server, tmp_path: Path
) -> None:
    folders = []
    for image in images:
        pushed = push_image(image, f"{server.address}/team/mlp:{image.name}")
        assert pushed == f"{server.address}/team/mlp@{image.manifest.digest}"
        for name in (pushed, f"{server.address}/team/mlp:{image.name}"):
            place = tmp_path / f"{image.name}-{len(name)}"
            skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{place}")
        folders.append(unpacked(place, tmp_path / f"{image.name}-unpacked"))
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{pushed}"))
    assert shown["Digest"] == images[1].manifest.digest
    inputs = {"x": np.linspace(-1, 1, 3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)}
    with lamella.Pipeline(sliced) as pipeline:
        np.testing.assert_allclose(run_chain(folders, inputs)["y"], pipeline.infer(inputs)["y"], rtol=1e-6)


def test_what_the_registry_has_is_not_sent_again(images: list[Image], server: Server) -> None:
    push_image(images[0], f"{server.address}/mlp:one")
    sent = server.requests("PATCH")
    push_image(images[0], f"{server.address}/mlp:two")
    assert server.requests("PATCH") == sent
    push_image(images[1], f"{server.address}/mlp:three")
    assert len(server.requests("PATCH")) == len(sent) + 3  # its model, its function.json, its config


def test_the_layers_of_a_base_in_the_same_registry_are_mounted(
    images: list[Image], sliced: Path, cache: Path, server: Server
) -> None:
    push_image(images[0], f"{server.address}/base/python:3")
    package, _ = build_packages(sliced, name="on-base", platform=AWS, delivery="image", cache=cache)
    base = open_base(f"{server.address}/base/python:3", architecture=package.architecture, blobs=image_blobs(cache))
    sent = server.requests("PATCH")
    image = build_image(package, base=base, cache=cache)
    push_image(image, f"{server.address}/on-base:1")
    assert len(server.requests("PATCH")) == len(sent) + 2  # `function.json` and the config; nothing of the base
    assert any("?mount=sha256" in path for path in server.requests("POST"))
    assert json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{server.address}/on-base:1"))["Layers"] == [
        layer.blob.digest for layer in image.layers
    ]


def test_a_base_is_pulled_verified_and_found_again(images: list[Image], server: Server, tmp_path: Path) -> None:
    push_image(images[0], f"{server.address}/base:1")
    pulled = image_blobs(tmp_path)
    base = open_base(f"{server.address}/base:1", architecture="x86_64", blobs=pulled)
    assert [found.diff_id for found in base.layers] == [layer.diff_id for layer in images[0].layers]
    for found in base.layers:
        assert pulled.path(found.blob.digest).read_bytes() == images[0].blobs.path(found.blob.digest).read_bytes()
    asked = len(server.requests("GET"))
    assert open_base(f"{server.address}/base:1", architecture="x86_64", blobs=pulled) == base
    assert len(server.requests("GET")) == asked + 1  # the manifest


def test_a_list_of_images_leads_to_the_one_for_the_processor(
    images: list[Image], server: Server, tmp_path: Path
) -> None:
    push_image(images[0], f"{server.address}/base:one")
    write_layout(images[:1], tmp_path / "layout")
    index = json.loads((tmp_path / "layout" / "index.json").read_bytes())
    other = {**index["manifests"][0], "platform": {"architecture": "s390x", "os": "linux"}}
    content = json.dumps({**index, "manifests": [other, *index["manifests"]]}).encode()
    registry = open_registry(Reference(server.address, "base"))
    digest = registry.push_manifest(content, index["mediaType"], tag="many")
    for name in ("base:many", f"base@{digest}"):
        base = open_base(f"{server.address}/{name}", architecture="x86_64", blobs=image_blobs(tmp_path))
        assert len(base.layers) == 4
    with pytest.raises(PackageError, match="has no images for linux/arm64"):
        open_base(f"{server.address}/base:many", architecture="arm64", blobs=image_blobs(tmp_path))


@pytest.mark.parametrize(("broken_after", "most_sent"), [(CHUNK_BYTES + 4096, 1.1), (CHUNK_BYTES + (1 << 20), 1.7)])
def test_a_push_that_is_interrupted_goes_on(
    broken_after: int, most_sent: float, images: list[Image], server: Server
) -> None:
    """Where it was, if the registry knows that; this one forgets an upload that breaks off inside of a chunk."""
    blob = layer(images[0])
    with registries.relay(server, breaks=1, sent_bytes=broken_after) as between:
        registry = opened(between.address)
        assert registry.push_blob(blob, images[0].blobs.path(blob.digest)) == "sent"
        assert between.breaks <= 0
        assert blob.size < between.passed < most_sent * blob.size
    assert server.blob(blob.digest).read_bytes() == images[0].blobs.path(blob.digest).read_bytes()
    assert registry_has(server, blob)


def registry_has(server: Server, blob: Any) -> bool:
    return opened(server.address).has_blob(blob)


def test_a_pull_that_is_interrupted_goes_on_where_it_was(images: list[Image], server: Server, tmp_path: Path) -> None:
    push_image(images[0], f"{server.address}/mlp:slice-0")
    blob, pulled = layer(images[0]), Blobs(tmp_path)
    with registries.relay(server, breaks=2, received_bytes=8 << 20) as between:
        opened(between.address).fetch(blob, pulled)
        assert between.breaks <= 0
    assert pulled.has(blob.digest, blob.size)
    answers = [
        line for line in server.log.read_text().splitlines() if f"blobs/{blob.digest}" in line and '"GET ' in line
    ]
    assert [line.split('HTTP/1.1" ')[1][:3] for line in answers] == ["200", "206", "206"]


def test_a_connection_that_always_breaks_is_an_error_in_the_end(
    images: list[Image], server: Server, tmp_path: Path
) -> None:
    push_image(images[0], f"{server.address}/mlp:slice-0")
    with registries.relay(server, breaks=1000, received_bytes=0) as between:
        with pytest.raises(RegistryError, match=r"registry `127\.0\.0\.1:.*`: ") as caught:
            opened(between.address).fetch(layer(images[0]), Blobs(tmp_path))
        assert caught.value.hint
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "server" not in path.parts] == []


def test_a_blob_that_was_changed_in_the_registry_is_refused(
    images: list[Image], server: Server, tmp_path: Path
) -> None:
    push_image(images[0], f"{server.address}/mlp:slice-0")
    blob = layer(images[0])
    with server.blob(blob.digest).open("r+b") as file:
        file.seek(blob.size // 2)
        file.write(b"changed")
    with pytest.raises(PackageError, match=f"blob `{blob.digest}` of .* bytes came as `sha256:"):
        open_base(f"{server.address}/mlp:slice-0", architecture="x86_64", blobs=Blobs(tmp_path))
    assert not Blobs(tmp_path).has(blob.digest, blob.size)


def test_a_registry_refuses_a_blob_of_another_digest(images: list[Image], server: Server, tmp_path: Path) -> None:
    blob = images[0].layers[2].blob
    (tmp_path / "changed").write_bytes(bytes(blob.size))
    with pytest.raises(RegistryError, match=r"answers 400 to PUT .*: DIGEST_INVALID") as caught:
        opened(server.address).push_blob(blob, tmp_path / "changed")
    assert not caught.value.temporary
    assert not registry_has(server, blob)


def test_a_name_that_is_not_there_says_so(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        RegistryError, match=r"answers 404 to GET `/v2/none/manifests/1`: MANIFEST_UNKNOWN|NAME_UNKNOWN"
    ):
        open_base(f"{server.address}/none:1", architecture="x86_64", blobs=Blobs(tmp_path))
    registry = open_registry(Reference(server.address, "none"))
    assert not registry.has_manifest("latest")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(RegistryError, match=f"registry `127.0.0.1:{port}`: .*refused"):
        opened(f"127.0.0.1:{port}").manifest()


def test_an_image_is_deleted(images: list[Image], server: Server) -> None:
    push_image(images[0], f"{server.address}/mlp:slice-0")
    registry = open_registry(Reference(server.address, "mlp"))
    assert registry.has_manifest("slice-0")
    registry.delete_manifest(images[0].manifest.digest)
    assert not registry.has_manifest("slice-0")
    with pytest.raises(RegistryError, match="answers 404 to DELETE"):
        registry.delete_manifest(images[0].manifest.digest)


def test_names_and_passwords_as_amazon_ecr_takes_them(
    images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = registries.basic_auth(tmp_path, WHO.user, WHO.password)
    with registries.registry(tmp_path / "server", auth=auth) as server:
        for who in (None, Credentials(WHO.user, "wrong")):
            with pytest.raises(RegistryError, match=f"registry `{server.address}` refuses: ") as caught:
                push_image(images[0], f"{server.address}/mlp:1", credentials=who)
            assert "podman login" in (caught.value.hint or "")
            assert "wrong" not in str(caught.value)
        push_image(images[0], f"{server.address}/mlp:1", credentials=WHO)
        registries.write_login(tmp_path / "auth.json", server.address, WHO.user, WHO.password)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        push_image(images[1], f"{server.address}/mlp:2")
        assert open_registry(Reference(server.address, "mlp")).has_manifest("2")


def test_a_password_that_holds_no_longer_is_renewed_while_pushing(images: list[Image], tmp_path: Path) -> None:
    given: list[str] = []

    def login() -> Credentials:
        given.append(f"password-{len(given)}")
        registries.basic_auth(tmp_path, WHO.user, given[-1])  # the registry reads it anew
        return Credentials(WHO.user, given[-1])

    auth = registries.basic_auth(tmp_path, WHO.user, "nobody's")
    with registries.registry(tmp_path / "server", auth=auth) as server:
        registry = open_registry(Reference(server.address, "mlp"), credentials=login)
        for number, layer in enumerate(images[0].layers):
            assert registry.push_blob(layer.blob, images[0].blobs.path(layer.blob.digest)) == "sent"
            registries.basic_auth(tmp_path, WHO.user, f"another-{number}")
        assert len(given) >= len(images[0].layers)


def test_tokens_as_docker_hub_gives_them(images: list[Image], tmp_path: Path) -> None:
    with (
        registries.token_authority(tmp_path, WHO.user, WHO.password) as authority,
        registries.registry(tmp_path / "server", auth=authority.auth) as server,
    ):
        push_image(images[0], f"{server.address}/mlp:1", credentials=WHO)
        assert "repository:mlp:pull,push" in authority.asked
        found = len(authority.asked)
        assert open_registry(Reference(server.address, "mlp", "1"), credentials=WHO).manifest()
        assert authority.asked[found:] == ["repository:mlp:pull"]
        with pytest.raises(RegistryError, match="refuses: "):
            push_image(images[0], f"{server.address}/mlp:1", credentials=Credentials("AWS", "wrong"))


def test_tls_is_verified(images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = registries.certificate(tmp_path)
    with registries.registry(tmp_path / "server", certificate=certificate) as server:
        with pytest.raises(RegistryError, match="certificate verify failed"):
            push_image(images[0], f"{server.address}/mlp:1")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        push_image(images[0], f"{server.address}/mlp:1")
        assert open_registry(Reference(server.address, "mlp")).has_manifest("1")


def test_pushing_to_a_digest_is_refused(images: list[Image]) -> None:
    with pytest.raises(UsageError, match="is an image already"):
        push_image(images[0], f"localhost:1/mlp@{images[0].manifest.digest}")


def test_the_verb_packages_and_pushes(sliced: Path, server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lamella", "package", str(sliced), "--format", "oci"]
    environment = {**os.environ, "LAMELLA_HOME": str(tmp_path / "home")}
    pushed = subprocess.run(
        [*command, "--base-image", "none", "--push", f"{server.address}/mlp:v1", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert pushed.returncode == 0, pushed.stderr
    found = json.loads(pushed.stdout)
    assert found["schema"] == "lamella.package/1"
    for index, one in enumerate(found["packages"]):
        assert one["pushed"] == f"{server.address}/mlp@sha256:{one['digest']}"
        assert one["unpacked_bytes"] < one["limit_bytes"] == AWS.limits.image_bytes
        name = f"docker://{server.address}/mlp:v1-slice-{index}"
        assert json.loads(skopeo("inspect", "--tls-verify=false", name))["Digest"] == f"sha256:{one['digest']}"
