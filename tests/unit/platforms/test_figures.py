"""The platforms that come with Lamella: every value has a unit, a source and a date, and the right ones are there."""

from dataclasses import fields
from datetime import date

import pytest

from lamella.planner.cost import CostModel, Load
from lamella.platforms import Figure, Platform, load_platform, platform_names, platforms
from lamella.platforms.fields import PER_ARCHITECTURE, SECTIONS, UNITS, known_fields

MB = 1024 * 1024
GB = 1024 * MB
FACTS = date(2026, 11, 1)

SELECTIONS = [
    (name, profile) for name in platform_names() for profile in (None, *load_platform(name).profiles)
]  # fmt: skip

AWS = {
    "limits.memory_min_mb": 128,
    "limits.memory_max_mb": 10_240,
    "limits.memory_step_mb": 1,
    "limits.package_zip_bytes": 50 * MB,
    "limits.package_unzipped_bytes": 250 * MB,
    "limits.image_bytes": 10 * GB,
    "limits.temporary_storage_bytes": 10_240 * MB,
    "limits.timeout_s": 900,
    "limits.init_timeout_s": 10,
    "limits.request_bytes": 6 * MB,
    "limits.response_bytes": 6 * MB,
    "limits.async_request_bytes": MB,
    "limits.workflow_payload_bytes": 256 * 1024,
    "limits.concurrency": 1000,
    "limits.init_concurrency": 1000,
    "pricing.gb_s_usd.x86_64": 0.0000166667,
    "pricing.gb_s_usd.arm64": 0.0000133334,
    "pricing.request_usd": 0.20e-6,
    "pricing.billing_step_ms": 1,
    "pricing.init_billed": True,
    "pricing.temporary_storage_gb_s_usd": 0.0000000309,
    "pricing.temporary_storage_free_bytes": 512 * MB,
    "pricing.workflow_request_usd": 1.00e-6,
    "pricing.workflow_transition_usd": 0,
    "pricing.workflow_gb_s_usd": 0.00001667,
    "pricing.object_put_usd": 0.005e-3,
    "pricing.object_get_usd": 0.0004e-3,
    "pricing.object_gb_month_usd": 0.023,
    "speeds.mb_per_vcpu": 1769,
    "speeds.vcpus_max": 6,
}
GCP = {
    "limits.memory_max_mb": 32 * 1024,
    "limits.timeout_s": 60 * 60,
    "limits.request_bytes": 32 * MB,
    "pricing.vcpu_s_usd": 0.000024,
    "pricing.gib_s_usd": 0.0000025,
    "pricing.request_usd": 0.40e-6,
    "pricing.billing_step_ms": 100,
    "speeds.vcpus_max": 8,
}
AZURE = {
    "limits.memory_sizes_mb": (512, 2048, 4096),
    "limits.timeout_s": 230,
    "limits.request_bytes": 100 * MB,
    "pricing.gb_s_usd.x86_64": 0.000026,
    "pricing.request_usd": 0.40e-6,
    "pricing.billing_step_ms": 100,
    "pricing.billed_min_ms": 1000,
    "pricing.init_billed": False,
}


def without_sources(platform: Platform) -> dict[str, object]:
    return {place: figure.value for place, figure in platform.figures.items()}


def test_every_field_of_a_platform_has_a_unit() -> None:
    places = {f"{section}.{field.name}" for section, owner in SECTIONS.items() for field in fields(owner)}
    assert set(UNITS) == places == set(known_fields())


@pytest.mark.parametrize(("name", "profile"), SELECTIONS)
def test_every_value_has_its_unit_a_source_and_a_date(name: str, profile: str | None) -> None:
    platform = load_platform(name, profile=profile)
    assert len(platform.figures) > 30
    for place, figure in platform.figures.items():
        assert figure.unit == UNITS[PER_ARCHITECTURE if place.startswith(PER_ARCHITECTURE) else place]
        assert len(figure.source) > 10
        assert date(2026, 11, 1) <= figure.as_of < date(2030, 1, 1)


@pytest.mark.parametrize(("name", "profile"), SELECTIONS)
def test_fields_hold_what_the_figures_say(name: str, profile: str | None) -> None:
    platform = load_platform(name, profile=profile)
    for place, value in without_sources(platform).items():
        section, _, key = place.partition(".")
        key, _, architecture = key.partition(".")
        held = getattr(getattr(platform, section), key)
        assert (held[architecture] if architecture else held) == value, place


@pytest.mark.parametrize(("name", "published"), [("aws-lambda", AWS), ("gcp-run", GCP), ("azure-flex", AZURE)])
def test_limits_and_prices_are_the_published_ones(name: str, published: dict[str, object]) -> None:
    values = without_sources(load_platform(name))
    assert {place: values[place] for place in published} == published


def test_aws_has_no_limit_or_price_beside_the_published_ones() -> None:
    figures = load_platform("aws-lambda").figures
    assert {place for place in figures if not place.startswith("speeds.")} == {
        place for place in AWS if not place.startswith("speeds.")
    }
    assert {figures[place].as_of for place in AWS} == {FACTS}


def test_what_is_weakly_sourced_says_so() -> None:
    figures = load_platform("azure-flex").figures
    assert figures["limits.request_bytes"].source.startswith("weakly sourced")
    assert figures["limits.response_bytes"].source.startswith("weakly sourced")


@pytest.mark.parametrize("platform", platforms(), ids=lambda platform: platform.name)
def test_speeds_say_how_they_are_known(platform: Platform) -> None:
    documented = {"speeds.mb_per_vcpu", "speeds.vcpus_max"}
    for place, figure in platform.figures.items():
        if place.startswith("speeds.") and place not in documented:
            assert figure.source.startswith(("measured", "assumed", "derived")), place


def test_new_account_has_less_memory_and_ten_requests_at_a_time() -> None:
    plain, new = load_platform("aws-lambda"), load_platform("aws-lambda", profile="new-account")
    assert (new.profile, new.limits.memory_max_mb, new.limits.concurrency) == ("new-account", 3008, 10)
    changed = [place for place, figure in new.figures.items() if figure != plain.figures[place]]
    assert changed == ["limits.memory_max_mb", "limits.concurrency"]


def test_standard_workflow_is_billed_by_transition_alone() -> None:
    pricing = load_platform("aws-lambda", profile="standard-workflow").pricing
    assert pricing.workflow_transition_usd == 0.025e-3
    assert pricing.workflow_request_usd == pricing.workflow_gb_s_usd == 0


def test_local_has_the_limits_and_prices_of_aws_and_speeds_of_its_own() -> None:
    local, aws = load_platform("local"), load_platform("aws-lambda")
    assert (local.limits, local.pricing, local.architectures) == (aws.limits, aws.pricing, aws.architectures)
    own = [place for place, figure in local.figures.items() if figure != aws.figures[place]]
    assert len(own) >= 15
    assert all(place.startswith("speeds.") for place in own)
    assert all(local.figures[place].source.startswith("measured ") for place in own)


@pytest.mark.parametrize(("memory_mb", "published_ms"), [(768, 138), (1536, 62.6), (2240, 42.5), (3008, 32.3)], ids=str)
def test_aws_speeds_give_the_published_latency_of_mobilenet(memory_mb: int, published_ms: float) -> None:
    """Serverless MLPerf, MobileNetV1 with OpenVINO."""
    platform = load_platform("aws-lambda")
    speedup = CostModel(platform, "x86_64", closure_bytes=0).speedup(memory_mb)
    assert 1140 / platform.speeds.gflops_per_vcpu / speedup == pytest.approx(published_ms, rel=0.1)


@pytest.mark.parametrize(("profile", "published_ms"), [(None, 1600), ("container-image", 813)])
def test_aws_speeds_give_the_published_cold_start_of_distilbert(profile: str | None, published_ms: float) -> None:
    """A third party's DistilBERT int8 (66 MB, about 500 nodes) on arm64 with 1,769 MB; the closure is 109 MB."""
    model = CostModel(load_platform("aws-lambda", profile=profile), "arm64", closure_bytes=109 * MB)
    load = Load(0.0, 500, 66_000_000, 66_000_000, 0, 0, 0, 0, 0, 0)
    assert model.costs(load, 1769, workflow=False).ready_ms == pytest.approx(published_ms, rel=0.1)


def test_azure_bills_a_second_at_least() -> None:
    model = CostModel(load_platform("azure-flex"), "x86_64", closure_bytes=0)
    short, long = (Load(ms, 1, 0, 0, 0, 0, 0, 0, 0, 0) for ms in (10.0, 1010.0))
    request_usd = model.platform.pricing.request_usd
    assert model.costs(short, 2048, workflow=False).warm_usd == pytest.approx(request_usd + 2 * 0.000026)
    assert model.costs(long, 2048, workflow=False).warm_usd == pytest.approx(request_usd + 1.1 * 2 * 0.000026)


def test_platform_names_are_sorted_and_each_file_says_its_own() -> None:
    assert platform_names() == ["aws-lambda", "azure-flex", "gcp-run", "local"]
    assert [platform.name for platform in platforms()] == platform_names()


def test_figures_stand_in_one_order_whatever_the_file_has() -> None:
    orders = [[place for place in UNITS if place in platform.figures] for platform in platforms()]
    shown = [[place for place in platform.figures if place in UNITS] for platform in platforms()]
    assert orders == shown
    assert isinstance(platforms()[0].figures["limits.memory_min_mb"], Figure)
