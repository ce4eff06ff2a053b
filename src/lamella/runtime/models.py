"""`workflow.json`: the models that a door stands for, in the root folder of its package."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import SlicesError
from lamella.runtime import json_fields as fields
from lamella.tensors import TensorSpec

FILE_NAME = "workflow.json"
SCHEMA = "lamella.workflow/1"
_HINT = "build the package again"


@dataclass(frozen=True, slots=True)
class SliceNames:
    """One slice of a model: what it takes and makes, by name.

    Attributes:
        slice: Its index.
        function: Its function, as the deployment calls it.
        takes: The values that it takes, or may take.
        makes: The values that it makes.
    """

    slice: int
    function: str
    takes: tuple[str, ...]
    makes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """One model, as callers see it.

    Attributes:
        name: Its name in URLs.
        inputs: What a request must give.
        optional_inputs: What it may give.
        outputs: What it gets.
        slices: Those that run, in their order.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    slices: tuple[SliceNames, ...]

    def later(self) -> dict[str, list[str]]:
        """By slice: the values that slices behind it take, and those that the caller gets."""
        wanted = [spec.name for spec in self.outputs]
        needed: dict[str, list[str]] = {}
        for entry in reversed(self.slices):
            needed[str(entry.slice)] = list(dict.fromkeys(wanted))
            wanted = [*wanted, *entry.takes]
        return dict(reversed(needed.items()))


def write_models(workflows: Mapping[str, Mapping[str, object]]) -> bytes:
    """The content of `workflow.json`; the same models always give the same bytes.

    Args:
        workflows: By a model's name, what `lamella.workflow.steps.Workflow.to_json` gives.
    """
    return json.dumps({"schema": SCHEMA, "models": dict(workflows)}, indent=1).encode() + b"\n"


def read_models(folder: Path) -> dict[str, Model]:
    """Read `workflow.json` from the root folder of a package.

    Raises:
        SlicesError: There is none, or it is damaged or of another version.
    """
    path = folder / FILE_NAME
    try:
        content = fields.members(json.loads(path.read_text(encoding="utf-8")))
        if content["schema"] != SCHEMA:
            raise SlicesError(f"`{path}` is of another version", hint=f"{_HINT} with this one")
        models = fields.members(content["models"])
        return {name: model_of(name, fields.members(model)) for name, model in models.items()}
    except FileNotFoundError as error:
        raise SlicesError(f"`{folder}` is no door's package: it has no `{FILE_NAME}`", hint=_HINT) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise SlicesError(f"`{path}` is damaged: {reason}", hint=_HINT) from error


def model_of(name: str, workflow: Mapping[str, object]) -> Model:
    """A model from what `lamella.workflow.steps.Workflow.to_json` gives, before or after it was JSON.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another type.
    """
    entries = _plain(workflow)
    return Model(
        name,
        fields.specs(entries["inputs"]),
        fields.specs(entries["optional_inputs"]),
        fields.specs(entries["outputs"]),
        tuple(_slice(step) for step in fields.objects(entries["steps"])),
    )


def _slice(step: dict[str, object]) -> SliceNames:
    takes = (*fields.specs(step["inputs"]), *fields.specs(step["optional_inputs"]))
    return SliceNames(
        fields.size(step["slice"]), fields.text(step["function"]), _names(takes), _names(fields.specs(step["outputs"]))
    )


def _names(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    return tuple(spec.name for spec in specs)


def _plain(workflow: Mapping[str, object]) -> dict[str, object]:
    """Lists where `dataclasses.asdict` leaves tuples."""
    return fields.members(json.loads(json.dumps(workflow)))
