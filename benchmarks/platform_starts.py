"""Where the time of a cold start goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from measure import Sample, set_page_cache
from models import inputs
from platform_setting import MEMORY_MB, Setting, metered, rounded
from results import Group

if TYPE_CHECKING:
    from lamella.packaging.package import Package
    from lamella.targets.local.platform import LocalPlatform

MODELS = ("mobilenet-v1", "resnet50")
DELIVERIES = ("package", "object-store")
ISOLATED, BARE = "empty function", "empty function, no sandbox"
PHASES = ("python_ms", "sandbox_ms", "import_ms", "weights_ms", "session_ms", "infer_ms", "rest_ms")

_EMPTY = "def handle(event, context):\n    return None\n"


def starts(setting: Setting) -> list[Group]:
    """New instances, one after the other: of an empty function with and without its sandbox, and of models."""
    return [_empty(setting), *_models(setting)]


def _empty(setting: Setting) -> Group:
    """What every start takes before the function's own code: the sandbox, Python and the runtime client."""
    from lamella.targets.local.platform import FunctionSpec, LocalPlatform
    from lamella.targets.local.sandbox import detect

    package = setting.folder / "empty"
    package.mkdir(parents=True, exist_ok=True)
    (package / "app.py").write_text(_EMPTY)
    spec = FunctionSpec("empty", package, memory_mb=MEMORY_MB, timeout_s=60, handler="app.handle")
    samples = []
    means = {ISOLATED: detect(), BARE: detect("none", cgroups=False)}
    for label, found in means.items():
        with LocalPlatform(setting.folder / "platform", limits=setting.platform.limits, means=found) as platform:
            for number in range(-1, 3 * setting.rounds):
                platform.create(spec)
                with metered(label, number) as sample:
                    _invoke(platform, sample, "empty", b"null")
                if number >= 0:  # the first one reads what all others find in the page cache
                    samples.append(sample)
    return Group(name="empty start", model="empty", slices=None, samples=samples)


def _models(setting: Setting) -> list[Group]:
    from lamella.runtime.payload import Event, decode_answer, encode_event
    from lamella.targets.local.platform import FunctionSpec, LocalPlatform, Mount

    groups = []
    with LocalPlatform(setting.folder / "platform", limits=setting.platform.limits) as platform:
        for model in MODELS[:1] if setting.quick else MODELS:
            event, samples = encode_event(Event("a-request", inputs(model))), []
            for delivery in DELIVERIES:
                package = _package(setting, model, delivery)
                values = setting.folder / "weights"
                mounts = (Mount(values, str(values)),) if delivery == "object-store" else ()
                spec = FunctionSpec(f"{model}-{delivery}", package.folder, MEMORY_MB, 60, mounts=mounts)
                for number in range(-1, setting.rounds):
                    platform.create(spec)
                    set_page_cache((path for path in package.folder.rglob("*") if path.is_file()), "warm")
                    with metered(delivery, number) as sample:
                        payload = _invoke(platform, sample, spec.name, event)
                    timing = decode_answer(payload).timing
                    assert timing.init is not None
                    sample["facts"] |= rounded(
                        {
                            "import_ms": timing.init.import_ms,
                            "weights_ms": timing.init.weights_ms,
                            "session_ms": timing.init.session_ms,
                            "infer_ms": timing.infer_ms,
                        }
                    )
                    if number >= 0:
                        samples.append(sample)
                platform.delete(spec.name)
            groups.append(Group(name="start", model=model, slices=1, samples=samples))
    return groups


def _package(setting: Setting, model: str, delivery: str) -> Package:
    sliced = setting.sliced(setting.model(model).path, 1)
    if delivery == "package":
        return setting.packages(sliced, model)[0]
    folder = setting.folder / "weights"
    folder.mkdir(exist_ok=True)
    return setting.packages(sliced, model, delivery="object-store", store=folder.as_uri())[0]


def _invoke(platform: LocalPlatform, sample: Sample, function: str, event: bytes) -> bytes:
    """A request that finds no instance."""
    began = time.perf_counter()
    done = platform.invoke(function, event)
    sample["seconds"] = time.perf_counter() - began
    if done.status != 200 or done.function_error or done.report is None or done.report.init_ms is None:
        raise RuntimeError(f"no cold start: {done.error_message}")
    sample["facts"] = rounded({"total_ms": 1000 * sample["seconds"], "init_ms": done.report.init_ms})
    return done.payload
