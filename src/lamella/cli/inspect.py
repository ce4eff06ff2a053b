"""`lamella inspect`: what a model is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import Json
from lamella.cli.views import print_specs, spec_view

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.graph.statistics import Statistics

_LONGEST_METADATA = 100


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An `.onnx` file.")], *, json: Json = False
) -> None:
    """Show operators, parameters, inputs and outputs. The weights are never read."""
    from lamella.graph.reader import load
    from lamella.graph.statistics import statistics

    with output.status(f"reading {model}"):
        loaded = load(model)
        found = statistics(loaded)
    if json:
        output.json_object("lamella.inspect/1", _view(loaded, found))
    else:
        _print(loaded, found)


def _view(model: Model, found: Statistics) -> dict[str, object]:
    return {
        "model": str(model.path),
        "ir_version": model.ir_version,
        "producer": model.producer,
        "opset_imports": model.opset_imports,
        "parameters": found.parameters,
        "weights_bytes": found.weights_bytes,
        "nodes": found.nodes,
        "inputs": [spec_view(spec) for spec in found.inputs],
        "optional_inputs": [spec_view(spec) for spec in found.optional_inputs],
        "outputs": [spec_view(spec) for spec in found.outputs],
        "operators": found.operators,
        "subgraph_operators": found.subgraph_operators,
        "functions": [{"name": name, "operators": body} for name, body in found.functions.items()],
        "files": [{"location": f.location, "size": f.size, "exists": f.exists} for f in found.files],
        "metadata": model.metadata,
    }


def _print(model: Model, found: Statistics) -> None:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in model.opset_imports.items())
    pairs = [
        ("model", str(model.path)),
        ("producer", model.producer),
        ("IR version", str(model.ir_version)),
        ("opsets", opsets),
        ("nodes", output.count(found.nodes)),
        ("parameters", output.count(found.parameters)),
        ("weights", output.size(found.weights_bytes)),
        ("files", ", ".join(f"{file.location} ({output.size(file.size)})" for file in found.files)),
        ("functions", ", ".join(found.functions)),
        ("overridable", f"{output.count(len(found.optional_inputs))} weights" if found.optional_inputs else ""),
        *((f"metadata {key}", _shortened(value)) for key, value in model.metadata.items()),
    ]
    output.facts([(name, value) for name, value in pairs if value])
    output.line()
    print_specs("input", found.inputs)
    output.line()
    print_specs("output", found.outputs)
    _print_operators("operator", found.operators)
    _print_operators("operator in a subgraph", found.subgraph_operators)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_METADATA else f"{text[:_LONGEST_METADATA]}..."


def _print_operators(title: str, operators: dict[str, int]) -> None:
    if operators:
        output.line()
        output.table([title, "nodes"], [(name, output.count(nodes)) for name, nodes in operators.items()], right=(1,))
