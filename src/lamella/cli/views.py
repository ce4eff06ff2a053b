"""What verbs show in common: tensors, slices and files, as JSON values and as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli import output
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.cli.results import Summary
    from lamella.planner.plan import Plan, Slice
    from lamella.slicing.placement import Placement
    from lamella.tensors import Dimension, TensorSpec

_NAMES_SHOWN = 3


def spec_view(spec: TensorSpec) -> dict[str, object]:
    """A tensor's name, datatype and shape."""
    return {"name": spec.name, "datatype": spec.datatype, "shape": None if spec.shape is None else list(spec.shape)}


def slice_view(part: Slice) -> dict[str, object]:
    """A planned slice. The estimates are null where it was planned for no platform."""
    return {
        "index": part.index,
        "inputs": list(part.inputs),
        "outputs": list(part.outputs),
        "nodes": len(part.nodes),
        "weights_bytes": part.weights_bytes,
        "memory_mb": part.memory_mb,
        "estimated_ms": part.estimated_ms,
        "estimated_usd": part.estimated_usd,
    }


def placement_view(placement: Placement) -> dict[str, object]:
    """A file of weights, and how it came to where it is."""
    return {"file": placement.path.name, "method": placement.method, "reason": placement.reason}


def shape_text(shape: Sequence[Dimension] | None) -> str:
    """A shape such as `[batch, 3, ?]`; `?` where nothing is known."""
    if shape is None:
        return "?"
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def print_specs(title: str, specs: Iterable[TensorSpec]) -> None:
    """Print tensors as a table."""
    rows = [(spec.name, spec.datatype, shape_text(spec.shape)) for spec in specs]
    output.table([title, "datatype", "shape"], rows or [("none", "", "")])


def print_slices(plan: Plan) -> None:
    """Print the slices of a plan as a table, with what crosses the cut behind each."""
    crossing = [output.size(size) for size in plan.crossing_bytes] + [""]
    rows = [
        (
            str(part.index),
            output.count(len(part.nodes)),
            output.size(part.weights_bytes),
            output.memory(part.memory_mb << 20),
            _names(part.inputs),
            _names(part.outputs),
            crossing[part.index],
        )
        for part in plan.slices
    ]
    headers = ["slice", "nodes", "weights", "memory", "inputs", "outputs", "crossing"]
    output.table(headers, rows, right=(0, 1, 2, 3, 6))


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def warn_of_copies(placements: Iterable[Placement]) -> None:
    """Say which weights had to be copied, and why."""
    for placement in placements:
        if placement.method == "copy" and placement.reason is not None:
            output.warning(f"the weights in `{placement.path.name}` were copied: {placement.reason}")


def warn_of_second_names(placements: Iterable[Placement]) -> None:
    """Say which external data now has a second name, since `onnx` refuses that."""
    for placement in placements:
        if placement.method == "hard-link" and placement.path.suffix != ".onnx":
            output.warning(
                f"`{placement.path.name}` is external data and has a second name now: ONNX Runtime takes it, but "
                "`onnx.load` refuses the model as long as the slices are there; `--copy-weights` avoids it"
            )


def check_output_file(file: str | None, *, json: bool) -> None:
    """Refuse before the run what could not be saved after it.

    Raises:
        UsageError: `file` is no place for outputs.
    """
    if file is None:
        return
    if file == "-":
        if json:
            raise UsageError("`--json` and `-o -` both write to stdout", hint="save the outputs to a file")
        output.binary_stdout()
    elif not file.lower().endswith(".npz"):
        raise UsageError(f"the output `{file}` is no `.npz` file", hint="end its name in `.npz`")
    elif not Path(file).parent.is_dir():
        raise UsageError(f"the folder of `{file}` does not exist", hint="make it first")


def summary_view(found: Summary) -> dict[str, object]:
    """An output in numbers."""
    return {
        "name": found.name,
        "datatype": found.datatype,
        "shape": found.shape,
        "min": found.min,
        "max": found.max,
        "mean": found.mean,
    }


def print_outputs(summaries: Iterable[Summary]) -> None:
    """Print outputs in numbers as a table."""
    rows = [
        (s.name, s.datatype, shape_text(s.shape), *(output.number(n) for n in (s.min, s.max, s.mean)), s.preview)
        for s in summaries
    ]
    output.table(["output", "datatype", "shape", "min", "max", "mean", "values"], rows, right=(3, 4, 5))
