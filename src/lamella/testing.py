"""Fixtures for pytest: deployments on the local platform, each ended with the test that made it.

```python
pytest_plugins = ["lamella.testing"]


def test_my_model(lamella_endpoint):
    endpoint = lamella_endpoint("model.onnx", slices=2)
    assert endpoint.infer({"x": x})["y"].shape == (1, 10)
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamella.targets.deploying import Endpoint, deploy

if TYPE_CHECKING:
    from lamella.targets.local.platform import LocalPlatform


@pytest.fixture
def lamella_endpoint() -> Iterator[Callable[..., Endpoint]]:
    """`lamella_endpoint(source, ...)` deploys as `lamella.deploy` does."""
    with ExitStack() as endings:

        def make(source: Any, **options: Any) -> Endpoint:  # noqa: ANN401  # whatever `deploy` takes
            return endings.enter_context(deploy(source, **options))

        yield make


@pytest.fixture
def lamella_platform(tmp_path: Path) -> Iterator[Callable[..., LocalPlatform]]:
    """`lamella_platform(platform="aws-lambda", ...)` starts an empty platform, with the limits of that one."""
    from lamella.platforms import load_platform
    from lamella.targets.local.platform import LocalPlatform

    with ExitStack() as endings:
        count = 0

        def make(platform: str = "aws-lambda", **options: Any) -> LocalPlatform:  # noqa: ANN401  # as above
            nonlocal count
            count += 1
            folder = tmp_path / f"lamella-platform-{count}"
            return endings.enter_context(LocalPlatform(folder, limits=load_platform(platform).limits, **options))

        yield make
