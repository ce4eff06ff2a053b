"""Our description of the Open Inference Protocol against those that other people's clients carry."""

import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from tests.conformance.oip_clients import clients_python, needs_kserve

import lamella.gateway.grpc
from lamella.gateway.grpc import inference_pb2

FOLDER = Path(lamella.gateway.grpc.__file__).parent
TRITON = ("tritonclient.grpc.service_pb2", "tritonclient.grpc.model_config_pb2")
KSERVE = ("kserve.protocol.grpc.grpc_predict_v2_pb2",)
_REPORT = """
import sys; from base64 import b64encode; from importlib import import_module
for name in sys.argv[1:]: print(b64encode(import_module(name).DESCRIPTOR.serialized_pb).decode())
"""

Fact = tuple[object, ...]

CONFIGURATION = ("ModelConfig", "ModelInput", "ModelOutput", "ModelDynamicBatching", "ModelParameter")
"""Messages of which we have only what we fill. Readers leave out what is not there."""

KSERVES_OWN = {
    ".RepositoryModelLoadRequest.model_name": "`repository_name` has its number: the server reads both",
    ".RepositoryModelUnloadRequest.model_name": "as above",
}
"""Where KServe contradicts Triton."""


def facts_of(file: FileDescriptorProto) -> dict[str, Fact]:
    """Every field, value of an enumeration and method by its full name, with all that matters on the wire."""
    found: dict[str, Fact] = {}
    for message in file.message_type:
        found |= _of_message(message, "")
    for enum in file.enum_type:
        found |= {f".{enum.name}.{value.name}": (value.number,) for value in enum.value}
    for service in file.service:
        for method in service.method:
            streams = (method.client_streaming, method.server_streaming)
            found[f"{file.package}.{service.name}/{method.name}"] = (method.input_type, method.output_type, *streams)
    return found


def _of_message(message: DescriptorProto, prefix: str) -> dict[str, Fact]:
    name = f"{prefix}.{message.name}"
    found: dict[str, Fact] = {name: (message.options.map_entry,)}
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        kind = (FieldDescriptorProto.Type.Name(field.type), field.type_name)
        found[f"{name}.{field.name}"] = (field.number, *kind, FieldDescriptorProto.Label.Name(field.label), oneof)
    for nested in message.nested_type:
        found |= _of_message(nested, name)
    return found


def theirs(*modules: str) -> dict[str, Fact]:
    finished = subprocess.run([clients_python(), "-c", _REPORT, *modules], capture_output=True, text=True, check=True)
    files = [FileDescriptorProto.FromString(b64decode(line)) for line in finished.stdout.split()]
    return {name: fact for file in files for name, fact in facts_of(file).items()}


@pytest.fixture(scope="module")
def ours() -> dict[str, Fact]:
    file = FileDescriptorProto()
    inference_pb2.DESCRIPTOR.CopyToProto(file)
    return facts_of(file)


def test_all_of_tritons_service_is_here_and_the_same(ours: dict[str, Fact]) -> None:
    service = theirs(TRITON[0])
    assert len(service) > 250
    assert {name: ours.get(name) for name in service} == service


def test_what_is_here_of_tritons_configuration_is_the_same(ours: dict[str, Fact]) -> None:
    configuration = theirs(TRITON[1])
    common = {name for name in ours if name.split(".")[1] in (*CONFIGURATION, "DataType") or "Config" in name}
    common &= set(configuration)
    assert {name: ours[name] for name in common} == {name: configuration[name] for name in common}
    enums = {name for name in configuration if name.startswith(".DataType.")}
    assert enums <= common


def test_kserves_description_is_the_same_but_for_what_is_declared(ours: dict[str, Fact]) -> None:
    needs_kserve()
    service = theirs(*KSERVE)
    assert len(service) > 80
    differing = {name for name, fact in service.items() if ours.get(name) != fact}
    assert differing == set(KSERVES_OWN)


def test_nothing_is_here_that_nobody_else_has(ours: dict[str, Fact]) -> None:
    needs_kserve()
    assert set(ours) - set(theirs(*TRITON)) - set(theirs(*KSERVE)) == set()


def test_the_descriptors_in_the_repository_are_those_of_the_proto_file(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    arguments = [f"--proto_path={FOLDER}", f"--descriptor_set_out={tmp_path / 'made'}", f"--pyi_out={tmp_path}"]
    assert protoc.main(["protoc", *arguments, "inference.proto"]) == 0
    assert (tmp_path / "made").read_bytes() == (FOLDER / "inference.protoset").read_bytes(), "run `make proto`"
    assert (tmp_path / "inference_pb2.pyi").read_text() == (FOLDER / "inference_pb2.pyi").read_text()


def test_the_messages_share_a_process_with_others_of_the_same_names() -> None:
    """As with a client in the same process: protobuf refuses two files with one message in one pool."""
    program = """
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
other = FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
other.message_type.add(name="ModelInferRequest").field.add(name="other", number=1, label=1, type=9)
Default().AddSerializedFile(other.SerializeToString())
from lamella.gateway.grpc import inference_pb2
assert inference_pb2.ModelInferRequest(model_name="x").SerializeToString() == b"\\n\\x01x"
assert [f.name for f in Default().FindMessageTypeByName("inference.ModelInferRequest").fields] == ["other"]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
