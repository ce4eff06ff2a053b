"""A `slices.json` that contradicts itself is refused when it is read."""

from dataclasses import replace
from pathlib import Path

import pytest

from lamella.errors import SlicesError
from lamella.tensors import TensorSpec
from lamella.workflow.manifest import Manifest, SliceEntry, read_manifest


def entry(index: int, takes: str, gives: str) -> SliceEntry:
    return SliceEntry(index, f"slice_{index:03d}.onnx", 1, "", (takes,), (gives,), (), 1, 0, 1, ())


def spec(name: str) -> TensorSpec:
    return TensorSpec(name, "FP32", None)


GOOD = Manifest(
    model="model.onnx",
    structure_sha256="",
    optimized=False,
    inputs=(spec("x"),),
    optional_inputs=(spec("w"),),
    outputs=(spec("y"), spec("x")),
    index_bounds={"x": 2**63 - 1},
    slices=(entry(0, "x", "h"), replace(entry(1, "h", "y"), optional_inputs=("w",))),
    crossing_bytes=(4,),
    files=(),
)


def read_back(manifest: Manifest, folder: Path) -> Manifest:
    for part in manifest.slices:
        (folder / part.file).write_bytes(b"x")
    manifest.write(folder)
    return read_manifest(folder)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_back(GOOD, tmp_path) == GOOD


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (replace(GOOD, slices=GOOD.slices[::-1]), "slice 0 in `slices.json` says that it is slice 1"),
        (replace(GOOD, slices=GOOD.slices[:1]), "no slice makes the model's output `y`"),
        (replace(GOOD, slices=(entry(0, "z", "h"), GOOD.slices[1])), "slice 0 in `slices.json` takes `z`"),
        (replace(GOOD, slices=(entry(0, "y", "h"), GOOD.slices[1])), "slice 0 in `slices.json` takes `y`"),
        (replace(GOOD, slices=(entry(0, "w", "h"), GOOD.slices[1])), "slice 0 in `slices.json` takes `w`"),
        (replace(GOOD, optional_inputs=()), "slice 1 in `slices.json` takes `w`, which the model does not offer"),
        (replace(GOOD, index_bounds={"x": 2**63}), "`x` picks from cannot have 9223372036854775808 rows"),
    ],
)
def test_slices_that_do_not_fit_together_are_refused(manifest: Manifest, message: str, tmp_path: Path) -> None:
    with pytest.raises(SlicesError) as caught:
        read_back(manifest, tmp_path)
    assert message in caught.value.message
    assert caught.value.hint
