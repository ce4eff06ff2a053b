"""Malformed and hostile files. Each case writes what it needs into an empty folder and returns a verb's arguments."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.wire import (
    FLOAT,
    INT32,
    INT64,
    STRING,
    adding,
    constant,
    entry,
    external,
    graph,
    message,
    model,
    node,
    number,
    raw,
    tag,
    tensor,
    value,
    varint,
)

Build = Callable[[Path], list[str]]
CASES: dict[str, Build] = {}

FOUR = bytes(16)  # a payload for FP32[4]
GOOD = adding(tensor(payload=raw(FOUR)))


def register(name: str, build: Build) -> None:
    """Add a case."""
    assert name not in CASES
    CASES[name] = build


def _file(case: str, data: bytes, *, file: str = "model.onnx", verb: str = "inspect") -> None:
    """A case that is the bytes of one file."""

    def build(folder: Path) -> list[str]:
        (folder / file).write_bytes(data)
        rest = ["-o", str(folder / "slices"), "--slices", "2"] if verb == "slice" else []
        return [verb, str(folder / file), *rest]

    register(case, build)


def built(function: Build) -> Build:
    """Add a case that takes more than one file; named as its function."""
    register(function.__name__, function)
    return function


def _inspect(folder: Path, data: bytes = GOOD) -> list[str]:
    (folder / "model.onnx").write_bytes(data)
    return ["inspect", str(folder / "model.onnx")]


# Not ONNX

_file("empty", b"")
_file("text", b"hello world, this is no model\n" * 5)
_file("json", b'{"graph": {}}')
_file("web_page", b"<!DOCTYPE html><html>404</html>")
_file("lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
_file("pickle", b"\x80\x04\x95\x10\x00\x00\x00cposix\nsystem\n")
_file("gzip", b"\x1f\x8b\x08\x00" + bytes(20))
_file("ort_format", b"\x18\x00\x00\x00ORTM" + bytes(40))
_file("tflite", b"\x1c\x00\x00\x00TFL3" + bytes(40))
_file("safetensors", (60).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(8))
_file("gguf", b"GGUF\x03\x00\x00\x00" + bytes(32))
_file("onnx_text", b'ir_version: 8\ngraph { name: "g" }\n')
_file("zeros", bytes(4096))
_file("high_bytes", b"\xff" * 4096)


@built
def torch_zip(folder: Path) -> list[str]:
    with zipfile.ZipFile(folder / "model.onnx", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    return ["inspect", str(folder / "model.onnx")]


@built
def directory(folder: Path) -> list[str]:
    (folder / "model.onnx").mkdir()
    return ["inspect", str(folder / "model.onnx")]


@built
def missing(folder: Path) -> list[str]:
    return ["inspect", str(folder / "model.onnx")]


@built
def fifo(folder: Path) -> list[str]:
    os.mkfifo(folder / "model.onnx")
    return ["inspect", str(folder / "model.onnx")]


@built
def device(folder: Path) -> list[str]:
    (folder / "model.onnx").symlink_to("/dev/zero")
    return ["inspect", str(folder / "model.onnx")]


@built
def link_to_itself(folder: Path) -> list[str]:
    (folder / "model.onnx").symlink_to("model.onnx")
    return ["inspect", str(folder / "model.onnx")]


@built
def name_too_long(folder: Path) -> list[str]:
    return ["inspect", str(folder / ("m" * 300))]


@built
def nul_in_the_path(folder: Path) -> list[str]:
    return ["inspect", f"{folder}/model\0.onnx"]


# Broken protobufs

for _cut in (1, 3, 20, 60, len(GOOD) - 1):
    _file(f"truncated_at_{_cut}", GOOD[:_cut])
_file("varint_too_long", number(1, 8) + tag(8, 0) + b"\xff" * 11 + b"\x01")
_file("field_number_0", number(1, 8) + b"\x02\x00")
_file("group", number(1, 8) + tag(7, 3) + tag(7, 4))
_file("wire_type_7", number(1, 8) + b"\x3f")
_file("tag_of_33_bits", number(1, 8) + varint((7 << 3 | 2) + (1 << 32)) + b"\x00")
_file("length_past_the_end", number(1, 8) + tag(7, 2) + varint(1000) + b"short")
_file("length_2_to_63", number(1, 8) + tag(7, 2) + varint(1 << 63) + bytes(100))
_file("two_gigabytes_claimed", adding(tensor(dims=(1 << 29,), payload=tag(9, 2) + varint(1 << 31) + bytes(100))))
_file("no_graph", number(1, 8) + message(8, number(2, 17)))
_file("two_graphs", GOOD + message(7, graph(message(1, node("Relu", ("x",), ("y",))))))
_file("name_not_utf8", adding(tensor(b"w\xff\xfe", payload=raw(FOUR))))
_file("node_name_not_utf8", model(graph(message(1, node("Relu", ("x",), ("y",)) + message(3, b"\xc3\x28")))))
_file("opset_domain_not_utf8", GOOD + message(8, message(1, b"\x80"), number(2, 1)))


def _nested(levels: int, body: bytes = b"") -> bytes:
    """An If in the body of an If in the body of an If."""
    for _ in range(levels):
        body = message(1, node("If", ("x",), ("y",), message(1, "then_branch") + message(6, body)))
    return model(graph(body))


_file("subgraphs_10000_deep", _nested(10_000))
_file("subgraphs_40_deep_in_a_few_bytes", _nested(40))
_file("subgraphs_around_a_weight", _nested(60, message(5, tensor(payload=external({"location": "w"})))))
_file("graph_twice_in_an_attribute", constant(message(6, graph()), message(6, graph())))
_file("tensor_twice_in_an_attribute", constant(message(5, tensor(payload=raw(FOUR))), message(5, tensor("", ()))))
_file(
    "tensor_in_two_halves",
    constant(
        message(5, number(1, 4) + number(2, FLOAT) + number(14, 1)), message(5, entry(13, "location", "/etc/passwd"))
    ),
)
_file("type_twice", model(graph(message(1, node("Relu", ("x",), ("y",))), message(13, value("v"), value("v")[3:]))))

# Shapes and payloads

_file("negative_dimension", adding(tensor(dims=(-4,), payload=raw(FOUR))))
_file("dimensions_overflow", adding(tensor(dims=(1 << 40, 1 << 40, 1 << 40), payload=raw(FOUR))))
_file("a_trillion_elements_without_data", adding(tensor(dims=(1 << 40,))))
_file("5000_dimensions", adding(tensor(dims=(1,) * 5000, payload=raw(bytes(4)))))
_file("10000000_packed_dimensions", adding(message(1, b"\x01" * 10_000_000) + tensor(dims=(), payload=raw(bytes(4)))))
_file("raw_data_too_small", adding(tensor(payload=raw(bytes(12)))))
_file("raw_data_too_large", adding(tensor(payload=raw(bytes(5000)))))
_file("raw_data_too_large_in_a_constant", constant(message(5, tensor("", payload=raw(bytes(5000))))))
_file("raw_data_too_small_in_a_constant", constant(message(5, tensor("", payload=raw(bytes(3))))))
_file("raw_data_too_small_in_a_subgraph", _nested(2, message(5, tensor(payload=raw(bytes(3))))))
_file("raw_data_too_large_in_a_subgraph", _nested(2, message(5, tensor(payload=raw(bytes(5000))))))


def _with_function(*body: bytes, name: str = "f") -> bytes:
    function = message(
        25, message(1, name), message(10, "local"), message(5, "y"), *(message(7, part) for part in body)
    )
    return model(graph(message(1, node(name, (), ("y",)) + message(7, "local"))), function)


_file(
    "raw_data_too_small_in_a_function",
    _with_function(node("Constant", (), ("y",), message(1, "value") + message(5, tensor("", payload=raw(bytes(3)))))),
)
_file("float_data_too_small", adding(tensor(payload=message(4, bytes(12)))))
_file("float_data_too_large", adding(tensor(payload=message(4, bytes(8000)))))
_file("float_data_unpacked_too_small", adding(tensor(payload=(tag(4, 5) + bytes(4)) * 3)))
_file("int32_data_count", adding(tensor(datatype=INT32, payload=message(5, varint(7) * 3))))
_file("int32_data_count_large", adding(tensor(dims=(5000,), datatype=INT32, payload=message(5, varint(7) * 4000))))
_file("float_in_int64_data", adding(tensor(payload=message(7, varint(7) * 4))))
_file("unknown_datatype", adding(tensor(datatype=99, payload=raw(FOUR))))
_file("datatype_0", adding(tensor(datatype=0, payload=raw(FOUR))))
_file("datatype_of_33_bits", adding(tensor(datatype=(1 << 32) + 1, payload=raw(FOUR))))
_file("unknown_datatype_of_an_input", model(graph(message(11, value("z", datatype=99)))))
_file("strings_as_raw_data", adding(tensor(datatype=STRING, payload=raw(FOUR))))
_file("strings_missing", adding(tensor(datatype=STRING, payload=message(6, "one"))))
_file("segment", adding(tensor(payload=message(3, number(1, 0), number(2, 2)) + raw(FOUR))))
_file("payload_twice", adding(tensor(payload=raw(FOUR) + raw(FOUR))))
_file("two_kinds_of_payload", adding(tensor(payload=raw(FOUR) + message(4, FOUR))))
_file("raw_data_as_a_number", adding(tensor(payload=number(9, 4))))
_file(
    "sparse_indices",
    model(
        graph(
            message(
                15,
                message(1, tensor(payload=raw(FOUR))),
                message(2, tensor("", (3,), INT64, raw(bytes(24)))),
                number(3, 9),
            ),
            message(1, node("Add", ("x", "w"), ("y",))),
        )
    ),
)
_file("sparse_without_indices", model(graph(message(15, message(1, tensor(payload=raw(FOUR))), number(3, 9)))))
_file("input_of_1000_dimensions", model(graph(message(11, value("z", (1,) * 1000)))))

# External data


def _external(case: str, entries: dict[str, str | bytes], *, location: bytes = number(14, 1)) -> None:
    def build(folder: Path) -> list[str]:
        (folder / "w.bin").write_bytes(FOUR)
        return _inspect(folder, adding(tensor(payload=external(entries, location=location))))

    register(f"external_{case}", build)


_external("absolute", {"location": "/etc/passwd"})
_external("windows_drive", {"location": "C:\\windows\\system.ini"})
_external("windows_drive_relative", {"location": "C:w.bin"})
_external("network_share", {"location": "\\\\server\\share\\w.bin"})
_external("backslash", {"location": "..\\w.bin"})
_external("parent", {"location": "../w.bin"})
_external("parent_inside", {"location": "a/../../w.bin"})
_external("parent_that_stays", {"location": "a/../w.bin"})
_external("location_empty", {"location": ""})
_external("location_missing", {"offset": "0"})
_external("location_with_nul", {"location": "w\0.bin"})
_external("location_with_newline", {"location": "w\nerror: forged.bin"})
_external("location_of_a_megabyte", {"location": "a/" * 500_000})
_external("location_not_utf8", {"location": b"w\xff.bin"})
_external("memory_address", {"location": "*/_ORT_MEM_ADDR_/*", "offset": "94000000000000", "length": "16"})
_external("offset_negative", {"location": "w.bin", "offset": "-16"})
_external("offset_no_number", {"location": "w.bin", "offset": "0x10"})
_external("offset_empty", {"location": "w.bin", "offset": ""})
_external("offset_in_arabic_digits", {"location": "w.bin", "offset": "\N{ARABIC-INDIC DIGIT ZERO}"})
_external("offset_2_to_64", {"location": "w.bin", "offset": str(1 << 64)})
_external("offset_of_5000_digits", {"location": "w.bin", "offset": "9" * 5000})
_external("offset_past_the_end", {"location": "w.bin", "offset": "16"})
_external("length_mismatch", {"location": "w.bin", "length": "12"})
_external("file_missing", {"location": "v.bin"})
_external("data_location_2", {"location": "w.bin"}, location=number(14, 2))
_external("data_location_of_33_bits", {"location": "/etc/passwd"}, location=number(14, (1 << 32) + 1))
_external("data_location_changed", {"location": "/etc/passwd"}, location=number(14, 0) + number(14, 1))
_external("data_location_kept", {"location": "/etc/passwd"}, location=number(14, 1) + number(14, 3))
_external("data_location_long_tag", {"location": "/etc/passwd"}, location=b"\xf0\x00" + varint(1))
_external("100000_entries", {f"k{index}": "v" for index in range(100_000)} | {"location": "w.bin"})
_file("external_and_inside", adding(tensor(payload=external({"location": "w.bin"}) + raw(FOUR))))
_file("external_strings", adding(tensor(datatype=STRING, payload=external({"location": "w.bin"}))))
_file(
    "external_in_a_function_default",
    model(
        graph(message(1, node("Relu", ("x",), ("y",)))),
        message(
            25, message(1, "f"), message(11, message(1, "a"), message(5, tensor(payload=external({"location": "/w"}))))
        ),
    ),
)
_file(
    "external_in_sparse_values",
    model(
        graph(
            message(15, message(1, tensor(payload=external({"location": "/w"}))), message(2, tensor("", (4,), INT64)))
        )
    ),
)
_file("external_in_training", GOOD + message(20, message(1, message(5, tensor(payload=external({"location": "/w"}))))))


@built
def external_file_too_small(folder: Path) -> list[str]:
    (folder / "w.bin").write_bytes(bytes(15))
    return _inspect(folder, adding(tensor(payload=external({"location": "w.bin"}))))


@built
def external_link_to_a_file_outside(folder: Path) -> list[str]:
    (folder / "model").mkdir()
    (folder / "secret").write_bytes(FOUR)
    (folder / "model" / "w.bin").symlink_to("../secret")
    return _inspect(folder / "model", adding(tensor(payload=external({"location": "w.bin"}))))


@built
def external_link_to_a_folder_outside(folder: Path) -> list[str]:
    (folder / "model").mkdir()
    (folder / "store").mkdir()
    (folder / "store" / "w.bin").write_bytes(FOUR)
    (folder / "model" / "inner").symlink_to("../store")
    return _inspect(folder / "model", adding(tensor(payload=external({"location": "inner/w.bin"}))))


@built
def external_directory(folder: Path) -> list[str]:
    (folder / "w.bin").mkdir()
    return _inspect(folder, adding(tensor(payload=external({"location": "w.bin"}))))


@built
def external_fifo(folder: Path) -> list[str]:
    os.mkfifo(folder / "w.bin")
    return _inspect(folder, adding(tensor(payload=external({"location": "w.bin"}))))


@built
def external_device(folder: Path) -> list[str]:
    (folder / "w.bin").symlink_to("/dev/zero")
    return _inspect(folder, adding(tensor(payload=external({"location": "w.bin"}))))


# Graphs that contradict themselves

_W = message(5, tensor(payload=raw(FOUR)))
_ADD = message(1, node("Add", ("x", "w"), ("y",)))

_file("initializer_twice", model(graph(_ADD, _W, _W)))
_file("initializer_without_a_name", model(graph(_ADD, _W, message(5, tensor("", payload=raw(FOUR))))))
_file("output_twice", model(graph(_ADD, _W, message(12, value("y")))))
_file("input_twice", model(graph(_ADD, _W, message(11, value("x")))))
_file("input_without_a_name", model(graph(_ADD, _W, message(11, value("")))))
_file("output_without_a_name", model(graph(_ADD, _W, message(12, value("")))))
_file("value_made_twice", model(graph(_ADD, _W, message(1, node("Relu", ("x",), ("y",))))))
_file("value_made_by_a_node_and_an_initializer", model(graph(_ADD, _W, message(1, node("Relu", ("x",), ("w",))))))
_file("value_made_by_nothing", model(graph(_ADD)))
_file("output_made_by_nothing", model(graph(output="z")))
_file("captured_value_made_by_nothing", _nested(1, message(1, node("Relu", ("nowhere",), ("z",)))))
_file("node_without_an_operator", model(graph(message(1, message(1, "x"), message(2, "y")))))
_file("function_that_calls_itself", _with_function(node("f", (), ("y",)) + message(7, "local")))
_file("function_without_a_name", GOOD + message(25, message(10, "local")))
_file("function_twice", _with_function() + message(25, message(1, "f"), message(10, "local")))
_file("ir_version_missing", GOOD[2:])
_file("ir_version_0", model(graph(_ADD, _W), ir_version=0))
_file("ir_version_huge", model(graph(_ADD, _W), ir_version=1 << 40))
_file("ir_version_negative", model(graph(_ADD, _W), ir_version=-1))
_file("no_opsets", number(1, 8) + message(7, graph(_ADD, _W)))
_file("opset_0", model(graph(_ADD, _W), opset=0))
_file("opset_huge", model(graph(_ADD, _W), opset=1 << 62))
_file(
    "cycle",
    model(
        graph(
            message(1, node("Add", ("x", "b"), ("a",))),
            message(1, node("Relu", ("a",), ("b",))),
            message(1, node("Relu", ("b",), ("y",))),
        )
    ),
    verb="slice",
)
_file("a_node_of_its_own_output", model(graph(message(1, node("Relu", ("y",), ("y",))))), verb="slice")
_file(
    "escape_sequences_in_a_name", model(graph(message(1, node("Relu", ("\x1b[2J\x07\nerror: forged\u202e",), ("y",)))))
)
_file("a_name_of_a_megabyte", model(graph(message(1, node("Relu", ("n" * 1_000_000,), ("y",))))))


def _doubling_functions(levels: int) -> bytes:
    """Functions of which each calls the next one twice."""
    made = []
    for level in range(levels):
        inner = f"f{level + 1}" if level + 1 < levels else "Relu"
        domain = message(7, "local") if level + 1 < levels else b""
        calls = [message(7, node(inner, ("x",), ("h",)) + domain), message(7, node(inner, ("h",), ("y",)) + domain)]
        made.append(
            message(25, message(1, f"f{level}"), message(10, "local"), message(4, "x"), message(5, "y"), *calls)
        )
    return model(graph(message(1, node("f0", ("x",), ("y",)) + message(7, "local"))), *made)


_file("functions_that_grow_without_bound", _doubling_functions(60))
