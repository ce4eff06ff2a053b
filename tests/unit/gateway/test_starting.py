"""Waiting for a service that ends."""

from pathlib import Path

import pytest

from lamella.errors import RemoteError
from lamella.gateway import starting
from lamella.gateway.address import ServiceFolder


def test_nobody_waits_for_a_service_that_has_a_reason_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ServiceFolder(tmp_path)
    starting.wait_for_end(tmp_path)  # there is none
    folder.make()
    assert folder.claim()  # this process is the service now, and does not end
    reasons = iter([False, False, True])
    starting.wait_for_end(tmp_path, unless=lambda: next(reasons))
    assert next(reasons, None) is None
    monkeypatch.setattr(starting, "_STOP_S", 0.0)
    with pytest.raises(RemoteError, match="does not end"):
        starting.wait_for_end(tmp_path)
