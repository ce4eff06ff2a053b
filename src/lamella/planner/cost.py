"""What a slice costs on a platform: time, money and memory, cold and warm. Pure arithmetic.

Everything here works on numbers and, element by element, on NumPy arrays: the search asks for thousands of slices at a
time, the explanation for one.

The time of a warm request is `hop + transfer + compute`:

- `compute`: the operators' time on one virtual processor, divided by the processors that come with the memory. Below
  one processor the platform gives a share of its time; above it, Amdahl's law with the platform's `parallel_share`.
  The share is given anew every `cpu_period_ms`, and a request finds that of a whole period, since the function was
  idle: it begins at full speed, and does not wait for the end of the period in which it ends. On average over when in
  a period it begins and ends, that saves `cpu_period_ms * (1 - share)`; it is never faster than a whole processor.
- `transfer`: handling the request, and its tensors. Those up to `inline_bytes` travel in the request and cost encoding;
  larger ones through the object store and cost its bandwidth, and its latency once each way, since they are fetched
  side by side.
- `hop`: invoking a function.

A cold request adds the instance and its package, which nobody bills, and the initialisation: Python, engine, weights,
session. Where that takes longer than the platform's `init_timeout_s`, it is stopped and run again within the request:
the time until then is lost, and billed. Billed is what runs in the function, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lamella.platforms.base import MB, Architecture, Platform

Numbers = float | npt.NDArray[np.float64]
ColdStart = Literal["sequential", "parallel"]

WORKFLOW_GB = 64 / 1024
"""Memory that a running workflow is billed for: 64 MB (AWS Step Functions pricing, Express workflows)."""

_LEAST_MS = 1e-9  # work that is none


@dataclass(frozen=True)
class Load:
    """What a slice asks of its function. Every field is a number, or an array with one element for each slice.

    Attributes:
        compute_ms: Time of its operators on one virtual processor of the platform.
        nodes: Its operators.
        weights_bytes: Its weights, each once.
        held_bytes: Memory that these take in the engine (`planner.residency`).
        activations_bytes: Activations alive at their worst moment.
        inline_bytes: Tensors that travel inside requests, in and out.
        object_in_bytes: Tensors that it fetches from the object store.
        object_out_bytes: Tensors that it puts there.
        objects_in: How many it fetches.
        objects_out: How many it puts.
    """

    compute_ms: Numbers
    nodes: Numbers
    weights_bytes: Numbers
    held_bytes: Numbers
    activations_bytes: Numbers
    inline_bytes: Numbers
    object_in_bytes: Numbers
    object_out_bytes: Numbers
    objects_in: Numbers
    objects_out: Numbers


@dataclass(frozen=True)
class Costs:
    """What slices cost at a memory size, in milliseconds and USD for one request.

    Attributes:
        hop_ms: Invoking the function.
        transfer_ms: Tensors in and out.
        compute_ms: Its operators.
        saved_ms: By what the two are shorter, since the function was idle before.
        start_ms: Until a new instance has its package; not billed.
        runtime_ms: Starting Python and the engine.
        weights_ms: Reading the weights.
        session_ms: Creating the engine's session.
        lost_ms: An initialisation that the platform stopped for taking too long.
        warm_usd: A request to a warm function.
        cold_usd: A request that starts it.
    """

    hop_ms: Numbers
    transfer_ms: Numbers
    compute_ms: Numbers
    saved_ms: Numbers
    start_ms: Numbers
    runtime_ms: Numbers
    weights_ms: Numbers
    session_ms: Numbers
    lost_ms: Numbers
    warm_usd: Numbers
    cold_usd: Numbers

    @property
    def warm_ms(self) -> Numbers:
        """From the invocation to the answer, warm."""
        return self.hop_ms + self.transfer_ms + self.compute_ms

    @property
    def init_ms(self) -> Numbers:
        """The initialisation that the platform limits and bills, once or, after what was lost, again."""
        return self.lost_ms + self.runtime_ms + self.weights_ms + self.session_ms

    @property
    def ready_ms(self) -> Numbers:
        """From the decision to start an instance until it can take a request."""
        return self.start_ms + self.init_ms

    @property
    def cold_ms(self) -> Numbers:
        """From the invocation to the answer, where the instance is started for it."""
        return self.warm_ms + self.ready_ms


@dataclass(frozen=True)
class CostModel:
    """The cost of slices on one platform.

    Attributes:
        platform: Its prices and speeds.
        architecture: Of the functions.
        closure_bytes: What a package holds beside the weights, unpacked.
    """

    platform: Platform
    architecture: Architecture
    closure_bytes: int

    def processors(self, memory_mb: Numbers) -> Numbers:
        """Virtual processors, or the share of one, that come with a memory size."""
        speeds = self.platform.speeds
        return np.minimum(np.asarray(memory_mb, np.float64) / speeds.mb_per_vcpu, speeds.vcpus_max)

    def speedup(self, memory_mb: Numbers) -> Numbers:
        """How many times faster than on one virtual processor operators run at a memory size."""
        share = self.processors(memory_mb)
        parallel = self.platform.speeds.parallel_share
        return np.where(share <= 1, share, 1 / (1 - parallel + parallel / np.maximum(share, 1)))

    def saved_share(self, busy_ms: Numbers, memory_mb: Numbers) -> Numbers:
        """The part of its time, at its share of a processor, that a function saves since it was idle before.

        Args:
            busy_ms: What its work takes on one virtual processor.
            memory_mb: Its size.
        """
        share = np.minimum(self.processors(memory_mb), 1.0)
        period_ms = self.platform.speeds.cpu_period_ms
        return (1 - share) * np.minimum(1.0, period_ms * share / np.maximum(busy_ms, _LEAST_MS))

    def busy_ms(self, load: Load) -> Numbers:
        """What a request's work takes on one virtual processor: the handler, encoding tensors, and the operators."""
        speeds = self.platform.speeds
        return speeds.handler_ms + 1000 * load.inline_bytes / MB / speeds.inline_mb_s + load.compute_ms

    def peak_bytes(self, load: Load) -> Numbers:
        """Resident memory at the worst moment: the runtime, weights, activations, and tensors on their way."""
        speeds = self.platform.speeds
        tensors = load.inline_bytes + load.object_in_bytes + load.object_out_bytes
        return (
            speeds.floor_mb * MB
            + speeds.weights_factor * load.held_bytes
            + speeds.activations_factor * load.activations_bytes
            + tensors
        )

    def in_package(self, load: Load) -> npt.NDArray[np.bool_]:
        """Whether the weights go into the package; those that make it too large come from the object store."""
        limit = self.platform.limits.package_unzipped_bytes
        size = np.asarray(load.weights_bytes, np.float64) + self.closure_bytes
        return size <= (np.inf if limit is None else limit)

    def costs(self, load: Load, memory_mb: Numbers, *, workflow: bool | npt.NDArray[np.bool_]) -> Costs:
        """Cost of slices at a memory size; `workflow` says whether they are steps of one or a function of their own."""
        speeds, pricing = self.platform.speeds, self.platform.pricing
        single = np.minimum(self.processors(memory_mb), 1.0)  # what no second processor speeds up
        packaged = self.in_package(load)
        weights_mb = np.asarray(load.weights_bytes, np.float64) / MB
        package_mb = self.closure_bytes / MB + np.where(packaged, weights_mb, 0.0)
        busy_ms = self.busy_ms(load)
        saved = self.saved_share(busy_ms, memory_mb)
        transfer_ms = (
            (busy_ms - load.compute_ms) / single * (1 - saved)
            + 1000 * (load.object_in_bytes + load.object_out_bytes) / MB / speeds.object_mb_s
            + speeds.object_request_ms * (1.0 * (np.asarray(load.objects_in) > 0) + (np.asarray(load.objects_out) > 0))
        )
        compute_ms = load.compute_ms / self.speedup(memory_mb) * (1 - saved)
        runtime_ms = speeds.runtime_init_ms / single
        weights_ms = np.where(
            packaged,
            1000 * weights_mb / speeds.weights_mb_s,
            1000 * weights_mb / speeds.object_mb_s + speeds.object_request_ms,
        )
        session_ms = (speeds.session_ms_per_node * load.nodes + speeds.session_ms_per_mb * weights_mb) / single
        run_ms = transfer_ms + compute_ms
        once_ms = runtime_ms + weights_ms + session_ms
        limit_ms = np.inf if self.platform.limits.init_timeout_s is None else 1000 * self.platform.limits.init_timeout_s
        lost_ms = np.where(once_ms > limit_ms, limit_ms, 0.0)
        init_ms = once_ms + lost_ms
        objects_usd = pricing.object_get_usd * load.objects_in + pricing.object_put_usd * load.objects_out
        cold_gets_usd = np.where(packaged, 0.0, pricing.object_get_usd)
        steps_usd = np.where(workflow, pricing.workflow_transition_usd, 0.0)
        waited_usd = np.where(workflow, pricing.workflow_gb_s_usd * WORKFLOW_GB / 1000, 0.0)
        fixed_usd = pricing.request_usd + objects_usd + steps_usd
        start_ms = speeds.package_init_ms + 1000 * package_mb / speeds.package_mb_s
        warm_ms = speeds.hop_ms + run_ms
        billed_init_ms = init_ms if pricing.init_billed else 0.0
        second_usd = self.second_usd(memory_mb)
        return Costs(
            hop_ms=speeds.hop_ms,
            transfer_ms=transfer_ms,
            compute_ms=compute_ms,
            saved_ms=busy_ms / single * saved,
            start_ms=start_ms,
            runtime_ms=runtime_ms,
            weights_ms=weights_ms,
            session_ms=session_ms,
            lost_ms=lost_ms,
            warm_usd=fixed_usd + self.billed_s(run_ms) * second_usd + waited_usd * warm_ms,
            cold_usd=fixed_usd
            + cold_gets_usd
            + self.billed_s(run_ms + billed_init_ms) * second_usd
            + waited_usd * (warm_ms + start_ms + init_ms),
        )

    def second_usd(self, memory_mb: Numbers) -> Numbers:
        """A billed second of a function of a memory size."""
        pricing = self.platform.pricing
        if self.architecture in pricing.gb_s_usd:
            return pricing.gb_s_usd[self.architecture] * np.asarray(memory_mb, np.float64) / 1024
        memory_usd = pricing.gib_s_usd * np.asarray(memory_mb, np.float64) / 1024
        return memory_usd + pricing.vcpu_s_usd * self.processors(memory_mb)

    def billed_s(self, duration_ms: Numbers) -> Numbers:
        """Seconds that the platform bills for a duration."""
        step = self.platform.pricing.billing_step_ms
        rounded_ms = np.ceil(np.round(np.asarray(duration_ms, np.float64) / step, 9)) * step
        return np.maximum(rounded_ms, self.platform.pricing.billed_min_ms) / 1000
