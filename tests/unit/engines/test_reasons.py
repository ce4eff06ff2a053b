"""What a user reads of an engine's message."""

from time import perf_counter

import pytest

from lamella.engines.reasons import plain_reason

RESHAPE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Status Message: "
    "/onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:91 onnxruntime::ReshapeHelper::"
    "ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) sizes (3) differ\n"
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Failed to load model (parsing).",
            "Failed to load model (parsing).",
        ),
        (RESHAPE, "Non-zero status code returned while running Reshape node. Status Message: sizes (3) differ"),
        ("matmul_helper.h:59 Compute MatMul dimension mismatch", "MatMul dimension mismatch"),
        ("/a/b.cc:3 ns::f(int)::<lambda(const Y&)> const [with T = std::vector<int>] it failed", "it failed"),
        ("C:\\src\\b.cc:3 ns::f::operator()(a) const failed", "failed"),
        ("/a/b.cc:3 no signature", "no signature"),
        ("Required inputs (['mask']) are\nmissing", "Required inputs (['mask']) are missing"),
        ("", ""),
    ],
)
def test_category_and_source_code_are_left_out(message: str, reason: str) -> None:
    assert plain_reason(message) == reason


@pytest.mark.parametrize("piece", ["(", "((()", "a/b.cc:1 ", "/", "f(a)", "[with "])
def test_a_message_full_of_a_models_own_names_takes_no_time(piece: str) -> None:
    started = perf_counter()
    plain_reason("/a/b.cc:3 " + piece * 100_000)
    assert perf_counter() - started < 2
