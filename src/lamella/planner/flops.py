"""Floating-point operations of one node, from the shapes of what it takes and gives. Pure.

A multiplication and an addition count as two. Where no source is named, the formula is the operator's own definition
(https://onnx.ai/onnx/operators/, https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). A shape
that is not known makes the node count as nothing rather than as something made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]
Attributes = Mapping[str, int | str | tuple[int, ...]]

_NONLINEAR, _SOFTMAX, _NORMALISATION = 20, 5, 8
"""Operations for each element: a polynomial of degree 10 stands for exp, erf and tanh; softmax takes a maximum, a
difference, exp, a sum and a quotient; a normalisation two moments, a difference, a square, a root, scale and shift."""


@dataclass(frozen=True, slots=True)
class Call:
    """One use of an operator.

    Attributes:
        op: The operator's type; domains are not told apart, since none reuses another's name for other work.
        inputs: Shapes of the inputs in order, None for one that is left out or not known.
        outputs: Likewise for the outputs.
        attributes: The integers, lists of integers and texts among the node's attributes.
    """

    op: str
    inputs: Sequence[Shape | None]
    outputs: Sequence[Shape | None]
    attributes: Attributes

    def taken(self, index: int) -> Shape:
        """Shape of an input; LookupError where there is none."""
        return _known(self.inputs, index)

    def made(self) -> int:
        """Elements of the first output; LookupError where its shape is not known."""
        return prod(_known(self.outputs, 0))


def flops_of(call: Call) -> int:
    """Floating-point operations of one run; 0 where a shape that it takes is not known."""
    try:
        return _formula(call.op)(call)
    except (LookupError, TypeError, ZeroDivisionError):  # left out, of unknown shape, or empty
        return 0


def _formula(op: str) -> Callable[[Call], int]:
    if op in _FORMULAS:
        return _FORMULAS[op]
    if op.startswith(("Reduce", "Global")) or op in ("ArgMax", "ArgMin", "CumSum", "TopK"):
        return lambda call: prod(call.taken(0))
    if op.endswith("Normalization"):
        return lambda call: _NORMALISATION * prod(call.taken(0))
    each = 0 if op in MOVES else _NONLINEAR if op in _NONLINEAR_OPS else 1
    return lambda call: each * call.made()


def _known(shapes: Sequence[Shape | None], index: int) -> Shape:
    shape = shapes[index]
    if shape is None:
        raise LookupError(index)
    return shape


def _convolution(call: Call) -> int:
    """Each element of the output is a sum over a filter, which is `[M, C / group, *kernel]`."""
    return 2 * call.made() * prod(call.taken(3 if call.op == "QLinearConv" else 1)[1:])


def _transposed_convolution(call: Call) -> int:
    """Each element of the input goes through a filter, which is `[C, M / group, *kernel]`."""
    return 2 * prod(call.taken(0)) * prod(call.taken(1)[1:])


def _matrix_product(call: Call) -> int:
    """Each element of the output is a sum over the rows of the first input."""
    first = call.taken(0)
    return 2 * call.made() * first[-2 if call.attributes.get("transA") and len(first) > 1 else -1]


def _recurrent(call: Call) -> int:
    """Each step of each sequence multiplies by W and by R once, in each direction; both hold all directions."""
    return 2 * prod(call.taken(0)[:-1]) * (prod(call.taken(1)) + prod(call.taken(2)))


def _projected_attention(call: Call) -> int:
    """`Attention` of ONNX Runtime: `[batch, sequence, width]` by one matrix to queries, keys and values, then as below.

    The standard operator of the same name takes queries, keys and values.
    """
    source, second = call.taken(0), call.taken(1)
    if len(second) != 2:
        return _attention(call)
    rows = prod(source[:-1])
    return 2 * rows * prod(second) + 4 * rows * source[-2] * second[-1] // 3


def _attention(call: Call) -> int:
    """Every query meets every key, and every weight a value: two products over the length of the keys.

    Keys are `[batch, length, width]` or `[batch, heads, length, width]`; packed in one tensor with the queries and
    values where they are not given. Keys kept from before (`GroupQueryAttention`) are `[batch, heads, length, width]`.
    """
    queries = call.taken(0)
    if len(call.inputs) < 2 or call.inputs[1] is None:
        return 4 * queries[1] * prod(queries) // 3
    past = call.inputs[3] if call.op == "GroupQueryAttention" and len(call.inputs) > 3 else None
    return 4 * (call.taken(1)[-2] + (past[-2] if past else 0)) * prod(queries)


def _einsum(call: Call) -> int:
    """One product for each combination of all indices and each operand; ONNX Runtime multiplies two at a time."""
    terms = str(call.attributes["equation"]).replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        shape = call.taken(index)
        before, dots, after = term.partition("...")
        hidden = [f"...{i}" for i in range(len(shape) - len(before) - len(after), 0, -1)] if dots else []
        for name, size in zip((*before, *hidden, *after), shape, strict=False):
            sizes[name] = max(size, sizes.get(name, 1))
    return len(terms) * prod(sizes.values())


def _pool(call: Call) -> int:
    """Each element of the output looks at one window."""
    kernel = call.attributes["kernel_shape"]
    return call.made() * (prod(kernel) if isinstance(kernel, tuple) else 1)


def _softmax(call: Call) -> int:
    return _SOFTMAX * call.made()


_FORMULAS: dict[str, Callable[[Call], int]] = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcConv", "ConvInteger", "DeformConv", "QLinearConv"), _convolution),
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys(("Gemm", "QGemm", "FusedGemm"), _matrix_product),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "MatMulNBits"), _matrix_product),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulBnb4", "GemmFloat8"), _matrix_product),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    **dict.fromkeys(("Attention", "QAttention"), _projected_attention),
    **dict.fromkeys(("MultiHeadAttention", "GroupQueryAttention", "DecoderMaskedMultiHeadAttention"), _attention),
    "Einsum": _einsum,
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool", "QLinearAveragePool"), _pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "QLinearSoftmax", "Hardmax"), _softmax),
}

_NONLINEAR_OPS = {
    *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Log", "Mish"),
    *("Pow", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Tan", "Tanh"),
    *("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "QLinearSigmoid"),
}

VIEWS = {
    *("Constant", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"),
    *("Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceConstruct", "SequenceLength"),
}
"""Operators that look at their input and move nothing: engines let the output be the same memory."""

PICKS = {"Gather", "GatherElements", "GatherND", "Slice", "GatherBlockQuantized", "EmbedLayerNormalization"}
"""Operators that read of their first input no more than they give."""

MOVES = (
    VIEWS
    | PICKS
    | {
        *(
            "CenterCropPad",
            "Compress",
            "Concat",
            "ConstantOfShape",
            "DepthToSpace",
            "Expand",
            "EyeLike",
            "Pad",
            "Range",
        ),
        *(
            "ReverseSequence",
            "ScatterElements",
            "ScatterND",
            "SpaceToDepth",
            "Split",
            "Tile",
            "Transpose",
            "Trilu",
            "Where",
        ),
        *("Cast", "CastLike", "NonZero", "OneHot", "Trilu", "Unique", "Where"),
    }
)
"""Operators that compute nothing."""
