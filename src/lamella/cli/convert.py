"""`lamella convert`: a trained model to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import OUTPUT, Json
from lamella.cli.views import placement_view, print_specs, spec_view, warn_of_copies

if TYPE_CHECKING:
    from lamella.converters import Converted


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A Hugging Face folder of a BERT-family encoder.")],
    *,
    file: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="MODEL.onnx", rich_help_panel=OUTPUT, help="The file to write."),
    ],
    opset: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            envvar="LAMELLA_OPSET",
            help="Version of the operator set; by default one that most runtimes take.",
            show_default=False,
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare the answers with the source's own arithmetic.")
    ] = False,
    json: Json = False,
) -> None:
    """Convert a trained model to ONNX. The weights stay in the source's own files."""
    from lamella.converters import convert as make_model

    with output.status(f"converting {source}"):
        converted = make_model(source, file, opset=opset, verify=not no_verify)
    warn_of_copies(converted.files)
    if converted.note:
        output.message(f"note: {converted.note}")
    if json:
        output.json_object("lamella.convert/1", _view(converted))
    else:
        _print(converted)


def _view(converted: Converted) -> dict[str, object]:
    return {
        "model": str(converted.path),
        "opset": converted.opset,
        "verified": converted.verified,
        "max_abs_diff": converted.max_abs_diff,
        "inputs": [spec_view(spec) for spec in converted.inputs],
        "outputs": [spec_view(spec) for spec in converted.outputs],
        "placements": [placement_view(placement) for placement in converted.files],
        "note": converted.note,
    }


def _print(converted: Converted) -> None:
    verified = "no"
    if converted.verified:
        verified = f"equal to the source's answers within {converted.max_abs_diff:.3g}"
    output.facts(
        [
            ("model", str(converted.path)),
            ("opset", str(converted.opset)),
            ("weights", ", ".join(f"{p.path.name} ({p.method})" for p in converted.files)),
            ("verified", verified),
        ]
    )
    output.line()
    print_specs("input", converted.inputs)
    output.line()
    print_specs("output", converted.outputs)
