"""Where the time of a cold start goes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from measure import Sample, set_page_cache
from models import inputs
from platform_fetch import CREDENTIALS, served
from platform_setting import MEMORY_MB, Setting, metered, rounded
from results import Group

if TYPE_CHECKING:
    from lamella.packaging.package import Package
    from lamella.targets.local.platform import LocalPlatform

MODELS = ("mobilenet-v1", "resnet50")
DELIVERIES = ("package", "object-store")
S3, S3_BY_BOTO3 = "S3", "S3 by boto3"
UNTHROTTLED = 1e12
BOTO3 = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")
ISOLATED, BARE = "empty function", "empty function, no sandbox"
PHASES = ("python_ms", "sandbox_ms", "import_ms", "weights_ms", "session_ms", "infer_ms", "rest_ms")

_EMPTY = "def handle(event, context):\n    return None\n"


def starts(setting: Setting) -> list[Group]:
    """New instances, one after the other: of an empty function with and without its sandbox, and of models."""
    return [_empty(setting), *_models(setting), _clients(setting)]


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
    from lamella.runtime.payload import Event, encode_event
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
                    sample["facts"] |= _phases(payload)
                    if number >= 0:
                        samples.append(sample)
                platform.delete(spec.name)
            groups.append(Group(name="start", model=model, slices=1, samples=samples))
    return groups


def _clients(setting: Setting) -> Group:
    """A slice whose weights come over S3's protocol: with what packages hold, and with boto3 in its place, in turns."""
    from lamella.runtime.payload import Event, encode_event
    from lamella.targets.local.platform import FunctionSpec, LocalPlatform

    model, weights, samples = MODELS[0], setting.folder / "served" / "weights", []
    os.environ.update(CREDENTIALS)
    weights.mkdir(parents=True)
    sliced, event = setting.sliced(setting.model(model).path, 1), encode_event(Event("a-request", inputs(model)))
    setting.packages(sliced, model, delivery="object-store", store=weights.as_uri())
    platform = LocalPlatform(setting.folder / "platform", limits=setting.platform.limits)
    with platform, served(weights.parent, UNTHROTTLED) as url:
        store = f"s3://weights?endpoint_url={quote(url, safe='')}"
        package = setting.packages(sliced, model, delivery="object-store", store=store)[0].folder
        folders = {S3: package, S3_BY_BOTO3: _with_boto3(package, setting.folder / "with-boto3")}
        for number in range(-1, 3 * setting.rounds):
            for label, folder in folders.items():
                platform.create(FunctionSpec("client", folder, MEMORY_MB, 60, environment=CREDENTIALS))
                set_page_cache((path for path in folder.rglob("*") if path.is_file()), "warm")
                with metered(label, number) as sample:
                    payload = _invoke(platform, sample, "client", event)
                sample["facts"] |= _phases(payload)
                sample["facts"]["package_bytes"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
                if number >= 0:
                    samples.append(sample)
    return Group(name="start", model=model, slices=1, samples=samples)


def _with_boto3(package: Path, folder: Path) -> Path:
    """The package with boto3, of whose services S3 alone, and with Lamella's own store for users, which comes first."""
    import lamella.stores
    from lamella.packaging.compiled import compile_sources
    from lamella.packaging.installed import installed_files

    found = {path: source for name in BOTO3 for path, source in installed_files(name).items()}
    added = {path: Path(source) for path, source in found.items() if _is_needed(path)}
    own = Path(lamella.stores.__path__[0])
    added |= {f"lamella/stores/{name}": own / name for name in ("s3.py", "s3_errors.py")}
    shutil.copytree(package, folder)
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        place.chmod(0o755)
    for path, source in added.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / path)
    compile_sources(folder)
    return folder


def _is_needed(path: str) -> bool:
    return not path.startswith("botocore/data/") or path.startswith("botocore/data/s3/") or path.count("/") == 2


def _package(setting: Setting, model: str, delivery: str) -> Package:
    sliced = setting.sliced(setting.model(model).path, 1)
    if delivery == "package":
        return setting.packages(sliced, model)[0]
    folder = setting.folder / "weights"
    folder.mkdir(exist_ok=True)
    return setting.packages(sliced, model, delivery="object-store", store=folder.as_uri())[0]


def _phases(payload: bytes) -> dict[str, float]:
    from lamella.runtime.payload import decode_answer

    timing = decode_answer(payload).timing
    assert timing.init is not None
    phases = {name: getattr(timing.init, f"{name}_ms") for name in ("import", "weights", "session")}
    return rounded({**{f"{name}_ms": ms for name, ms in phases.items()}, "infer_ms": timing.infer_ms})


def _invoke(platform: LocalPlatform, sample: Sample, function: str, event: bytes) -> bytes:
    """A request that finds no instance."""
    began = time.perf_counter()
    done = platform.invoke(function, event)
    sample["seconds"] = time.perf_counter() - began
    if done.status != 200 or done.function_error or done.report is None or done.report.init_ms is None:
        raise RuntimeError(f"no cold start: {done.error_message}")
    sample["facts"] = rounded({"total_ms": 1000 * sample["seconds"], "init_ms": done.report.init_ms})
    return done.payload
