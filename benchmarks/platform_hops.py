"""What it costs to hand a tensor from one function to the next, in the request or by reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from platform_client import one_after_the_other
from platform_setting import MEMORY_MB, Setting, metered, passing, percentile
from results import Group

if TYPE_CHECKING:
    from lamella.targets.local.platform import LocalPlatform
    from lamella.workflow.chain import Chain

SIZES = (150_000, 1_000_000, 6_000_000)
"""Bytes of the tensor."""

ONE, INLINE, BY_REFERENCE = "one function", "two, in the request", "two, by reference"
MOST_INLINE = 4_000_000
"""What does not fit into a request of 6 MB as text goes by reference only."""


def hops(setting: Setting) -> list[Group]:
    """A model in one function and in two, between which nothing but one tensor passes."""
    from lamella.targets.local.platform import LocalPlatform

    requests = 10 if setting.quick else 50
    groups = []
    with LocalPlatform(setting.folder / "platform", limits=setting.platform.limits) as platform:
        for size in SIZES:
            name = f"{size // 1000:,} KB"
            print(f"  {name}", flush=True)
            with _chains(setting, platform, size) as chains:
                samples = []
                for number in range(setting.rounds):
                    for label, chain in chains.items():
                        with metered(label, number) as sample:
                            ask = partial(_ask, chain)
                            request_ms = one_after_the_other(ask, requests, (0.0, 0.0))["request_ms"]
                            sample["seconds"] = percentile(request_ms, 50) / 1000
                            sample["facts"] = {"bytes": size, "request_ms": [round(ms, 3) for ms in request_ms]}
                        samples.append(sample)
            groups.append(Group(name="hop", model=name, slices=None, samples=samples))
    return groups


def _ask(chain: Chain) -> None:
    answer = chain.infer({"x": np.array([7], np.float32)})
    if answer.outputs["y"].tolist() != [7]:
        raise RuntimeError(f"a wrong answer: {answer.outputs}")


@contextmanager
def _chains(setting: Setting, platform: LocalPlatform, size: int) -> Iterator[dict[str, Chain]]:
    from lamella.stores.directory import DirectoryStore
    from lamella.workflow.chain import Chain

    model, store = passing(setting.folder, size // 4), DirectoryStore(setting.folder / "values")
    made = {ONE: _chain(setting, platform, model, 1), "two": _chain(setting, platform, model, 2)}
    chains = {ONE: Chain(*made[ONE], store=store), BY_REFERENCE: Chain(*made["two"], store=store, inline_bytes=0)}
    if size <= MOST_INLINE:
        chains[INLINE] = Chain(*made["two"], store=store)
    try:
        yield chains
    finally:
        for chain in chains.values():
            chain.close()
        for workflow, _ in made.values():
            for step in workflow.steps:
                platform.delete(step.function)


def _chain(setting: Setting, platform: LocalPlatform, model: Path, count: int):  # noqa: ANN202 - what a chain is made of
    from lamella.runtime.slice_function import STORE_VARIABLE
    from lamella.stores.directory import DirectoryStore
    from lamella.targets.local.invoker import LocalInvoker
    from lamella.targets.local.platform import FunctionSpec, Mount
    from lamella.workflow.manifest import read_manifest
    from lamella.workflow.steps import workflow_of

    sliced, values = setting.sliced(model, count), setting.folder / "values"
    values.mkdir(exist_ok=True)
    packages = setting.packages(sliced, f"{model.stem}-in-{count}")
    versions = {}
    for package in packages:
        spec = FunctionSpec(
            package.function.name,
            package.folder,
            memory_mb=MEMORY_MB,
            timeout_s=60,
            environment={STORE_VARIABLE: DirectoryStore(values).uri},
            mounts=(Mount(values, str(values), writable=True),),
        )
        versions[spec.name] = platform.create(spec)
    workflow = workflow_of(read_manifest(sliced), [package.function for package in packages])
    return workflow, LocalInvoker(platform, versions)
