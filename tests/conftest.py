"""Settings that every suite shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Nothing may be fetched: models are built by the tests or come with an installed package.
os.environ["HF_HUB_OFFLINE"] = "1"

# Times on a shared machine say nothing about the code, so no example has a deadline. CI repeats the same examples,
# so that a red run is the change's doing; at a desk each run tries new ones.
settings.register_profile("desk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("desk"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(scope="session")
def localstack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the emulated AWS keeps all that it has."""
    return tmp_path_factory.mktemp("localstack")


@pytest.fixture(scope="session")
def localstack(localstack_folder: Path) -> Iterator[str]:
    """The URL of AWS's services, emulated on this machine; skips where what they need is not installed."""
    from tests.emulated_aws.server import localstack

    with localstack(localstack_folder) as url:
        yield url


@pytest.fixture(scope="module")
def aws(localstack: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same, as what boto3 finds by itself, with packages in a cache of their own."""
    from tests.emulated_aws.server import CREDENTIALS

    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"):
            patch.delenv(name, raising=False)
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": localstack}.items():
            patch.setenv(name, value)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield localstack
