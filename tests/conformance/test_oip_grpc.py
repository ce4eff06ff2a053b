"""Other people's clients of the Open Inference Protocol against the gRPC server, over real models."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import models
from tests.conformance import oip_clients
from tests.conformance.oip_clients import checks_of
from tests.data_plane import SmallPlane
from tests.grpc_servers import ServerInThread

TRITON, KSERVE = "oip_grpc_client.py", "oip_kserve_grpc_client.py"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    models.identities(folder / "identity.onnx")
    models.identities(folder / "texts.onnx", text=True)
    models.mlp(folder / "mlp.onnx", layers=2, width=4)
    with ServerInThread(SmallPlane(folder)) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def triton(address: str) -> dict[str, str]:
    return oip_clients.outcomes(TRITON, address)


@pytest.fixture(scope="module")
def kserve(address: str) -> dict[str, str]:
    return oip_clients.outcomes(KSERVE, address)


@pytest.mark.parametrize("check", checks_of(TRITON))
def test_tritons_client_finds_what_it_expects(triton: dict[str, str], check: str) -> None:
    assert triton[check] == ""


@pytest.mark.parametrize("check", checks_of(KSERVE))
def test_kserves_client_finds_what_it_expects(kserve: dict[str, str], check: str) -> None:
    assert kserve[check] == ""


def test_the_checks_are_found() -> None:
    assert len(checks_of(TRITON)) > 15
    assert Path(oip_clients.HERE / KSERVE).exists()
