"""What `slicing.py` measures: each way to turn a model into slice files. A job imports, yields, and works."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

from probe import Job


def lamella_slices(model: str, directory: str, slices: int, copy_weights: bool) -> Job:
    """Lamella: read the structure, plan, write the slices; weights by reference or copied."""
    import lamella

    yield
    plan = lamella.plan(lamella.load(model), slices=slices)
    lamella.slice(plan, directory, copy_weights=copy_weights, verify=False)
    return _written(directory)


def boundaries(model: str, slices: int) -> Job:
    """Inputs and outputs of each slice that Lamella plans, so that all others can cut at the same places."""
    import lamella

    yield
    plan = lamella.plan(lamella.load(model), slices=slices)
    return {"boundaries": [[list(part.inputs), list(part.outputs)] for part in plan.slices]}


def copy_of_the_weights(files: list[str], directory: str) -> Job:
    """`cp` of the files that hold the weights."""
    yield
    subprocess.run(["cp", *files, directory], check=True)
    return _written(directory)


def onnx_one_extractor(model: str, directory: str, boundaries: list[list[list[str]]]) -> Job:
    """onnx: load once, one `Extractor` for all slices, save each."""
    import onnx
    import onnx.utils

    yield
    extractor = onnx.utils.Extractor(onnx.load(model))
    for index, (inputs, outputs) in enumerate(boundaries):
        part = extractor.extract_model(inputs, outputs)
        name = f"slice_{index:03d}.onnx"
        large = part.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF  # `extract_model` then takes external data, too
        onnx.save(part, Path(directory, name), save_as_external_data=large, location=f"{name}.data")
    return _written(directory)


def onnx_extract_model(model: str, directory: str, boundaries: list[list[list[str]]]) -> Job:
    """onnx: `onnx.utils.extract_model` once for each slice, with its default settings."""
    import onnx.utils

    yield
    for index, (inputs, outputs) in enumerate(boundaries):
        onnx.utils.extract_model(model, str(Path(directory, f"slice_{index:03d}.onnx")), inputs, outputs)
    return _written(directory)


def ssp4onnx_split(model: str, directory: str, part_kib: int) -> Job:
    """ssp4onnx: it is asked for a size, not for a number of parts, and cuts where it likes."""
    import ssp4onnx  # type: ignore[import-not-found]  # only in the peers' environment

    yield
    ssp4onnx.split(
        input_onnx_file_path=model, auto_split_max_size=f"{part_kib}KB", output_dir=directory, non_verbose=True
    )
    return _written(directory)


def _written(directory: str) -> dict[str, object]:
    """What a job left behind: its slice files, and the bytes in files that are not links to the model's own."""
    found = [(path, path.lstat()) for path in Path(directory).rglob("*")]
    own = [(path, status.st_size) for path, status in found if stat.S_ISREG(status.st_mode) and status.st_nlink == 1]
    return {
        "slices": sum(path.suffix == ".onnx" for path, _ in own),
        "written_bytes": sum(size for _, size in own),
    }
