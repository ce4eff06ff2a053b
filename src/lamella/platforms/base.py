"""Platforms as data: what a serverless platform allows, charges, and how fast it is.

A platform is a TOML file. Every value in it stands with its unit, its source and the date it was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

Architecture = Literal["x86_64", "arm64"]

MB = 1 << 20
"""Bytes of the MB that platforms count in: 1024 KB."""


@dataclass(frozen=True)
class Figure:
    """One value of a platform's file: a limit, price or speed, in `unit`, as read from `source` on `as_of`.

    A value of None says that the platform has no such limit.
    """

    value: float | int | bool | tuple[int, ...] | None
    unit: str
    source: str
    as_of: date


@dataclass(frozen=True)
class Limits:
    """What the platform allows. None: it sets no such limit.

    Attributes:
        memory_min_mb: The smallest function.
        memory_max_mb: The largest function.
        memory_step_mb: Sizes between those are multiples of this above the smallest.
        memory_sizes_mb: The only sizes there are, where the platform has fixed ones; else empty.
        package_zip_bytes: A package as it is uploaded, compressed.
        package_unzipped_bytes: A package with its layers, unpacked.
        image_bytes: A container image, uncompressed.
        temporary_storage_bytes: The most temporary storage that a function may ask for.
        timeout_s: The longest that one request may take.
        init_timeout_s: The longest initialisation before the platform starts over.
        request_bytes: A synchronous request's body.
        response_bytes: A synchronous response's body.
        async_request_bytes: An asynchronous request's body.
        workflow_payload_bytes: What one step of a workflow may hand to the next.
        concurrency: Requests that run at the same time, all functions together.
        init_concurrency: Function instances started in ten seconds.
    """

    memory_min_mb: int
    memory_max_mb: int
    memory_step_mb: int = 1
    memory_sizes_mb: tuple[int, ...] = ()
    package_zip_bytes: int | None = None
    package_unzipped_bytes: int | None = None
    image_bytes: int | None = None
    temporary_storage_bytes: int | None = None
    timeout_s: float | None = None
    init_timeout_s: float | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    async_request_bytes: int | None = None
    workflow_payload_bytes: int | None = None
    concurrency: int | None = None
    init_concurrency: int | None = None

    def memory_sizes(self, least_mb: int = 0, *, step_mb: int = 1) -> list[int]:
        """The sizes from `least_mb` on, ascending: the least possible itself, then multiples of `step_mb`."""
        if self.memory_sizes_mb:
            return [size for size in self.memory_sizes_mb if size >= least_mb]
        step = self.memory_step_mb
        least = self.memory_min_mb + step * max(0, -((self.memory_min_mb - least_mb) // step))
        if least > self.memory_max_mb:
            return []
        wide = max(step, step_mb)
        first = -(-(least + step) // wide) * wide  # the first that is no less than the size after `least`
        multiples = range(first, self.memory_max_mb + 1, wide)
        off = (first - self.memory_min_mb) % step
        if wide % step == 0:  # then each is as far above a size that there is
            coarse: Iterable[int] = range(first - off, self.memory_max_mb + 1 - off, wide)
        else:
            coarse = (size - (size - self.memory_min_mb) % step for size in multiples)
        sizes = [least, *coarse]
        return sizes if sizes[-1] == self.memory_max_mb else [*sizes, self.memory_max_mb]


@dataclass(frozen=True)
class Pricing:
    """What the platform charges, in USD.

    Attributes:
        gb_s_usd: A second of 1024 MB of memory, by architecture; empty where memory and processors are billed apart.
        vcpu_s_usd: A second of one virtual processor, where they are billed apart.
        gib_s_usd: A second of 1 GiB of memory, where they are billed apart.
        request_usd: One request to a function.
        billing_step_ms: Durations are rounded up to a multiple of this.
        billed_min_ms: A shorter duration is billed as this.
        init_billed: Whether initialisation counts as duration.
        temporary_storage_gb_s_usd: A second of 1 GB of temporary storage above what is free.
        temporary_storage_free_bytes: Temporary storage that costs nothing.
        workflow_request_usd: One run of a workflow.
        workflow_transition_usd: One step of a workflow.
        workflow_gb_s_usd: A second of 1 GB of a running workflow, which takes 64 MB.
        object_put_usd: Writing one object.
        object_get_usd: Reading one object.
        object_gb_month_usd: Keeping 1 GB for a month.
    """

    gb_s_usd: Mapping[Architecture, float]
    vcpu_s_usd: float = 0.0
    gib_s_usd: float = 0.0
    request_usd: float = 0.0
    billing_step_ms: float = 1.0
    billed_min_ms: float = 0.0
    init_billed: bool = True
    temporary_storage_gb_s_usd: float = 0.0
    temporary_storage_free_bytes: int = 0
    workflow_request_usd: float = 0.0
    workflow_transition_usd: float = 0.0
    workflow_gb_s_usd: float = 0.0
    object_put_usd: float = 0.0
    object_get_usd: float = 0.0
    object_gb_month_usd: float = 0.0


@dataclass(frozen=True)
class Speeds:
    """How fast the platform is: what the cost model is calibrated with.

    Attributes:
        mb_per_vcpu: Memory that comes with one virtual processor.
        vcpus_max: The most virtual processors of one function.
        cpu_period_ms: Below one virtual processor a function gets its share of every such period; 0: evenly.
        parallel_share: The part of a model's computation that further processors speed up (Amdahl's law).
        gflops_per_vcpu: 10^9 floating-point operations a second in FP32 convolutions and matrix products.
        memory_gb_s: 10^9 bytes a second that element-wise operators move, on one virtual processor.
        operator_us: Microseconds that one operator takes before it does anything.
        runtime_init_ms: Starting Python and importing NumPy and the engine, on one virtual processor.
        package_mb_s: MB a second at which a package or image reaches a new instance.
        package_init_ms: Milliseconds until a new instance exists, before its own code runs.
        weights_mb_s: MB a second at which weights are read that lie in the package.
        object_mb_s: MB a second between a function and the object store, each way.
        object_request_ms: Milliseconds until the first byte of an object.
        session_ms_per_node: Creating an engine's session, on one virtual processor: for each node.
        session_ms_per_mb: Likewise: for each MB of weights.
        hop_ms: Milliseconds to invoke the next function, warm, without its payload.
        handler_ms: Milliseconds in a function for a request beside tensors and operators, on one virtual processor.
        inline_mb_s: MB a second at which tensors travel inside a request, encoding and decoding included.
        inline_bytes: A tensor up to this size travels inside the request, a larger one through the object store.
        floor_mb: Resident memory of a process with Python, NumPy and the engine, and no model.
        weights_factor: Resident bytes for each byte of weights, once a session is ready.
        activations_factor: Resident bytes for each byte of activations alive at the worst moment.
    """

    mb_per_vcpu: float
    vcpus_max: float
    cpu_period_ms: float
    parallel_share: float
    gflops_per_vcpu: float
    memory_gb_s: float
    operator_us: float
    runtime_init_ms: float
    package_mb_s: float
    package_init_ms: float
    weights_mb_s: float
    object_mb_s: float
    object_request_ms: float
    session_ms_per_node: float
    session_ms_per_mb: float
    hop_ms: float
    handler_ms: float
    inline_mb_s: float
    inline_bytes: int
    floor_mb: float
    weights_factor: float
    activations_factor: float


@dataclass(frozen=True)
class Platform:
    """A serverless platform.

    Attributes:
        name: How it is named on the command line: `aws-lambda`.
        title: Its own name: "AWS Lambda".
        architectures: What its functions run on, the default one first.
        python_versions: The Python minor versions that it offers, such as "3.13"; empty: any.
        limits: What it allows.
        pricing: What it charges.
        speeds: How fast it is.
        figures: Where each value comes from, by its place in the file: `limits.memory_max_mb`.
        profile: The variant that was asked for, such as `new-account`; None for the platform itself.
        profiles: The variants that there are.
    """

    name: str
    title: str
    architectures: tuple[Architecture, ...]
    python_versions: tuple[str, ...]
    limits: Limits
    pricing: Pricing
    speeds: Speeds
    figures: Mapping[str, Figure]
    profile: str | None = None
    profiles: tuple[str, ...] = ()
