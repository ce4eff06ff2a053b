"""Deployments on AWS as values: a chain, a model with slices side by side, and a single slice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lamella.packaging.door import HANDLER
from lamella.targets.aws.naming import Names
from lamella.targets.aws.release import Function, ImageCode, Model, Release, ZipCode
from lamella.targets.aws.settings import Budget, HttpApi, ObjectEvents, Settings
from lamella.targets.aws.template import published, template
from lamella.tensors import TensorSpec
from lamella.workflow.steps import Step, Workflow

ACCOUNT = "123456789012"
NAMES = Names("bert", "dev", "eu-central-1", ACCOUNT)
DOORS: dict[str, Any] = {
    "http_api": HttpApi(),
    "function_url": True,
    "asynchronous": True,
    "s3_events": ObjectEvents(),
    "keep_warm_minutes": 5,
    "budget": Budget(20, "someone@example.com"),
}
DELIVERIES: dict[str, dict[str, Any]] = {
    "package": {"delivery": "package"},
    "image": {"delivery": "image"},
    "object-store": {"delivery": "object-store"},
    "efs": {"delivery": "mount", "mount": "efs"},
    "s3-files": {"delivery": "mount", "mount": "s3-files"},
}


def settings(**chosen: Any) -> Settings:
    return Settings(**{"region": NAMES.region, **chosen})


def chain(slices: int, name: str = "bert") -> Model:
    steps = [_step(index, [f"v{index}"], [f"v{index + 1}"], name) for index in range(slices)]
    return Model(name, _workflow(["v0"], [f"v{slices}"], steps))


def side_by_side(name: str = "bert") -> Model:
    """Slice 0, then 1 and 2 beside each other, then 3, which also takes the model's input and what slice 0 makes."""
    steps = [
        _step(0, ["x"], ["a", "b"], name),
        _step(1, ["a"], ["c"], name),
        _step(2, ["a"], ["d"], name),
        _step(3, ["c", "d", "b", "x"], ["y"], name),
    ]
    return Model(name, _workflow(["x"], ["y", "c"], steps))


def release(chosen: Settings, *models: Model, number: int = 1, digest: str = "0" * 64, **more: Any) -> Release:
    """A release of models, each function in a package of its own; with a door where one is needed."""
    functions = [
        Function(
            name=NAMES.function(f"{NAMES.base}-{model.name}-slice-{step.slice}"),
            model=model.name,
            slice=step.slice,
            code=_code(chosen, f"{step.slice}{digest[1:]}"),
            **{"memory_mb": 1769, "timeout_s": 60, "package_bytes": 50_000_000, **more},
            weights=_weights(chosen, model.name, step.slice, f"{step.slice}{digest[1:]}"),
        )
        for model in models
        for step in model.workflow.steps
    ]
    alone = len(functions) == 1 and chosen.delivery != "mount"
    if chosen.has_front_door and alone:
        functions = [replace(functions[0], handler=HANDLER)]
    elif chosen.has_front_door:
        functions.append(_door(digest))
    return Release(number, models, tuple(functions))


def stack(chosen: Settings, *models: Model, **more: Any) -> dict[str, Any]:
    """The template of a first release."""
    return template(NAMES, chosen, [published(NAMES, chosen, release(chosen, *models, **more))], live=1)


def of_type(found: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The resources of a type, by logical id: their properties."""
    return {name: entry["Properties"] for name, entry in found["Resources"].items() if entry["Type"] == f"AWS::{kind}"}


def _door(digest: str) -> Function:
    return Function(
        name=NAMES.door,
        model=None,
        slice=None,
        code=ZipCode(f"packages/d{digest[1:]}.zip"),
        memory_mb=256,
        timeout_s=300,
        package_bytes=20_000_000,
        handler=HANDLER,
    )


def _weights(chosen: Settings, model: str, slice: int, digest: str) -> tuple[str, ...]:
    if chosen.delivery == "mount":
        return tuple(f"mount/{digest}/{model}-{slice}.{kind}" for kind in ("onnx", "data"))
    return (f"weights/{digest}",) if chosen.delivery == "object-store" else ()


def _code(chosen: Settings, digest: str) -> ZipCode | ImageCode:
    return ImageCode(f"sha256:{digest}") if chosen.delivery == "image" else ZipCode(f"packages/{digest}.zip")


def _step(index: int, takes: list[str], makes: list[str], model: str) -> Step:
    return Step(index, f"{model}-slice-{index}", tuple(map(_spec, takes)), (), tuple(map(_spec, makes)))


def _workflow(inputs: list[str], outputs: list[str], steps: list[Step]) -> Workflow:
    return Workflow(tuple(map(_spec, inputs)), (), tuple(map(_spec, outputs)), {}, tuple(steps))


def _spec(name: str) -> TensorSpec:
    return TensorSpec(name, "FP32", ("batch", 4))
