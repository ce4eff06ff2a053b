"""What the platform itself adds to a request, and how many it takes in a second."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Sample
from models import inputs
from platform_client import Result, Settings, one_after_the_other
from platform_setting import MEMORY_MB, PAUSE_S, Setting, metered, passing, percentile, rounded
from results import Group

if TYPE_CHECKING:
    from lamella.targets.local.platform import LocalPlatform

WAYS = ("in process", "http", "boto3")
AT_ONCE, IDLE = "at once", "idle before"
CLIENTS = (1, 4, 16)
MODEL = "mobilenet-v1"
CLIENT = Path(__file__).with_name("platform_client.py")


def overhead(setting: Setting) -> list[Group]:
    """Empty requests, one after the other: in this process, over HTTP, and by boto3.

    An empty request is a ping, which a function answers without an inference.
    """
    from lamella.runtime.payload import PING

    requests = {AT_ONCE: 100 if setting.quick else 500, IDLE: 10 if setting.quick else 60}
    samples = []
    with _platform(setting) as platform:
        _create(platform, setting, "empty", passing(setting.folder, 1))
        for number in range(setting.rounds):
            for kind, count in requests.items():
                for way in WAYS:
                    with metered(f"{way}, {kind}", number) as sample:
                        pause_s = PAUSE_S if kind == IDLE else (0.0, 0.0)
                        if way == "in process":
                            result = one_after_the_other(_asker(platform, "empty", PING), count, pause_s)
                            _fill(sample, result)
                        else:
                            settings = _settings(platform, way, "empty", PING)
                            _ask(sample, settings | {"requests": count, "pause_s": pause_s})
                    samples.append(sample)
    return [Group(name="overhead", model="empty", slices=None, samples=samples)]


def throughput(setting: Setting) -> list[Group]:
    """Clients that send one request after the other, each over a connection of its own, all at the same time."""
    from lamella.runtime.payload import PING, Event, encode_event

    seconds, clients = (1.0, CLIENTS[:2]) if setting.quick else (4.0, CLIENTS)
    groups = []
    with _platform(setting) as platform:
        event = encode_event(Event("a-request", inputs(MODEL)))
        subjects = {"empty": (passing(setting.folder, 1), PING), MODEL: (setting.model(MODEL).path, event)}
        for name, (model, payload) in subjects.items():
            _create(platform, setting, name, model)
            samples, there = [], 0
            for count in clients:
                platform.start(name, count=count - there).result()
                there = count
                for number in range(setting.rounds):
                    with metered("1 client" if count == 1 else f"{count} clients", number) as sample:
                        settings = _settings(platform, "http", name, payload)
                        _ask(sample, settings | {"clients": count, "seconds": seconds})
                        _summarise(sample, count)
                    samples.append(sample)
            groups.append(Group(name="throughput", model=name, slices=None, samples=samples))
            platform.delete(name)
    return groups


def _platform(setting: Setting) -> LocalPlatform:
    from lamella.targets.local.platform import LocalPlatform

    return LocalPlatform(setting.folder / "platform", limits=setting.platform.limits)


def _create(platform: LocalPlatform, setting: Setting, name: str, model: Path) -> None:
    from lamella.targets.local.platform import FunctionSpec

    (package,) = setting.packages(setting.sliced(model, 1), name)
    platform.create(FunctionSpec(name, package.folder, memory_mb=MEMORY_MB, timeout_s=60))


def _asker(platform: LocalPlatform, function: str, payload: bytes) -> Callable[[], None]:
    def ask() -> None:
        done = platform.invoke(function, payload)
        if done.status != 200 or done.function_error:
            raise RuntimeError(done.error_message)

    return ask


def _settings(platform: LocalPlatform, way: str, function: str, payload: bytes) -> Settings:
    return {
        "way": way,
        "url": platform.url,
        "function": function,
        "payload": base64.b64encode(payload).decode(),
    }


def _ask(sample: Sample, settings: Settings) -> None:
    """Run a client in a process of its own, and put what it reports into the sample."""
    time.sleep(random.uniform(*PAUSE_S))
    program = [sys.executable, str(CLIENT)]
    done = subprocess.run(program, input=json.dumps(settings), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        sample["error"] = lines[-1][:300] if lines else f"the client ended with status {done.returncode}"
    else:
        _fill(sample, json.loads(done.stdout))


def _fill(sample: Sample, result: Result) -> None:
    sample["seconds"] = percentile(result["request_ms"], 50) / 1000
    sample["facts"] = {"request_ms": [round(ms, 3) for ms in result["request_ms"]], "over_s": result["seconds"]}


def _summarise(sample: Sample, clients: int) -> None:
    """So many requests are not kept one by one."""
    if "error" in sample:
        return
    times, over_s = sample["facts"].pop("request_ms"), sample["facts"]["over_s"]
    assert isinstance(times, list)
    assert isinstance(over_s, float)
    percentiles = rounded({f"p{percent}_ms": percentile(times, percent) for percent in (50, 90, 99)})
    sample["facts"] |= {"clients": clients, "requests": len(times), "per_second": len(times) / over_s, **percentiles}
