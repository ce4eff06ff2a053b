"""`plan.json`: a plan as a file, to look at, keep, and slice by."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from lamella.errors import PlanError
from lamella.graph.inference import infer_values
from lamella.graph.reader import load
from lamella.graph.splits import Split
from lamella.graph.splitting import split
from lamella.planner.flow import Flow, flow_of
from lamella.planner.plan import SCHEMA, Plan, Slice, structure_sha256

STDIN = "/dev/stdin"
"""A plan read from here lies nowhere: it names its model relative to the working directory, or absolutely."""

_MOST_BYTES = 64 << 20


def write_plan(planned: Plan, path: str | Path) -> None:
    """Write `plan.json`, which names the model relative to itself; the same plan always gives the same bytes."""
    source = planned.whole.path
    model = os.path.relpath(Path(os.path.realpath(source.parent), source.name), os.path.realpath(Path(path).parent))
    Path(path).write_text(json.dumps({**planned.to_json(), "model": model}, indent=1) + "\n")


def read_plan(path: str | Path, *, custom_ops: Sequence[str | Path] = ()) -> Plan:
    """Read `plan.json` and the model that it is for; `custom_ops` are libraries that its operators need.

    Raises:
        PlanError: The file is no plan, or the model has changed since.
    """
    try:
        with Path(path).open() as file:  # which may be a pipe
            size = os.fstat(file.fileno()).st_size
            if size > _MOST_BYTES:
                raise PlanError(f"`{path}` has {size} bytes, more than {_MOST_BYTES}", hint="it is no plan")
            content = json.load(file)
        if content["schema"] != SCHEMA:
            raise PlanError(f"`{path}` has schema {content['schema']!r}, not {SCHEMA!r}", hint="plan the model again")
        folder = Path() if str(path) == STDIN else Path(os.path.realpath(path)).parent
        model = load(folder / str(content["model"]))
        if content["structure_sha256"] != structure_sha256(model):
            raise PlanError(f"`{model.path}` has changed since `{path}` was made", hint="plan the model again")
        platform, variant, architecture = (
            _text_or_none(content.get(key)) for key in ("platform", "platform_profile", "architecture")
        )
        slices = tuple(_slice_from(entry, assigned=platform is not None) for entry in content["slices"])
        crossing = tuple(_number(size) for size in _list(content["crossing_bytes"]))
        if len(crossing) != len(slices) - 1:
            raise ValueError(f"{len(crossing)} `crossing_bytes` do not fit {len(slices)} slices")
        splits = tuple(_split_from(entry) for entry in _list(content.get("splits", [])))
    except OSError as error:
        raise PlanError(f"`{path}` cannot be read: {error.strerror}", hint="check the path") from error
    except RecursionError as error:
        raise PlanError(f"`{path}` is no plan: it nests too deeply", hint="make one with `lamella plan -o`") from error
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise PlanError(f"`{path}` is no plan: {reason}", hint="make one with `lamella plan -o`") from error
    values = infer_values(model, custom_ops=custom_ops)
    if not splits:
        _check_slices(flow_of(model), slices, str(path))
        return Plan(
            model, slices, crossing, values, platform=platform, platform_profile=variant, architecture=architecture
        )
    rewritten = split(model, splits, values)
    _check_slices(flow_of(rewritten.model), slices, str(path))
    return Plan(rewritten.model, slices, crossing, rewritten.values, splits, model, platform, variant, architecture)


def _check_slices(flow: Flow, slices: Sequence[Slice], path: str) -> None:
    """Refuse what the planner cannot have written: a node forgotten, placed twice, or before what it needs."""
    graph = flow.model.graph
    weights = graph.initializers.keys()
    given = {value.name for value in graph.inputs} | weights
    placed: list[int] = []
    for position, part in enumerate(slices):
        if part.index != position:
            raise _unfit(path, position, f"says that it is slice {part.index}")
        known = {*part.inputs, *weights}
        for index in part.nodes:
            if not 0 <= index < len(graph.nodes):
                raise _unfit(path, position, f"names node {index} of {len(graph.nodes)}")
            node = graph.nodes[index]
            if not known.issuperset(node.uses):
                raise _unfit(path, position, f"runs {node.label} before what it needs")
            known.update(node.outputs)
        if not known.issuperset(part.outputs) or not given.issuperset(part.inputs):
            raise _unfit(path, position, "has inputs or outputs that nothing makes")
        given.update(part.outputs)
        placed += [index for index in part.nodes if index not in flow.constant]
    if sorted(placed) != sorted(flow.placed) or not given.issuperset(v.name for v in graph.outputs):
        raise PlanError(f"`{path}` does not have each node and output of the model once", hint="plan the model again")


def _unfit(path: str, index: int, what: str) -> PlanError:
    return PlanError(f"slice {index} of `{path}` {what}", hint="plan the model again")


def _slice_from(entry: dict[str, object], *, assigned: bool) -> Slice:
    return Slice(
        index=_number(entry["index"]),
        nodes=tuple(_number(index) for index in _list(entry["node_indices"])),
        inputs=tuple(str(name) for name in _list(entry["inputs"])),
        outputs=tuple(str(name) for name in _list(entry["outputs"])),
        weights_bytes=_number(entry["weights_bytes"]),
        activations_bytes=_number(entry["activations_bytes"]),
        assigned_memory_mb=_number(entry["memory_mb"], least=1) if assigned else None,
        estimated_ms=_estimate(entry.get("estimated_ms")),
        estimated_usd=_estimate(entry.get("estimated_usd")),
    )


def _estimate(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise TypeError(f"an estimate was expected, not {value!r}")
    return float(value)


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"a name was expected, not {value!r}")
    return value


def _split_from(entry: object) -> Split:
    if not isinstance(entry, dict) or not isinstance(entry["weight"], str):
        raise TypeError(f"a split of a weight was expected, not {entry!r}")
    return Split(_number(entry["node"]), entry["weight"], _number(entry["axis"]), _number(entry["parts"]))


def _number(value: object, *, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise TypeError(f"a count{f' from {least} on' if least else ''} was expected, not {value!r}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"a list was expected, not {type(value).__name__}")
    return value
