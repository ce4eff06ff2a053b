"""Finds the first slice, and in it the first node, whose result differs from the whole model's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lamella.errors import LamellaError
from lamella.graph.inference import infer_values, with_outputs
from lamella.graph.model import Model
from lamella.graph.reader import load
from lamella.slicing.differences import OutputDifference, difference
from lamella.tensors import Array
from lamella.workflow.manifest import read_manifest
from lamella.workflow.parts import Source, whole
from lamella.workflow.pipeline import Pipeline


@dataclass(frozen=True)
class FirstDifference:
    """Where slices part from the whole model.

    Attributes:
        slice: Index of the first slice that gives something else, on the whole model's own inputs to it.
        node: The first node in it that does, or None where only its outputs tell.
        output: How far its result is from the whole model's.
    """

    slice: int
    node: str | None
    output: OutputDifference

    @property
    def label(self) -> str:
        """For messages."""
        return f"slice {self.slice}, {self.node or 'value'} `{self.output.name}`"


def first_difference(
    model: Model,
    directory: Path,
    inputs: Mapping[str, Array],
    tolerance: float | None,
    custom_ops: Sequence[str | Path],
) -> FirstDifference | None:
    """Give each slice the whole model's own values and compare what it makes of them; then look inside the first.

    Returns:
        The first difference, or None where every slice is right by itself on these inputs.
    """
    manifest = read_manifest(directory)
    crossing = [name for entry in manifest.slices for name in entry.outputs]
    expected = {**inputs, **_values(model, inputs, crossing, custom_ops)}
    for entry in manifest.slices:
        part = load(directory / entry.file)
        feeds = {name: expected[name] for name in (*entry.inputs, *entry.optional_inputs) if name in expected}
        actual = _values(part, feeds, entry.outputs, custom_ops)
        found = _first(actual, entry.outputs, expected, tolerance)
        if found is None:  # the parts of a split node are in no whole model: what is made of them tells
            expected = {**actual, **expected}
            continue
        inner = [name for node in part.graph.nodes for name in node.outputs if name]
        wanted = _values(model, inputs, inner, custom_ops)
        actual = _values(part, feeds, [name for name in inner if name in wanted], custom_ops)
        node = _first(actual, inner, wanted, tolerance)
        maker = {name: n.label for n in part.graph.nodes for name in n.outputs}
        if node is not None:
            return FirstDifference(entry.index, maker.get(node.name), node)
        return FirstDifference(entry.index, None, found)
    return None


def _first(
    actual: Mapping[str, Array], names: Iterable[str], expected: Mapping[str, Array], tolerance: float | None
) -> OutputDifference | None:
    for name in names:
        if name in actual and name in expected:
            found = difference(name, expected[name], actual[name], tolerance=tolerance)
            if not found.ok:
                return found
    return None


def _values(
    model: Model, inputs: Mapping[str, Array], names: Sequence[str], custom_ops: Sequence[str | Path]
) -> dict[str, Array]:
    """The model's outputs and its inner tensors of those names, from one run; empty where that does not run."""
    known = infer_values(model)
    declared = {value.name for value in model.graph.outputs}
    inner = [known[n] for n in dict.fromkeys(names) if n not in declared and n in known]
    tensors = [value for value in inner if value.type is not None and value.type.is_tensor]
    data, folder = with_outputs(model, [value.proto for value in tensors])
    source: Source = whole(model)
    if not source.parts:  # nothing runs: every output is an input
        return {}
    outputs = (*source.outputs, *(value.spec for value in tensors))
    part = replace(source.parts[0], model=data, folder=folder, outputs=tuple(spec.name for spec in outputs))
    try:
        extended = replace(source, parts=(part,), outputs=outputs)
        with Pipeline(extended, low_memory=True, optimization="none", custom_ops=custom_ops) as pipeline:
            return pipeline.infer(inputs)
    except LamellaError:
        return {}
