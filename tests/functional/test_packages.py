"""Packages: built once, the same everywhere, and enough to run a slice from."""

import hashlib
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import models
from tests.functional.packages import damage, run_chain, run_package
from tests.functional.special_models import LARGE, floats, saved, tensor, weight

import lamella
from lamella.errors import PackageError, SlicesError, UsageError
from lamella.packaging import deflated
from lamella.packaging import items as module
from lamella.packaging.items import write_items
from lamella.packaging.package import Package, build_packages
from lamella.packaging.wheels import is_unused
from lamella.packaging.zip import write_zip
from lamella.platforms import load_platform
from lamella.runtime.function import read_function
from lamella.runtime.payload import Event, decode_answer
from lamella.targets.keeping import keep
from lamella.workflow.manifest import read_manifest

WIDTH = 64
INPUTS = {"x": np.linspace(-1, 1, 3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)}
AWS = load_platform("aws-lambda")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.mlp(tmp_path_factory.mktemp("model") / "mlp.onnx", width=WIDTH)


@pytest.fixture(scope="module")
def sliced(model: Path) -> Path:
    directory = model.parent / "mlp.slices"
    lamella.slice(model, directory, slices=2)
    return directory


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def packages(sliced: Path, cache: Path) -> list[Package]:
    return build_packages(sliced, name="mlp", platform=AWS, cache=cache)


@pytest.fixture(scope="module")
def expected(model: Path) -> np.ndarray[Any, Any]:
    with lamella.Pipeline(model) as pipeline:
        return pipeline.infer(INPUTS)["y"]


def test_there_is_a_package_a_slice_named_and_described(packages: list[Package]) -> None:
    assert [package.function.name for package in packages] == ["mlp-slice-0", "mlp-slice-1"]
    for index, package in enumerate(packages):
        assert package.folder.name == package.sha256
        assert read_function(package.folder) == package.function
        assert package.function.slice == index
        files = [path for path in package.folder.rglob("*") if path.is_file()]
        assert package.unzipped_bytes == sum(path.stat().st_size for path in files)
        assert "onnxruntime_pybind11_state" in package.heaviest[0][0]
        assert [size for _, size in package.heaviest] == sorted((size for _, size in package.heaviest), reverse=True)
    assert packages[1].function.inputs[0].shape == ("batch", WIDTH)
    assert packages[0].function.outputs == packages[1].function.inputs


def test_a_package_holds_its_own_weights_only(packages: list[Package], model: Path) -> None:
    for package in packages:
        (weights,) = (package.folder / "model").glob("*.data")
        assert weights.stat().st_size == 2 * WIDTH * WIDTH * 4
        assert weights.stat().st_nlink == 1  # engines refuse some weights in files with several names
        loaded = onnx.load(package.folder / "model" / package.function.file)
        original = {i.name: i for i in onnx.load(model).graph.initializer}
        for initializer in loaded.graph.initializer:
            np.testing.assert_array_equal(
                numpy_helper.to_array(initializer), numpy_helper.to_array(original[initializer.name])
            )


def test_an_unpacked_package_infers_by_itself(packages: list[Package], expected: Any, tmp_path: Path) -> None:
    folders = []
    for package in packages:
        write_zip(package, tmp_path / "package.zip")
        folder = tmp_path / f"unpacked-{package.function.slice}"
        with ZipFile(tmp_path / "package.zip") as archive:
            archive.extractall(folder)
        folders.append(folder)
    np.testing.assert_allclose(run_chain(folders, INPUTS)["y"], expected, rtol=1e-6)


def test_nothing_but_the_package_and_the_standard_library_is_imported(packages: list[Package]) -> None:
    package = packages[0]
    found = run_package(package.folder, Event("1", INPUTS), Event("2", INPUTS))
    assert decode_answer(found["answers"][1]).timing.cold_start is False
    own = {name: file for name, file in found["modules"].items() if file.startswith(str(package.folder))}
    tops = {name.partition(".")[0] for name in own}
    assert tops == {"lamella", "numpy", "onnxruntime"}
    others = {name.partition(".")[0] for name in found["modules"].keys() - own.keys()}
    assert others - sys.stdlib_module_names - {"lamella", "numpy", "onnxruntime"} <= {"", "__mp_main__"}
    assert {name for name in found["modules"] if name.startswith("lamella.")} >= {"lamella.runtime.handler"}
    assert not any(name.startswith(("lamella.graph", "lamella.planner")) for name in found["modules"])


def test_modules_come_from_compiled_files(packages: list[Package]) -> None:
    folder = packages[0].folder
    listing = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-v",
            "-c",
            f"import sys; sys.path.insert(0, {str(folder)!r}); import onnxruntime",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    matched = [line for line in listing.splitlines() if " matches " in line and str(folder) in line]
    read = [line for line in listing.splitlines() if line.startswith("# code object from") and str(folder) in line]
    assert len(matched) > 50
    assert [line for line in read if ".pyc" not in line] == []


def test_a_traceback_shows_the_package_s_own_lines(packages: list[Package]) -> None:
    program = f"import sys; sys.path.insert(0, {str(packages[0].folder)!r}); from lamella.tensors import datatype; "
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{program}datatype('no')"], capture_output=True, text=True, check=False
    )
    assert str(packages[0].folder / "lamella" / "tensors.py") in finished.stderr
    assert "raise UnsupportedModelError(" in finished.stderr


def test_packages_are_read_only(packages: list[Package]) -> None:
    for path in (packages[0].folder, *packages[0].folder.rglob("*")):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH), path


def test_nothing_unused_is_packed(packages: list[Package]) -> None:
    paths = [
        path.relative_to(packages[0].folder).as_posix() for path in packages[0].folder.rglob("*") if path.is_file()
    ]
    assert [path for path in paths if is_unused(path) and "__pycache__" not in path] == []
    assert {path.partition("/")[0] for path in paths} - {
        "function.json",
        "lamella",
        "model",
        "numpy",
        "onnxruntime",
    } == {path.partition("/")[0] for path in paths if path.startswith(("numpy.libs/", "numpy-", "onnxruntime-"))}
    assert not any("s3" in path for path in paths if path.startswith("lamella/"))


def test_the_same_slices_give_the_same_bytes_elsewhere(packages: list[Package], model: Path, tmp_path: Path) -> None:
    """In another process with other hashes, from other folders, and from slices that hold copies of their weights."""
    shutil.copy(model, tmp_path / "mlp.onnx")
    program = """
import lamella, sys
from lamella.packaging.package import build_packages
from lamella.packaging.zip import write_zip
from lamella.platforms import load_platform
lamella.slice("mlp.onnx", "copies", slices=2, copy_weights=True, verify=False)
for package in build_packages("copies", name="mlp", platform=load_platform("aws-lambda"), cache="cache"):
    print(package.sha256, write_zip(package, "other.zip"))
"""
    surroundings = {"PYTHONPATH": str(Path(lamella.__file__).parents[1]), "PYTHONHASHSEED": "7"}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=surroundings,
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    here = [f"{package.sha256} {write_zip(package, tmp_path / 'here.zip')}" for package in packages]
    assert finished.stdout.splitlines() == here


def test_what_is_built_is_found_again(packages: list[Package], sliced: Path, cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "write_items", lambda *_, **__: pytest.fail("built again"))
    assert build_packages(sliced, name="mlp", platform=AWS, cache=cache) == packages


def test_only_the_slice_that_changed_is_built_again(
    packages: list[Package], model: Path, cache: Path, tmp_path: Path
) -> None:
    changed = onnx.load(model)
    (last,) = (w for w in changed.graph.initializer if w.name == "w3")
    last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last) * 2, "w3"))
    onnx.save(changed, tmp_path / "mlp.onnx")
    lamella.slice(tmp_path / "mlp.onnx", tmp_path / "slices", slices=2, verify=False)
    before = {path.name for path in (cache / "packages").iterdir()}
    closures = {path.name for path in (cache / "closures").iterdir()}
    again = build_packages(tmp_path / "slices", name="mlp", platform=AWS, cache=cache)
    assert again[0] == packages[0]
    assert again[1].sha256 != packages[1].sha256
    assert {path.name for path in (cache / "packages").iterdir()} - before == {again[1].sha256}
    assert {path.name for path in (cache / "closures").iterdir()} == closures


def test_packages_share_the_engine(packages: list[Package]) -> None:
    engines = [next(package.folder.glob("onnxruntime/capi/*pybind11*")) for package in packages]
    assert engines[0].samefile(engines[1])


def test_a_package_that_lost_a_file_is_built_again(sliced: Path, tmp_path: Path) -> None:
    first = build_packages(sliced, name="other", platform=AWS, cache=tmp_path)[0]
    damaged = first.folder / "model" / first.function.file
    damaged.parent.chmod(0o755)
    damaged.unlink()
    assert build_packages(sliced, name="other", platform=AWS, cache=tmp_path)[0] == first
    assert damaged.is_file()


def test_an_interrupted_build_leaves_nothing_that_is_used(sliced: Path, cache: Path, monkeypatch: Any) -> None:
    def interrupted(folder: Path, items: Any) -> None:
        write_items(folder, items[: len(items) // 2])
        raise KeyboardInterrupt

    before = sorted(path.name for path in (cache / "packages").iterdir())
    monkeypatch.setattr(module, "write_items", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_packages(sliced, name="interrupted", platform=AWS, cache=cache)
    monkeypatch.undo()
    assert sorted(path.name for path in (cache / "packages").iterdir()) == before
    built = build_packages(sliced, name="interrupted", platform=AWS, cache=cache)
    assert read_function(built[0].folder).name == "interrupted-slice-0"


@pytest.mark.parametrize("delivery", ["package", "image", "object-store"])
def test_what_is_too_large_is_refused_with_the_heaviest_paths_and_a_way_out(
    delivery: Any, sliced: Path, cache: Path, tmp_path: Path
) -> None:
    limits = replace(AWS.limits, package_unzipped_bytes=10**7, image_bytes=10**7)
    small = replace(AWS, limits=limits)
    store = None if delivery != "object-store" else (tmp_path / "store").as_uri()
    with pytest.raises(PackageError) as caught:
        build_packages(sliced, name="mlp", platform=small, cache=cache, delivery=delivery, store=store)
    what = "image" if delivery == "image" else "package"
    assert caught.value.message.startswith(f"the {what} of slice 0 would have ")
    assert "bytes, above the 10,000,000 of AWS Lambda: `onnxruntime/capi/onnxruntime_pybind" in caught.value.message
    hint = caught.value.hint or ""
    assert ("--delivery object-store" in hint) == (delivery != "object-store")
    assert ("--delivery image" in hint) == (delivery == "package")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("delivery", ["package", "image", "object-store", "mount"])
def test_a_package_may_have_as_many_bytes_as_the_limit_and_no_more(
    delivery: Any, sliced: Path, cache: Path, tmp_path: Path
) -> None:
    places = {"object-store": {"store": (tmp_path / "store").as_uri()}, "mount": {"mount": tmp_path / "mount"}}

    def build(limit: int) -> list[Package]:
        limits = replace(AWS.limits, package_unzipped_bytes=limit, image_bytes=limit)
        platform = replace(AWS, limits=limits)
        return build_packages(
            sliced, name="mlp", platform=platform, cache=cache, delivery=delivery, **places.get(delivery, {})
        )

    largest = max(package.unzipped_bytes for package in build(10**9))
    assert max(package.unzipped_bytes for package in build(largest)) == largest
    with pytest.raises(PackageError, match=f"would have {largest:,} bytes, above the {largest - 1:,}"):
        build(largest - 1)


def test_weights_go_through_an_object_store_once(
    sliced: Path, cache: Path, expected: Any, tmp_path: Path, packages: list[Package]
) -> None:
    store = tmp_path / "store"
    built = build_packages(sliced, name="mlp", platform=AWS, cache=cache, delivery="object-store", store=store.as_uri())
    written = {path: path.stat().st_ino for path in store.rglob("*") if path.is_file()}
    assert len(written) == 2
    for package, whole in zip(built, packages, strict=True):
        assert sorted(path.name for path in (package.folder / "model").iterdir()) == [package.function.file]
        (described,) = package.function.objects
        weights = (whole.folder / "model" / described.file).read_bytes()
        assert Path(described.uri.removeprefix("file://")).read_bytes() == weights
        assert (described.size, described.sha256) == (len(weights), hashlib.sha256(weights).hexdigest())
        assert {weight.name for weight in package.function.weights} <= {"w0", "w1", "w2", "w3"}
    found = run_chain([package.folder for package in built], INPUTS)
    np.testing.assert_allclose(found["y"], expected, rtol=1e-6)
    again = build_packages(sliced, name="mlp", platform=AWS, cache=cache, delivery="object-store", store=store.as_uri())
    assert again == built
    assert {path: path.stat().st_ino for path in store.rglob("*") if path.is_file()} == written


def test_slices_are_mapped_from_a_mounted_folder(sliced: Path, cache: Path, expected: Any, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    built = build_packages(sliced, name="mlp", platform=AWS, cache=cache, delivery="mount", mount=mount)
    for package in built:
        assert not (package.folder / "model").exists()
        folder = Path(package.function.model_folder)
        assert folder.is_absolute()
        assert folder.parent == mount
        assert len(list(folder.iterdir())) == 2
    found = run_chain([package.folder for package in built], INPUTS)
    np.testing.assert_allclose(found["y"], expected, rtol=1e-6)
    assert build_packages(sliced, name="mlp", platform=AWS, cache=cache, delivery="mount", mount=mount) == built
    other = tmp_path / "other"
    elsewhere = build_packages(sliced, name="mlp", platform=AWS, cache=cache, delivery="mount", mount=other)
    assert [Path(p.function.model_folder).name for p in elsewhere] == [
        Path(p.function.model_folder).name for p in built
    ]


def branches(path: Path) -> Path:
    """`x` FP32[n, 32] through a branch with a large constant of its own, and by a sparse weight."""
    constant = helper.make_node("Constant", [], ["c"], value=weight("", LARGE, LARGE))
    then = helper.make_graph([constant, helper.make_node("MatMul", ["h", "c"], ["a"])], "then", [], [tensor("a")])
    other = helper.make_graph([helper.make_node("Neg", ["h"], ["b"])], "else", [], [tensor("b")])
    values = numpy_helper.from_array(floats(400), "w")
    indices = numpy_helper.from_array(np.sort(np.random.default_rng(3).permutation(LARGE * LARGE)[:400]), "")
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["h"]),
        helper.make_node("If", ["first"], ["y"], then_branch=then, else_branch=other),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["z"]),
    ]
    inputs = [tensor("x", shape=["n", LARGE]), tensor("first", TensorProto.BOOL, [])]
    sparse = helper.make_sparse_tensor(values, indices, [LARGE, LARGE])
    return saved(path, nodes, inputs, [tensor("z")], [weight("v", LARGE, LARGE)], sparse=[sparse])


@pytest.mark.parametrize("delivery", ["package", "object-store", "mount"])
def test_weights_that_are_no_initializers_reach_the_function(delivery: Any, cache: Path, tmp_path: Path) -> None:
    model = branches(tmp_path / "model" / "model.onnx")
    lamella.slice(model, tmp_path / "slices", slices=2)
    places = {"object-store": {"store": (tmp_path / "store").as_uri()}, "mount": {"mount": tmp_path / "mount"}}
    built = build_packages(
        tmp_path / "slices", name="if", platform=AWS, cache=cache, delivery=delivery, **places.get(delivery, {})
    )
    inputs = {"x": floats(2, LARGE), "first": np.array(True)}
    with lamella.Pipeline(model) as pipeline:
        wanted = pipeline.infer(inputs)["z"]
    np.testing.assert_allclose(run_chain([p.folder for p in built], inputs)["z"], wanted, rtol=1e-5)
    if delivery == "object-store":
        named = {weight.name for package in built for weight in package.function.weights}
        assert named == {"v", None}


def test_slices_without_weights_and_with_text_are_packaged(cache: Path, tmp_path: Path) -> None:
    model = models.strings(tmp_path / "model.onnx")
    lamella.slice(model, tmp_path / "slices", slices=2)
    store = (tmp_path / "store").as_uri()
    built = build_packages(
        tmp_path / "slices", name="text", platform=AWS, cache=cache, delivery="object-store", store=store
    )
    assert [package.function.objects for package in built] == [(), ()]
    words = {"words": np.array(["cat", "dog", "cow"], object)}
    found = run_chain([package.folder for package in built], words)
    assert found["names"].tolist() == ["feline", "canine", "unknown"]


def test_a_zip_is_sorted_dated_alike_and_readable_by_anyone(packages: list[Package], tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    digest = write_zip(packages[0], path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(names)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert {"function.json", "lamella/runtime/handler.py", f"model/{packages[0].function.file}"} <= set(names)
    assert sum(entry.file_size for entry in entries) == packages[0].unzipped_bytes


def test_what_packages_share_is_deflated_once_and_gives_the_same_bytes(
    packages: list[Package], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [write_zip(replace(package, closures=()), tmp_path / "plain.zip") for package in packages]
    spliced = [write_zip(package, tmp_path / f"{package.sha256}.zip") for package in packages]
    assert spliced == plain
    with ZipFile(tmp_path / f"{packages[0].sha256}.zip") as archive:
        assert archive.testzip() is None
    streams = sorted(path.name for path in (cache / "deflated").iterdir())
    assert len(streams) == len(packages[0].closures)
    monkeypatch.setattr(deflated, "_deflate", lambda *_: pytest.fail("deflated again"))
    assert write_zip(packages[1], tmp_path / "again.zip") == spliced[1]


def test_a_package_is_zipped_whose_closure_was_pruned(packages: list[Package], tmp_path: Path) -> None:
    expected = write_zip(packages[0], tmp_path / "package.zip")
    pruned = replace(packages[0], closures=(*packages[0].closures[:1], tmp_path / "closures" / "pruned"))
    assert write_zip(pruned, tmp_path / "package.zip") == expected


def test_a_damaged_closure_goes_into_no_zip_file(sliced: Path, tmp_path: Path) -> None:
    package = build_packages(sliced, name="mlp", platform=AWS, cache=tmp_path / "cache")[0]
    damage(package.folder / "lamella" / "wire.py")
    with pytest.raises(PackageError, match=r"wire\.py` is damaged") as caught:
        write_zip(package, tmp_path / "package.zip")
    assert "lamella cache verify" in (caught.value.hint or "")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_zip_above_four_gigabytes_is_read_by_others(packages: list[Package], tmp_path: Path) -> None:
    """The limits of 32 bits are lowered instead of writing so much: what is above them is said in 64."""
    program = f"""
import sys, zipfile
zipfile.ZIP64_LIMIT = 100_000
from pathlib import Path
from types import SimpleNamespace
from lamella.packaging.zip import write_zip
folder = Path({str(packages[0].folder)!r})
closures = tuple(map(Path, {[str(place) for place in packages[0].closures]!r}))
write_zip(SimpleNamespace(folder=folder, closures=closures), {str(tmp_path / "large.zip")!r})
"""
    surroundings = {"PYTHONPATH": str(Path(lamella.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], check=True, env=surroundings)
    assert (tmp_path / "large.zip").read_bytes().count(b"PK\x06\x06") == 1  # the end of a directory in 64 bits
    with ZipFile(tmp_path / "large.zip") as archive:
        assert archive.testzip() is None
        assert sum(entry.file_size for entry in archive.infolist()) == packages[0].unzipped_bytes


def test_a_zip_that_cannot_be_written_is_an_error_and_leaves_nothing(packages: list[Package], tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="cannot be written: No such file or directory"):
        write_zip(packages[0], tmp_path / "missing" / "package.zip")
    lost = replace(packages[0], folder=tmp_path / "nothing")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "unreadable").symlink_to(tmp_path / "nothing" / "unreadable")
    write_zip(lost, tmp_path / "package.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nothing", "package.zip"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "no spaces"}, "`no spaces` cannot name a deployment"),
        ({"name": "x" * 60}, "its function `x{60}-slice-1` would have 68 characters, 4 more than the 64"),
        ({"delivery": "object-store"}, "delivery by `object-store` needs a store"),
        ({"delivery": "mount"}, "delivery by `mount` needs a mounted folder"),
        ({"mount": "/mnt"}, "delivery `package` has no use for a mounted folder"),
        ({"delivery": "pigeon"}, "there is no delivery `pigeon`"),
        ({"python": "2.7"}, "AWS Lambda has no Python `2.7`"),
        ({"architecture": "mips"}, "AWS Lambda has no architecture `mips`"),
    ],
)
def test_what_contradicts_itself_is_refused(
    arguments: dict[str, Any], message: str, sliced: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build_packages(sliced, **{"name": "mlp", "platform": AWS, "cache": tmp_path, **arguments})
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_values_that_no_request_carries_are_refused(tmp_path: Path, cache: Path) -> None:
    model = models.sequence(tmp_path / "model.onnx")
    lamella.slice(model, tmp_path / "slices", slices=1)
    with pytest.raises(PackageError, match="`parts` of slice 0 is a sequence"):
        build_packages(tmp_path / "slices", name="sequence", platform=AWS, cache=cache)


@pytest.mark.parametrize("where", ["input", "output", "between"])
def test_values_of_less_than_a_byte_an_element_are_refused(where: str, tmp_path: Path, cache: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.INT4),
        helper.make_node("Cast", ["narrow"], ["y"], to=TensorProto.INT4 if where == "output" else TensorProto.FLOAT),
    ]
    x = tensor("x", TensorProto.INT4 if where == "input" else TensorProto.FLOAT, [4])
    y = tensor("y", TensorProto.INT4 if where == "output" else TensorProto.FLOAT, [4])
    model = saved(tmp_path / "model.onnx", nodes, [x], [y])
    lamella.slice(model, tmp_path / "slices", slices=2 if where == "between" else 1, verify=False)
    name = {"input": "x", "output": "y", "between": "narrow"}[where]
    with pytest.raises(PackageError, match=f"`{name}` of slice 0 is INT4, which does not travel") as caught:
        build_packages(tmp_path / "slices", name="narrow", platform=AWS, cache=cache)
    assert "lamella run" in (caught.value.hint or "")


def test_types_that_numpy_lacks_bring_what_knows_them(tmp_path: Path, cache: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.BFLOAT16),
        helper.make_node("Identity", ["narrow"], ["y"]),
    ]
    model = saved(tmp_path / "model.onnx", nodes, [tensor("x", shape=[4])], [tensor("y", TensorProto.BFLOAT16, [4])])
    lamella.slice(model, tmp_path / "slices", slices=2)
    built = build_packages(tmp_path / "slices", name="narrow", platform=AWS, cache=cache)
    found = run_chain([package.folder for package in built], {"x": np.array([1, 2, 3, 4], np.float32)})
    assert found["y"].dtype.name == "bfloat16"
    assert found["y"].astype(np.float32).tolist() == [1, 2, 3, 4]


def test_custom_operators_are_refused(sliced: Path, tmp_path: Path) -> None:
    copied = tmp_path / "slices"
    shutil.copytree(sliced, copied)
    text = (copied / "slices.json").read_text()
    (copied / "slices.json").write_text(text.replace('"custom_ops_needed": []', '"custom_ops_needed": ["com.example"]'))
    with pytest.raises(PackageError, match=r"need custom operators of `com\.example`") as caught:
        build_packages(copied, name="custom", platform=AWS, cache=tmp_path / "cache")
    hint = caught.value.hint or ""
    assert "standard operators" in hint
    assert "lamella run --custom-ops" in hint


def test_a_deployment_s_own_copy_of_a_package_still_loads(cache: Path, tmp_path: Path) -> None:
    """Engines refuse some weights in files with several names, and copies are made by hard links where they can be."""
    model = branches(tmp_path / "model" / "model.onnx")
    lamella.slice(model, tmp_path / "slices", slices=1)
    (built,) = build_packages(tmp_path / "slices", name="if", platform=AWS, cache=cache)
    kept = keep(built.folder, tmp_path / "kept")
    inputs = {"x": floats(2, LARGE), "first": np.array(True)}
    assert run_chain([kept], inputs)["z"].shape == (2, LARGE)
    engines = [next(folder.glob("onnxruntime/capi/*pybind11*")) for folder in (built.folder, kept)]
    assert engines[0].samefile(engines[1])


def test_slices_that_have_changed_are_refused(sliced: Path, tmp_path: Path) -> None:
    copied = tmp_path / "slices"
    shutil.copytree(sliced, copied)
    path = copied / "slice_000.onnx"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"relu0", b"relu9"))
    with pytest.raises(SlicesError, match=r"slice_000\.onnx` has changed"):
        build_packages(copied, name="mlp", platform=AWS, cache=tmp_path / "cache")


def test_weights_that_have_changed_are_refused(sliced: Path, tmp_path: Path) -> None:
    copied = tmp_path / "slices"
    shutil.copytree(sliced, copied)
    file = next(entry for entry in read_manifest(copied).files if entry.sha256 is not None)
    data = bytearray((copied / file.file).read_bytes())
    data[-1] ^= 1
    (copied / file.file).write_bytes(data)
    with pytest.raises(SlicesError, match=f"{file.file}` has changed"):
        build_packages(copied, name="mlp", platform=AWS, cache=tmp_path / "cache")
