"""What a platform's file may say: the unit of each value, its type, its range, and whether it must be there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from types import NoneType
from typing import Literal, get_args, get_type_hints

from lamella.platforms.base import Limits, Pricing, Speeds

Kind = Literal["integer", "number", "boolean", "integers"]

SECTIONS: Mapping[str, type[Limits] | type[Pricing] | type[Speeds]] = {
    "limits": Limits,
    "pricing": Pricing,
    "speeds": Speeds,
}
"""The tables of a platform's file that hold values, and the class whose fields they fill."""

PER_ARCHITECTURE = "pricing.gb_s_usd"
"""The one price with a value for each architecture, one level deeper: `pricing.gb_s_usd.arm64`."""

UNITS: Mapping[str, str] = {
    "limits.memory_min_mb": "MB",
    "limits.memory_max_mb": "MB",
    "limits.memory_step_mb": "MB",
    "limits.memory_sizes_mb": "MB",
    "limits.package_zip_bytes": "bytes",
    "limits.package_unzipped_bytes": "bytes",
    "limits.image_bytes": "bytes",
    "limits.temporary_storage_bytes": "bytes",
    "limits.timeout_s": "s",
    "limits.init_timeout_s": "s",
    "limits.request_bytes": "bytes",
    "limits.response_bytes": "bytes",
    "limits.async_request_bytes": "bytes",
    "limits.workflow_payload_bytes": "bytes",
    "limits.concurrency": "requests",
    "limits.init_concurrency": "instances/10 s",
    PER_ARCHITECTURE: "USD/GB-s",
    "pricing.vcpu_s_usd": "USD/vCPU-s",
    "pricing.gib_s_usd": "USD/GiB-s",
    "pricing.request_usd": "USD/request",
    "pricing.billing_step_ms": "ms",
    "pricing.billed_min_ms": "ms",
    "pricing.init_billed": "yes/no",
    "pricing.temporary_storage_gb_s_usd": "USD/GB-s",
    "pricing.temporary_storage_free_bytes": "bytes",
    "pricing.workflow_request_usd": "USD/run",
    "pricing.workflow_transition_usd": "USD/transition",
    "pricing.workflow_gb_s_usd": "USD/GB-s",
    "pricing.object_put_usd": "USD/request",
    "pricing.object_get_usd": "USD/request",
    "pricing.object_gb_month_usd": "USD/GB-month",
    "speeds.mb_per_vcpu": "MB/vCPU",
    "speeds.vcpus_max": "vCPU",
    "speeds.cpu_period_ms": "ms",
    "speeds.parallel_share": "share",
    "speeds.gflops_per_vcpu": "GFLOPS/vCPU",
    "speeds.memory_gb_s": "GB/s/vCPU",
    "speeds.operator_us": "us/operator",
    "speeds.runtime_init_ms": "ms",
    "speeds.package_mb_s": "MB/s",
    "speeds.package_init_ms": "ms",
    "speeds.weights_mb_s": "MB/s",
    "speeds.object_mb_s": "MB/s",
    "speeds.object_request_ms": "ms",
    "speeds.session_ms_per_node": "ms/node",
    "speeds.session_ms_per_mb": "ms/MB",
    "speeds.hop_ms": "ms",
    "speeds.handler_ms": "ms",
    "speeds.inline_mb_s": "MB/s",
    "speeds.inline_bytes": "bytes",
    "speeds.floor_mb": "MB",
    "speeds.weights_factor": "bytes/byte",
    "speeds.activations_factor": "bytes/byte",
}
"""The unit of each value, by its place. MB and GB are powers of 1024; GB/s and GFLOPS are powers of 1000."""

_KINDS: Mapping[object, Kind] = {int: "integer", float: "number", bool: "boolean", tuple[int, ...]: "integers"}

_DIVISORS = {
    "pricing.billing_step_ms",
    "speeds.mb_per_vcpu",
    "speeds.vcpus_max",
    "speeds.gflops_per_vcpu",
    "speeds.memory_gb_s",
    "speeds.package_mb_s",
    "speeds.weights_mb_s",
    "speeds.object_mb_s",
    "speeds.inline_mb_s",
}


_MOST = {"limits.memory_max_mb": 4 << 20}  # 4 TB; plans look at every size


@dataclass(frozen=True)
class Field:
    """One value that a platform's file may hold.

    Attributes:
        unit: The only unit in which it may be given.
        kind: What TOML type it has.
        required: Whether every platform must have it.
        removable: Whether it may be `"none"`: the platform has no such limit.
        positive: Whether it must be above zero; otherwise it must not be below.
        most: The largest value that it may have; None: as large as a number can be.
    """

    unit: str
    kind: Kind
    required: bool
    removable: bool
    positive: bool
    most: int | None


@cache
def known_fields() -> Mapping[str, Field]:
    """Every value that there is, by its place in the file, such as `limits.memory_max_mb`."""
    known: dict[str, Field] = {}
    for section, owner in SECTIONS.items():
        hints = get_type_hints(owner)
        for field in fields(owner):
            place = f"{section}.{field.name}"
            hint = hints[field.name]
            plain = [kind for kind in get_args(hint) if kind in _KINDS] if NoneType in get_args(hint) else [hint]
            known[place] = Field(
                unit=UNITS[place],
                kind="number" if place == PER_ARCHITECTURE else _KINDS[plain[0]],
                required=field.default is MISSING and place != PER_ARCHITECTURE,
                removable=NoneType in get_args(hint),
                positive=section == "limits" or place in _DIVISORS,
                most=_MOST.get(place),
            )
    return known
