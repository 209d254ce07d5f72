"""Types of matrix products, convolutions, poolings, reductions and normalizations: traps first."""

import pytest

from planish.ir import GraphError
from tests.ir.ops.conftest import type_of

HALF, THIRD = "floor((1 + H)/(2))", "floor((2 + W)/(3))"


def weights(**shapes: tuple[int, ...]) -> str:
    """Constants of zeros."""
    sizes = dict.fromkeys(shapes, 1)
    for name, shape in shapes.items():
        for extent in shape:
            sizes[name] *= extent
    return ", ".join(
        f"float[{', '.join(map(str, shape))}] {name} = {{{', '.join(['0'] * sizes[name])}}}"
        for name, shape in shapes.items()
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = MatMul(a, b)", "float[N, S, 5]"),
        ("y = MatMul(a, v)", "float[N, S]"),
        ("y = MatMul(v, b)", "float[5]"),
        ("y = MatMul(v, v)", "float[]"),
        ("y = MatMul(v, t)", "float[N, S]"),
        ("y = MatMul(a, t)", "float[N, S, S]"),
        ("y = MatMul(h, t)", "float[N, 7, S]"),
        ("y = MatMul(m, t)", "float[?, 2, S]"),  # M and N may differ only where one is 1
        ("y = Gemm(s, b)", "float[S, 5]"),
        ("y = Gemm <transA = 1, transB = 1> (s, c, d)", "float[4, S]"),
        ("y = Gemm(s, b, e)", "float[S, 5]"),
        ("y = MatMulInteger(i, j)", "int32[N, 6]"),
        ("y = QLinearMatMul(i, f, z, j, f, z, f, w)", "int8[N, 6]"),
    ],
)
def test_products(body: str, expected: str) -> None:
    inputs = (
        "float[N, S, 4] a, float[4, 5] b, float[4] v, float[N, 4, S] t, float[7, 4] h, float[M, 2, 4] m, float[S, 4] s,"
        "float[S, S] c, float[S] d, float[5] e, uint8[N, 3] i, uint8[3, 6] j, float f, uint8 z, int8 w"
    )
    assert type_of(inputs, body) == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul(a, b)",
        "y = MatMul(a, s)",
        "y = MatMul(c, d)",
        "y = Gemm(a, b)",
        "y = Gemm(c, a)",
        "y = Gemm(a, a2, e)",
        "y = Gemm(a, a2, f)",
    ],
)
def test_products_that_cannot_be(body: str) -> None:
    inputs = "float[3, 4] a, float[5, 6] b, float s, float[2, 3, 4] c, float[3, 4, 5] d, float[4, 5] a2"
    with pytest.raises(GraphError):
        type_of(f"{inputs}, float[3] e, float[2, 3, 5] f", body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Conv(x, w)", "float[N, 8, -2 + H, -2 + W]"),
        ("y = Conv <pads = [1, 1, 1, 1]> (x, w)", "float[N, 8, H, W]"),
        (
            "y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)",
            "float[N, 8, floor((1 + H)/(2)), floor((1 + W)/(2))]",
        ),
        ("y = Conv <pads = [3, 0, 3, 4], dilations = [3, 2]> (x, w)", "float[N, 8, H, W]"),
        (
            'y = Conv <auto_pad = "SAME_UPPER", strides = [2, 3]> (x, w)',
            "float[N, 8, floor((1 + H)/(2)), floor((2 + W)/(3))]",
        ),
        ('y = Conv <auto_pad = "VALID"> (x, w)', "float[N, 8, -2 + H, -2 + W]"),
        ("y = Conv <group = 4> (x, g)", "float[N, 12, -2 + H, -2 + W]"),
        ("y = Conv(x, free)", "float[N, O, 1 + -1*A + H, 1 + -1*B + W]"),
        ("y = Conv <kernel_shape = [3, 3]> (x, q)", "float[N, ?, -2 + H, -2 + W]"),
        ("y = Conv(r, w)", "float[?, 8, ?, ?]"),
        ("y = ConvTranspose(x, t)", "float[N, 8, 2 + H, 2 + W]"),
        (
            "y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (x, t)",
            "float[N, 8, 2*H, 2*W]",
        ),
        ('y = ConvTranspose <strides = [2, 2], auto_pad = "SAME_LOWER"> (x, t)', "float[N, 8, 2*H, 2*W]"),
        ('y = ConvTranspose <strides = [4, 2], auto_pad = "SAME_LOWER"> (x, t)', "float[N, 8, -1 + 4*H, 2*W]"),
        ("y = ConvTranspose <strides = [2, 2], output_padding = [1, 0]> (x, t)", "float[N, 8, 2 + 2*H, 1 + 2*W]"),
        ("y = ConvTranspose <output_shape = [9, 10]> (x, t)", "float[N, 8, 9, 10]"),
        ("y = ConvTranspose <group = 2> (x, t)", "float[N, 16, 2 + H, 2 + W]"),
        ("y = Conv(z, w)", "float[1, 8, ?, 3]"),  # ONNX Runtime refuses an axis smaller than the kernel
    ],
)
def test_convolutions(body: str, expected: str) -> None:
    inputs = "float[N, 4, H, W] x, float[O, 4, A, B] free, float[] q, float[] r, float[1, 4, 2, 5] z"
    constants = weights(w=(8, 4, 3, 3), g=(12, 1, 3, 3), t=(4, 8, 3, 3))
    assert type_of(inputs, body, constants) == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = Conv(x, g)",
        "y = Conv <group = 2> (x, w)",
        "y = Conv <kernel_shape = [2, 3]> (x, w)",
        "y = Conv <pads = [1, 1]> (x, w)",
        "y = Conv <strides = [1, 1, 1]> (x, w)",
        "y = Conv(m, w)",
        "y = ConvTranspose(x, w)",
        "y = ConvTranspose <output_shape = [1]> (x, t)",
        "y = MaxPool <kernel_shape = [3]> (x)",
        "y = AveragePool <kernel_shape = [2, 2], pads = [1, 1]> (x)",
    ],
)
def test_convolutions_and_poolings_that_cannot_be(body: str) -> None:
    with pytest.raises(GraphError):
        type_of("float[N, 4, H, W] x, float[4, 4] m", body, weights(w=(8, 4, 3, 3), g=(12, 1, 3, 3), t=(4, 8, 3, 3)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # Where H is 1, ONNX Runtime gives one window that reaches over the edge.
        ("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", "float[N, 4, windows((-2 + H)/(2)), 8]"),
        ("y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)", "float[N, 4, floor((H)/(2)), 8]"),
        # Whether a last window would begin in the padding depends on H.
        ("y = MaxPool <kernel_shape = [2, 2], strides = [3, 3], ceil_mode = 1> (x)", "float[N, 4, ?, 6]"),
        ("z, y = MaxPool <kernel_shape = [2, 2]> (x)", "int64[N, 4, -1 + H, 15]"),
        ("y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", "float[N, 4, H, 16]"),
        ('y = LpPool <kernel_shape = [2, 2], auto_pad = "SAME_UPPER"> (x)', "float[N, 4, H, 16]"),
        ("y = MaxPool <kernel_shape = [2, 2]> (q)", "float[?, ?, ?, ?]"),
        ("y = GlobalAveragePool(x)", "float[N, 4, 1, 1]"),
        ("y = GlobalMaxPool(q)", "float[...]"),
        ("y = Resize(x, , scales)", "float[N, 4, 2*H, 8]"),
        ("y = Resize <axes = [3]> (x, , , size)", "float[N, 4, H, 7]"),
        ('y = Resize <axes = [3], keep_aspect_ratio_policy = "not_larger"> (x, , , size)', "float[N, 4, H, ?]"),
        ("s = Shape(u) y = Resize(x, , , s)", "float[N, 3, H, W]"),
        ("y = Resize(x, , free)", "float[?, ?, ?, ?]"),
    ],
)
def test_poolings(body: str, expected: str) -> None:
    inputs = "float[N, 4, H, 16] x, float[] q, float[N, 3, H, W] u, float[4] free"
    assert type_of(inputs, body, "float[4] scales = {1, 1, 2, 0.5}, int64[1] size = {7}") == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = ReduceSum(x)", "float[1, 1, 1]"),
        ("y = ReduceSum <keepdims = 0> (x)", "float[]"),
        ("y = ReduceMean(x, none)", "float[1, 1, 1]"),
        ("y = ReduceMax <noop_with_empty_axes = 1> (x)", "float[N, S, 4]"),
        ("y = ReduceMax <noop_with_empty_axes = 1, keepdims = 0> (x, none)", "float[N, S, 4]"),
        ("y = ReduceL2(x, ends)", "float[1, S, 1]"),
        ("y = ReduceProd <keepdims = 0> (x, ends)", "float[S]"),
        ("y = ReduceMin <keepdims = 0> (x, twice)", "float[N, S]"),
        ("y = ReduceLogSumExp(x, k)", "float[?, ?, ?]"),
        ("y = ReduceLogSumExp <keepdims = 0> (x, k)", "float[...]"),
        ("y = ReduceLogSumExp <keepdims = 0> (x, k1)", "float[...]"),
        ("y = ReduceSum <keepdims = 0> (q)", "float[]"),
        ("y = ReduceSum(q)", "float[...]"),
        ("y = ArgMax <axis = -1> (x)", "int64[N, S, 1]"),
        ("y = ArgMin <axis = 1, keepdims = 0> (x)", "int64[N, 4]"),
        ("y = ArgMin(q)", "int64[...]"),
        ("z, y = TopK(x, three)", "int64[N, S, 3]"),
        ("y, z = TopK <axis = 0> (x, three)", "float[3, S, 4]"),
        ("y, z = TopK(x, k1)", "float[N, S, ?]"),
        ("y = CumSum(x, i)", "float[N, S, 4]"),
    ],
)
def test_reductions(body: str, expected: str) -> None:
    constants = "int64[0] none = {}, int64[2] ends = {0, -1}, int64[2] twice = {2, -1}, int64[1] three = {3}"
    assert type_of("float[N, S, 4] x, int64[K] k, int64[1] k1, float[] q, int64 i", body, constants) == expected


@pytest.mark.parametrize(
    "body", ["y = ReduceSum(x, three)", "y = ArgMax <axis = 3> (x)", "y, z = TopK(x, five)", "y, z = TopK(x, less)"]
)
def test_reductions_that_cannot_be(body: str) -> None:
    with pytest.raises(GraphError):
        type_of("float[N, S, 4] x", body, "int64[1] three = {3}, int64[1] five = {5}, int64[1] less = {-1}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = BatchNormalization(x, c, c, c, c)", "float[N, 4, S]"),
        ("z, y, w = BatchNormalization <training_mode = 1> (x, c, c, c, d)", "float[4]"),
        ("z, w, y = BatchNormalization <training_mode = 1> (x, c, c, c, d)", "float[D]"),
        ("y = LayerNormalization(h, e)", "float16[N, 4, S]"),
        ("z, y = LayerNormalization <axis = 1> (h, e)", "float[N, 1, 1]"),
        ("z, w, y = LayerNormalization(h, e)", "float[N, 4, 1]"),
        ("y = GroupNormalization <num_groups = 2> (x, c, c)", "float[N, 4, S]"),
        ("y = InstanceNormalization(x, c, c)", "float[N, 4, S]"),
        ("y = QuantizeLinear(x, s)", "uint8[N, 4, S]"),
        ("y = QuantizeLinear(x, s, i)", "int8[N, 4, S]"),
        ("y = QuantizeLinear <output_dtype = 4> (x, s)", "uint16[N, 4, S]"),
        ("z = QuantizeLinear(h, r) y = DequantizeLinear(z, r)", "float16[N, 4, S]"),
        ("z, y, w = DynamicQuantizeLinear(x)", "float[]"),
    ],
)
def test_normalizations_and_quantization(body: str, expected: str) -> None:
    inputs = "float[N, 4, S] x, float[4] c, float[D] d, float16[N, 4, S] h, float16[S] e, float s, float16 r, int8 i"
    assert type_of(inputs, body) == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = BatchNormalization(x, c, c, c, b)",
        "y = GroupNormalization <num_groups = 3> (x, c, c)",
        "y = LayerNormalization <axis = 3> (x, c)",
    ],
)
def test_normalizations_that_cannot_be(body: str) -> None:
    with pytest.raises(GraphError):
        type_of("float[N, 4, S] x, float[4] c, float[5] b", body)
