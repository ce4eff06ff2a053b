"""What a deployment on AWS costs, and where the money goes: an estimate from dated prices, for a usage that is given.

Prices are those of us-east-1, before anybody's free tier, taxes and discounts. Those of AWS Lambda, Express workflows
and S3 are the platform's; those of the services around them are in `prices.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from lamella.planner.cost import WORKFLOW_GB
from lamella.platforms.base import Platform
from lamella.targets.aws.release import Function, Model, Release, ZipCode
from lamella.targets.aws.settings import Settings

MONTH_S = 730 * 3600
"""A month as AWS bills it: 730 hours."""

GB = 1 << 30
_MB_PER_GB = 1024
_DOOR_MS = 20.0  # its own work, beside waiting: reading and writing tensors
_PING_MS = 1.0
_QUEUE_REQUESTS = 3  # a message is sent, received and deleted
_FREE_TEMPORARY_MB = 512


@dataclass(frozen=True)
class Usage:
    """What a month holds.

    Attributes:
        requests: How many there are.
        billed_ms: What a function's own work is billed for in a request, by its name.
        cold_share: The part of requests that start new instances.
        objects: Values that go through the bucket in a request, each written once and read once.
        request_bytes: A request's size at the HTTP API.
        weights_bytes: Weights in the bucket or on the file system.
    """

    requests: int
    billed_ms: Mapping[str, float] = field(default_factory=dict)
    cold_share: float = 0.0
    objects: int = 0
    request_bytes: int = 0
    weights_bytes: int = 0


@dataclass(frozen=True)
class Line:
    """One item.

    Attributes:
        what: What is paid for.
        estimated_month_usd: For the whole month.
        per_request: Whether it grows with requests, or is paid without any.
    """

    what: str
    estimated_month_usd: float
    per_request: bool


@dataclass(frozen=True)
class Estimate:
    """All items, the largest first.

    Attributes:
        lines: The items that cost anything.
        requests: In a month.
    """

    lines: tuple[Line, ...]
    requests: int

    @property
    def month_usd(self) -> float:
        """Everything for the month."""
        return sum(line.estimated_month_usd for line in self.lines)

    @property
    def idle_month_usd(self) -> float:
        """What is paid in a month without requests."""
        return sum(line.estimated_month_usd for line in self.lines if not line.per_request)

    @property
    def per_1000_usd(self) -> float:
        """1,000 requests more."""
        return 1000 * (self.month_usd - self.idle_month_usd) / self.requests if self.requests else 0.0


def estimate(settings: Settings, release: Release, usage: Usage, *, platform: Platform, kept: int = 1) -> Estimate:
    """What a month costs.

    Args:
        settings: How it is deployed.
        release: What is deployed; requests are spread evenly over its models.
        usage: What happens in a month.
        platform: Prices of functions and objects.
        kept: Releases that are kept, whose packages are stored and whose snapshots are cached.
    """
    month = _Month(settings, release, usage, platform, kept)
    lines = [line for line in month.lines() if line.estimated_month_usd > 0]
    return Estimate(tuple(sorted(lines, key=lambda line: -line.estimated_month_usd)), usage.requests)


def copying_usd(settings: Settings, weights_bytes: int) -> float:
    """What it costs once to bring a model to its file system."""
    return weights_bytes / GB * prices()["efs_write_gb_usd"] if settings.mount == "efs" else 0.0


@cache
def prices() -> Mapping[str, float]:
    """The prices of `prices.toml`, by name."""
    content = tomllib.loads(files(__package__).joinpath("prices.toml").read_text(encoding="utf-8"))
    return {name: float(entry["value"]) for name, entry in content.items()}


@dataclass(frozen=True)
class _Month:
    settings: Settings
    release: Release
    usage: Usage
    platform: Platform
    kept: int

    def lines(self) -> Iterator[Line]:
        pricing, requests, costs = self.platform.pricing, self.usage.requests, prices()
        yield Line("functions: time", requests * self._time_usd(), True)
        yield Line("functions: requests", requests * self._invocations() * pricing.request_usd, True)
        yield Line("functions: temporary storage", requests * self._temporary_usd(), True)
        yield Line("logs", requests * self._invocations() * costs["log_line_bytes"] / GB * costs["log_gb_usd"], True)
        yield Line("workflows", requests * self._workflow_usd(), True)
        objects_usd = self.usage.objects * (pricing.object_put_usd + pricing.object_get_usd)
        yield Line("objects: requests", requests * objects_usd, True)
        yield from self._doors()
        yield from self._stored()
        yield from self._standing()

    def _time_usd(self) -> float:
        """Functions in one request. With `direct` each also waits for those behind it, and is paid for that."""
        total = 0.0
        for model in self.release.models:
            waits = model.kind(self.settings) == "direct"
            busy = [self._of(model, step.slice) for level in model.levels for step in level]
            for index, function in enumerate(busy):
                behind = busy[index:] if waits else [function]
                total += self._seconds_usd(function, sum(self._ms(other) for other in behind))
            if (door := self._own_door()) is not None:
                total += self._seconds_usd(door, _DOOR_MS + self._latency_ms(model))
        return total / len(self.release.models)

    def _invocations(self) -> float:
        """Functions that one request invokes."""
        slices = sum(len(model.workflow.steps) for model in self.release.models) / len(self.release.models)
        return slices + (self._own_door() is not None)

    def _temporary_usd(self) -> float:
        extra_gb = max(0, self.settings.temporary_mb - _FREE_TEMPORARY_MB) / _MB_PER_GB
        slices = (function for function in self.release.functions if not function.is_door)
        seconds = sum(self._ms(function) for function in slices) / 1000 / len(self.release.models)
        return extra_gb * seconds * self.platform.pricing.temporary_storage_gb_s_usd

    def _workflow_usd(self) -> float:
        """One run. A Standard one pays for each state, an Express one for itself and its time."""
        total, pricing = 0.0, self.platform.pricing
        for model in self.release.models:
            kind = model.kind(self.settings)
            if kind == "standard":
                states = 1 + sum(len(level) + (len(level) > 1) for level in model.levels)
                total += (states + 1) * prices()["standard_transition_usd"]  # starting is one, too
            elif kind == "express":
                seconds = self._latency_ms(model) / 1000
                total += pricing.workflow_request_usd + seconds * WORKFLOW_GB * pricing.workflow_gb_s_usd
        return total / len(self.release.models)

    def _doors(self) -> Iterator[Line]:
        costs, requests = prices(), self.usage.requests
        if self.settings.http_api is not None:
            metered = max(1, -(-self.usage.request_bytes // int(costs["http_api_metered_bytes"])))
            yield Line("HTTP API", requests * metered * costs["http_api_request_usd"], True)
        if self.settings.s3_events is not None:
            yield Line("queue", requests * _QUEUE_REQUESTS * costs["queue_request_usd"], True)

    def _stored(self) -> Iterator[Line]:
        """Packages of all releases, taken as if each were another; weights once. To EFS the bucket only passes them."""
        object_usd, costs = self.platform.pricing.object_gb_month_usd, prices()
        zipped = sum(each.package_bytes for each in self.release.functions if isinstance(each.code, ZipCode))
        images = sum(each.package_bytes for each in self.release.functions) - zipped
        in_bucket = self.kept * zipped + (0 if self.settings.mount == "efs" else self.usage.weights_bytes)
        yield Line("objects: stored", in_bucket / GB * object_usd, False)
        yield Line("images", self.kept * images / GB * costs["repository_gb_month_usd"], False)
        if self.settings.mount == "efs":
            gb = self.usage.weights_bytes / GB
            yield Line("file system: stored", gb * costs["efs_gb_month_usd"], False)
            read = self.usage.requests * self.usage.cold_share * gb
            yield Line("file system: read", read * costs["efs_read_gb_usd"], True)

    def _standing(self) -> Iterator[Line]:
        """What is paid for being there."""
        costs, settings = prices(), self.settings
        slices_gb = sum(each.memory_mb for each in self.release.functions if not each.is_door) / _MB_PER_GB
        if settings.provisioned_concurrency:
            idle = costs[f"provisioned_{settings.architecture}_idle_gb_s_usd"]
            yield Line("provisioned instances", settings.provisioned_concurrency * slices_gb * MONTH_S * idle, False)
        if settings.snap_start:
            all_gb = sum(each.memory_mb for each in self.release.functions) / _MB_PER_GB
            cached = self.kept * all_gb * MONTH_S * costs["snap_start_cached_gb_s_usd"]
            restored = self.usage.requests * self.usage.cold_share * all_gb * costs["snap_start_restored_gb_usd"]
            yield Line("snapshots: kept", cached, False)
            yield Line("snapshots: restored", restored, True)
        if settings.keep_warm_minutes:
            pings = MONTH_S / 60 / settings.keep_warm_minutes
            each = costs["schedule_usd"] + self.platform.pricing.request_usd
            time = sum(self._seconds_usd(function, _PING_MS) for function in self.release.functions)
            yield Line("keeping warm", pings * (each * len(self.release.functions) + time), False)

    def _latency_ms(self, model: Model) -> float:
        """Time of a request, slices side by side counted once."""
        return sum(max(self._ms(self._of(model, step.slice)) for step in level) for level in model.levels)

    def _seconds_usd(self, function: Function, ms: float) -> float:
        if self.settings.provisioned_concurrency and not function.is_door:
            price = prices()[f"provisioned_{self.settings.architecture}_used_gb_s_usd"]
        else:
            price = self.platform.pricing.gb_s_usd[self.settings.architecture]
        return function.memory_mb / _MB_PER_GB * ms / 1000 * price

    def _own_door(self) -> Function | None:
        return next((function for function in self.release.functions if function.is_door), None)

    def _of(self, model: Model, slice: int) -> Function:
        return self.release.function(model.name, slice)

    def _ms(self, function: Function) -> float:
        return self.usage.billed_ms.get(function.name, 0.0)
