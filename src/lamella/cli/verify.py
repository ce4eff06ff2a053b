"""`lamella verify`: compare slices with the whole model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import INPUTS, CustomOps, Inputs, Json
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.slicing.differences import OutputDifference
    from lamella.slicing.verification import Verification


def verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The whole model.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Its slices.")],
    *,
    inputs: Inputs = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            envvar="LAMELLA_TOLERANCE",
            rich_help_panel=INPUTS,
            help="Relative and absolute, for every output; by default one for each datatype.",
            show_default=False,
        ),
    ] = None,
    custom_ops: CustomOps = None,
    json: Json = False,
) -> None:
    """Compare slices with the whole model, and find the first slice that differs."""
    if tolerance is not None and not 0 <= tolerance < float("inf"):
        raise UsageError(f"`--tolerance` takes a number from 0, not `{tolerance}`", hint="write it like `1e-5`")
    from lamella.cli.inputs import read_inputs
    from lamella.graph.reader import load
    from lamella.slicing.verification import different
    from lamella.slicing.verification import verify as compare

    whole = load(model)
    given = read_inputs(inputs, [value.spec for value in whole.graph.inputs]) if inputs else None
    with output.status(f"verifying {directory}"):
        found = compare(whole, directory, inputs=given, tolerance=tolerance, custom_ops=tuple(custom_ops or ()))
    if json:
        output.json_object("lamella.verify/1", _view(found))
    else:
        _print(found)
    if not found.ok:
        raise different(found)


def _view(found: Verification) -> dict[str, object]:
    first = found.first_difference
    return {
        "ok": found.ok,
        "outputs": [_difference_view(difference) for difference in found.outputs],
        "max_abs_diff": found.max_abs_diff,
        "max_rel_diff": found.max_rel_diff,
        "random_outputs": list(found.random_outputs),
        "first_difference": None
        if first is None
        else {"slice": first.slice, "node": first.node, "output": _difference_view(first.output)},
    }


def _difference_view(difference: OutputDifference) -> dict[str, object]:
    return {
        "name": difference.name,
        "datatype": difference.datatype,
        "ok": difference.ok,
        "max_abs_diff": difference.max_abs_diff,
        "max_rel_diff": difference.max_rel_diff,
    }


def _print(found: Verification) -> None:
    rows = [(d.name, d.datatype, _verdict(d), f"{d.max_abs_diff:.3g}", f"{d.max_rel_diff:.3g}") for d in found.outputs]
    output.table(["output", "datatype", "verdict", "max abs diff", "max rel diff"], rows, right=(3, 4))
    for name in found.random_outputs:
        output.warning(f"output `{name}` is random in the model itself, and was not compared")


def _verdict(found: OutputDifference) -> str:
    if not found.ok:
        return "differs"
    return "within tolerance" if found.max_abs_diff else "equal to the last bit"
