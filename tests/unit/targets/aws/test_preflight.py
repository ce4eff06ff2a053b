"""What an account has room for, by the answers that AWS documents."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from lamella.errors import PlanError
from lamella.targets.aws.account import Account
from lamella.targets.aws.preflight import check_network


class Counted:
    """An account with so many networks, zones, and so many networks allowed; None: nobody has asked AWS for more."""

    region = "eu-central-1"

    def __init__(self, *, networks: int, zones: int = 3, allowed: float | None = None) -> None:
        self._networks, self._zones, self._allowed = networks, zones, allowed

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        assert (service, operation) == ("ec2", "describe_availability_zones")
        return {"AvailabilityZones": [{}] * self._zones}

    def try_call(self, service: str, operation: str, *codes: str, **parameters: Any) -> dict[str, Any] | None:
        assert (service, operation, codes) == ("service-quotas", "get_service_quota", ("NoSuchResourceException",))
        return None if self._allowed is None else {"Quota": {"Value": self._allowed}}

    def pages(self, service: str, operation: str, entries: str, **parameters: Any) -> Iterator[Any]:
        assert (service, operation, entries) == ("ec2", "describe_vpcs", "Vpcs")
        return iter([{}] * self._networks)


def check(**counts: Any) -> None:
    check_network(cast(Account, Counted(**counts)))


def test_there_must_be_room_for_a_network() -> None:
    check(networks=4)
    check(networks=5, allowed=6.0)
    with pytest.raises(PlanError, match="eu-central-1 has 5 of the 5 of this account already") as caught:
        check(networks=5)
    assert "VPCs per Region" in (caught.value.hint or "")


def test_there_must_be_two_zones() -> None:
    check(networks=0, zones=2)
    with pytest.raises(
        PlanError, match="has 1 availability zones for this account, and a file system needs 2"
    ) as caught:
        check(networks=0, zones=1)
    assert "another region" in (caught.value.hint or "")
