"""What deploying would change, from values alone."""

from dataclasses import replace

import pytest

from lamella.targets.base import Change, DeployedFunction, DeployedModel, Deployment, Version
from lamella.targets.changes import changes, difference, with_known_versions
from lamella.workflow.steps import Workflow

FIRST = DeployedFunction("a", "m", 0, "1", 512, 60.0, 512, "digest", 1, "/a")
SECOND = replace(FIRST, name="b", slice=1, version="4")
MODEL = DeployedModel("m", "m.onnx", Workflow((), (), (), {}, ()))


def version(number: int, *functions: DeployedFunction, **options: object) -> Version:
    made = Version(number, "", (MODEL,), "package", None, {}, None, "file:///s", functions)
    return replace(made, **options)


def deployed(*versions: Version) -> Deployment:
    return Deployment("m", "dev", "local", "aws-lambda", versions, versions[-1].number)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("memory_mb", 1024, "memory 512 MB to 1024 MB"),
        ("timeout_s", 2.5, "timeout 60 s to 2.5 s"),
        ("temporary_mb", 600, "temporary 512 MB to 600 MB"),
        ("sha256", "other", "another package"),
        ("version", "9", ""),
        ("folder", "/elsewhere", ""),
    ],
)
def test_a_difference_is_what_the_platform_would_notice(field: str, value: object, reason: str) -> None:
    assert difference(FIRST, replace(FIRST, **{field: value})) == reason


def test_functions_come_go_and_stay() -> None:
    third = replace(FIRST, name="c", slice=2)
    assert changes(None, [FIRST]) == [Change("create", "a", "512 MB")]
    live = deployed(version(1, FIRST, SECOND))
    assert changes(live, [FIRST, third]) == [
        Change("keep", "a"),
        Change("create", "c", "512 MB"),
        Change("delete", "b"),
    ]


def test_what_is_there_keeps_its_version_on_the_platform() -> None:
    old = deployed(version(1, FIRST, SECOND), version(2, replace(FIRST, version="2", memory_mb=1024)))
    new = version(3, *(replace(function, version="") for function in (FIRST, SECOND)))
    assert [function.version for function in with_known_versions(old, new)] == ["1", "4"]
    larger = version(3, replace(FIRST, version="", memory_mb=2048))
    assert [function.version for function in with_known_versions(old, larger)] == [""]


@pytest.mark.parametrize("options", [{"environment": {"A": "1"}}, {"mount": "/m"}, {"store": "file:///t"}])
def test_another_surrounding_is_another_function(options: dict[str, object]) -> None:
    old, new = deployed(version(1, FIRST)), version(2, replace(FIRST, version=""), **options)
    assert [function.version for function in with_known_versions(old, new)] == [""]
    assert [function.version for function in with_known_versions(None, new)] == [""]
