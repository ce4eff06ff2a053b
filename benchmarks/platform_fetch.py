"""A large model's cold start where each function fetches weights at a cloud's rate: one function against several.

The functions fetch with the package's own S3 client, in parallel ranges, straight into memory, from
`platform_store.py`, which gives each of them the same rate, whatever the others do. So several functions together get
several times the rate, as in a cloud. What they share here, and would not share there, are this machine's processors.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from measure import Sample
from models import inputs
from pipeline_jobs import digest
from platform_setting import Setting, metered, rounded, tree_processor_s
from results import Group

if TYPE_CHECKING:
    from lamella.platforms import Platform
    from lamella.targets.deploying import Endpoint

MODEL, QUICK_MODEL = "bert-large", "minilm"
SLICES, QUICK_SLICES = (4, 8), (2,)
BYTES_PER_S = 78e6
"""What one function gets of S3 for long: Lambada (VLDB 2020)."""

WHOLE_MB, SLICE_MB = 6144, 1769
KEEP_ALIVE_S = 30.0
SAME_ANSWER = 1e-3
WHOLE, NO_LIMIT = "1 function", "1 function, no limit on INIT"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}


def fetch(setting: Setting) -> list[Group]:
    """The first request to functions none of which has an instance, with `cold="parallel"`.

    A model of which INIT takes longer than the platform allows is initialised a second time, within the request: so AWS
    does it, and so does the platform. What that costs is the difference to the same without the limit.
    """
    os.environ.update(CREDENTIALS)
    os.environ["LAMELLA_HOME"] = str(setting.folder / "cache")
    model = setting.model(QUICK_MODEL if setting.quick else MODEL)
    counts = QUICK_SLICES if setting.quick else SLICES
    rounds = 1 if setting.quick else min(setting.rounds, 3)
    without = replace(setting.platform, limits=replace(setting.platform.limits, init_timeout_s=None))
    candidates = {WHOLE: (1, setting.platform), NO_LIMIT: (1, without)}
    candidates |= {f"{count} functions": (count, setting.platform) for count in counts}
    samples: list[Sample] = []
    (setting.folder / "store").mkdir(parents=True, exist_ok=True)
    with served(setting.folder / "store") as url:
        for label, (count, platform) in candidates.items():
            with _deployed(setting, model.path, count, platform, url) as endpoint:
                for number in range(rounds):
                    if number:
                        time.sleep(KEEP_ALIVE_S + 3)  # until the platform has ended every instance
                    with metered(label, number) as sample:
                        _measure(sample, endpoint, model.name, count)
                    samples.append(sample)
    _check_answers(samples)
    return [Group(name="fetch", model=model.name, slices=None, samples=samples)]


def _measure(sample: Sample, endpoint: Endpoint, model: str, count: int) -> None:
    before_s = tree_processor_s()
    answer = endpoint.infer_with_timeline(inputs(model))
    sample["seconds"] = answer.latency_ms / 1000
    if not all(run.cold_start for run in answer.timeline):
        raise RuntimeError("an instance was there already")
    names = ("slice", "init_ms", "load_ms", "infer_ms", "transfer_ms", "billed_ms", "max_memory_mb")
    sample["facts"] = {
        "functions": count,
        "answer": float(np.mean([digest(array) for array in answer.outputs.values()])),
        "bytes": _weights_bytes(endpoint),
        "processor_s": round(tree_processor_s() - before_s, 2),
        "timeline": [rounded({name: asdict(run)[name] or 0.0 for name in names}) for run in answer.timeline],
    }


def _weights_bytes(endpoint: Endpoint) -> list[int]:
    """Bytes that each function fetches."""
    from lamella.runtime.function import read_function

    functions = [read_function(Path(function.folder)) for function in endpoint.functions]
    return [sum(entry.size for entry in function.objects) for function in functions]


@contextmanager
def _deployed(setting: Setting, model: Path, count: int, platform: Platform, url: str) -> Iterator[Endpoint]:
    """The model in so many functions, its weights in the store."""
    import lamella

    name = f"large-in-{count}"
    sliced, folder = setting.sliced(model, count), setting.folder / "store" / "weights" / f"{name}@dev"
    setting.packages(sliced, name, delivery="object-store", store=folder.as_uri())  # puts them where they are served
    with lamella.deploy(
        sliced,
        name=name,
        platform=platform,
        memory_mb=WHOLE_MB if count == 1 else SLICE_MB,
        timeout_s=300,
        delivery="object-store",
        store=f"s3://weights?endpoint_url={quote(url, safe='')}",
        cold="parallel",
        environment=CREDENTIALS,
        keep_alive_s=KEEP_ALIVE_S,
    ) as endpoint:
        yield endpoint


@contextmanager
def served(folder: Path, bytes_per_s: float = BYTES_PER_S) -> Iterator[str]:
    """The URL of a server of S3's protocol for the files in a folder, each at this rate."""
    program = [sys.executable, str(Path(__file__).with_name("platform_store.py")), str(folder), str(bytes_per_s)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def _check_answers(samples: list[Sample]) -> None:
    """A fast wrong answer is no result."""
    answers = [float(str(sample["facts"]["answer"])) for sample in samples]
    if max(answers) - min(answers) > SAME_ANSWER * abs(answers[0]):
        sys.exit(f"error: different answers: {answers}")
