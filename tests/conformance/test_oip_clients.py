"""Other people's clients of the Open Inference Protocol against the model server, over HTTP and gRPC."""

from collections.abc import Iterator

import pytest
from tests import models
from tests.conformance.oip_clients import checks_of, outcomes
from tests.functional.serving import Running, serving

TRITON_GRPC, KSERVE_GRPC, HTTP = "oip_grpc_client.py", "oip_kserve_grpc_client.py", "oip_http_client.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    made = (
        models.identities(folder / "identity.onnx"),
        models.identities(folder / "texts.onnx", text=True),
        models.mlp(folder / "mlp.onnx", layers=2, width=4),
    )
    with serving(*made, "--grpc-port", "0") as running:
        yield running


@pytest.fixture(scope="module")
def over_grpc(server: Running) -> dict[str, str]:
    return outcomes(TRITON_GRPC, str(server.grpc_address))


@pytest.fixture(scope="module")
def kserve_over_grpc(server: Running) -> dict[str, str]:
    return outcomes(KSERVE_GRPC, str(server.grpc_address))


@pytest.fixture(scope="module")
def over_http(server: Running) -> dict[str, str]:
    return outcomes(HTTP, server.url)


@pytest.mark.parametrize("check", checks_of(TRITON_GRPC))
def test_tritons_client_for_grpc_finds_what_it_expects(over_grpc: dict[str, str], check: str) -> None:
    assert over_grpc[check] == ""


@pytest.mark.parametrize("check", checks_of(KSERVE_GRPC))
def test_kserves_client_for_grpc_finds_what_it_expects(kserve_over_grpc: dict[str, str], check: str) -> None:
    assert kserve_over_grpc[check] == ""


@pytest.mark.parametrize("check", checks_of(HTTP))
def test_the_clients_for_http_find_what_they_expect(over_http: dict[str, str], check: str) -> None:
    assert over_http[check] == ""


def test_the_checks_are_found() -> None:
    assert all(len(checks_of(script)) >= least for script, least in ((TRITON_GRPC, 18), (KSERVE_GRPC, 5), (HTTP, 17)))
