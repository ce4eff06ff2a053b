"""What one process can hold."""

import resource

import pytest

from lamella.targets.local.host import instances_for


@pytest.mark.parametrize(
    ("most_files", "concurrency", "instances"),
    [(1 << 20, 1000, 2000), (1024, 1000, 160), (1024, 10, 20), (16, 10, 1), (resource.RLIM_INFINITY, 1000, 2000)],
)
def test_there_are_twice_as_many_instances_as_requests_as_far_as_files_may_be_open(
    monkeypatch: pytest.MonkeyPatch, most_files: int, concurrency: int, instances: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most_files, most_files))
    assert instances_for(concurrency) == instances
