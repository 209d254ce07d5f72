"""Convolutions and matrix products on codes: every spelling gives the float model's numbers, to the steps of codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from planish import ir
from planish.ir import DType, Value
from planish.ir.types import Array
from planish.runtime.session import Session
from tests.equivalence import PLAIN
from tests.passes.quantize.statically import ONE_THREAD, Static, quantized
from tests.passes.quantize.topologies import Net

Shape = Sequence[int]
random = np.random.default_rng(3)


def laid(lay: Callable[[Net, Value], Value], shape: Sequence[int | str], fed: Shape, *, scale: float = 1.0) -> Static:
    """Quantize what `lay` makes of an input."""
    net = Net()
    net.b.output("y", lay(net, net.b.input("x", DType.FLOAT, shape)))
    feeds = [{"x": (scale * random.standard_normal(fed)).astype(np.float32)} for _ in range(4)]
    return quantized(net.b.graph(), feeds)


def whole(found: Static, kernels: dict[str, int], error: float = 0.02) -> None:
    coverage = found.coverage()
    assert coverage.is_whole, str(coverage)
    assert coverage.predicted == kernels
    assert found.error() < error


# Convolutions


CONVOLUTIONS: dict[str, tuple[Shape, Shape, dict[str, int | tuple[int, ...] | str]]] = {
    "one axis": ((2, 4, 9), (6, 4, 3), {}),
    "two axes": ((2, 4, 9, 7), (6, 4, 3, 3), {}),
    "three axes": ((1, 2, 5, 5, 5), (3, 2, 2, 2, 2), {}),
    "grouped": ((2, 8, 5, 5), (4, 4, 3, 3), {"group": 2}),
    "depthwise": ((2, 8, 5, 5), (8, 1, 3, 3), {"group": 8}),
    "more filters than channels, depthwise": ((2, 4, 5, 5), (8, 1, 3, 3), {"group": 4}),
    "padded on one side, strided, dilated": (
        (1, 3, 12, 12),
        (5, 3, 3, 3),
        {"pads": (1, 0, 2, 3), "strides": (2, 1), "dilations": (2, 1)},
    ),
    "padded by itself": ((1, 3, 9, 9), (5, 3, 4, 4), {"auto_pad": "SAME_UPPER"}),
    "pointwise": ((2, 16, 4, 4), (8, 16, 1, 1), {}),
    "one filter": ((1, 3, 6, 6), (1, 3, 3, 3), {}),
}


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "with bias"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, bias: bool) -> None:
    x_shape, w_shape, attributes = CONVOLUTIONS[name]

    def lay(net: Net, x: Value) -> Value:
        constants = [net.normal(*w_shape, fan_in=9), *([net.normal(w_shape[0], fan_in=1)] if bias else [])]
        return net.op("Conv", x, *constants, **attributes)

    whole(laid(lay, x_shape, x_shape), {"QLinearConv": 1})


def test_the_error_is_that_of_the_steps() -> None:
    """|y' - y| is at most half a step of y, and what half a step of each x and of each weight makes of the sum."""
    w, b = (random.standard_normal(shape).astype(np.float32) for shape in ((20, 6), (6,)))

    def lay(net: Net, x: Value) -> Value:
        hidden = net.op("Gemm", x, net.floats(w), net.floats(b))
        return net.op("Gemm", hidden, net.floats(np.eye(6)))  # what it reads is quantized

    found = laid(lay, (5, 20), (5, 20))
    scales = {name: float(array) for name, array in _scales(found.after).items() if array.ndim == 0}
    for feed in found.feeds:
        x, y = feed["x"].astype(np.float64), feed["x"].astype(np.float64) @ w + b
        (result,) = Session(found.after.SerializeToString(), PLAIN).run({"x": feed["x"]})
        step_w, step_y = np.abs(w).max(0) / 127, scales["gemm1_quantized"]
        step_x = scales["x_quantized"]
        bound = (np.abs(w).sum(0) + 20 * step_w / 2) * step_x / 2 + np.abs(x).sum(1, keepdims=True) * step_w / 2
        bound = bound + step_y / 2 + step_x * step_w
        error = np.abs(np.asarray(result, np.float64) - y)
        assert (error <= bound + np.abs(y) / 127).all()
        assert (error > step_y / 100).any()  # it is rounded at all


def _scales(model: onnx.ModelProto) -> dict[str, Array]:
    """Of each QuantizeLinear, by its result."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {node.output[0]: arrays[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def test_a_bias_beyond_int32_widens_the_steps_of_its_channel() -> None:
    """In steps of x times w it would be 1e11."""
    w = np.full((3, 2, 1, 1), 1e-4)
    w[1:] = 0.1

    def lay(net: Net, x: Value) -> Value:
        return net.op("Conv", x, net.floats(w), net.floats(np.array([5.0, -5.0, 0.0])))

    found = laid(lay, (1, 2, 4, 4), (1, 2, 4, 4), scale=1e-6)
    whole(found, {"QLinearConv": 1}, 0.01)


def test_channels_of_zeros_keep_their_bias() -> None:
    def lay(net: Net, x: Value) -> Value:
        w = np.zeros((3, 4, 1, 1))
        w[2] = 0.01
        return net.op("Conv", x, net.floats(w), net.floats(np.array([0.01, 0.0, 0.02])))

    whole(laid(lay, (1, 4, 4, 4), (1, 4, 4, 4), scale=100), {"QLinearConv": 1})


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e6, 1e30])
def test_tiny_and_huge_activations(scale: float) -> None:
    """Ranges beyond float16, and accumulators whose steps would be subnormal."""

    def lay(net: Net, x: Value) -> Value:
        return net.op("Conv", x, net.normal(4, 4, 1, 1, fan_in=4), net.floats(np.full(4, scale)))

    found = laid(lay, (1, 4, 4, 4), (1, 4, 4, 4), scale=scale)
    assert found.coverage().is_whole
    assert scale < 1e-30 or found.error() < 0.02


@pytest.mark.parametrize("place", [1, 2], ids=["weight", "bias"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_left(place: int, bad: float) -> None:
    net = Net()
    constants = [np.ones((2, 3, 1, 1), np.float32), np.ones(2, np.float32)]
    constants[place - 1].flat[0] = bad
    x = net.b.input("x", DType.FLOAT, (1, 3, 4, 4))
    net.b.output("y", net.op("Conv", x, *map(net.floats, constants)))
    found = quantized(net.b.graph(), [{"x": np.ones((1, 3, 4, 4), np.float32)}])
    assert found.ops == ["Conv"]
    assert found.record.notes == ["y: its weight or bias holds NaN or infinities"]


# Gemm


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (1,), (6,), (1, 6), (1, 1)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (-0.5, 2.0), (3.0, 0.0)])
def test_gemm(transposed: int, bias: Shape | None, alpha: float, beta: float) -> None:
    def lay(net: Net, x: Value) -> Value:
        w = net.normal(*((6, 8) if transposed else (8, 6)), fan_in=8)
        c = [] if bias is None else [net.floats(random.standard_normal(tuple(bias)))]
        return net.op("Gemm", x, w, *c, transB=transposed, alpha=alpha, beta=beta)

    whole(laid(lay, ("N", 8), (3, 8)), {"QGemm": 1})


def test_a_bias_of_rows_is_none_of_columns() -> None:
    """As many rows as columns: the counts agree, the meaning does not."""
    net = Net()
    x = net.b.input("x", DType.FLOAT, (6, 8))
    net.b.output("y", net.op("Gemm", x, net.normal(8, 6, fan_in=8), net.floats(np.arange(6.0).reshape(6, 1))))
    found = quantized(net.b.graph(), [{"x": random.standard_normal((6, 8)).astype(np.float32)}])
    assert found.ops == ["Gemm"]
    assert found.record.notes == ["y: its bias is not one number a column"]


def test_a_transposed_activation_is_left() -> None:
    net = Net()
    x = net.b.input("x", DType.FLOAT, (8, 3))
    net.b.output("y", net.op("Gemm", x, net.normal(8, 6, fan_in=8), transA=1))
    found = quantized(net.b.graph(), [{"x": np.ones((8, 3), np.float32)}])
    assert found.record.notes == ["y: integer kernels take no transposed activation"]


# MatMul, alone and with a bias


@pytest.mark.parametrize(
    "shape", [(5, 8), ("N", 8), (2, 5, 8), ("N", 5, 8), ("N", "L", 8), ("N", 3, "L", 8), (1, 1, 8)]
)
def test_matmul(shape: Sequence[int | str]) -> None:
    fed = tuple(dim if isinstance(dim, int) else 2 for dim in shape)
    plain = laid(lambda net, x: net.op("MatMul", x, net.normal(8, 6, fan_in=8)), shape, fed)
    whole(plain, {"QGemm" if len(shape) == 2 else "MatMulIntegerToFloat": 1})
    biased = laid(lambda net, x: net.linear(x, (8, 6)), shape, fed)
    whole(biased, {"QGemm": 1})
    assert biased.record.rewrites[0].sources == ("y", "matmul1")
    chained = laid(lambda net, x: net.linear(net.relu(net.linear(x, (8, 6))), (6, 4)), shape, fed)
    whole(chained, {"QGemm": 2})
    assert "Relu" not in chained.ops


@pytest.mark.parametrize("bias", [(), (1,), (6,), (1, 6), (1, 1, 6), (1, 1, 1)])
@pytest.mark.parametrize("first", [False, True])
def test_biases_of_a_matmul(bias: Shape, first: bool) -> None:
    def lay(net: Net, x: Value) -> Value:
        product, c = net.op("MatMul", x, net.normal(8, 6, fan_in=8)), net.floats(random.standard_normal(tuple(bias)))
        return net.op("Add", *((c, product) if first else (product, c)))

    whole(laid(lay, ("N", 4, 8), (2, 4, 8)), {"QGemm": 1})


@pytest.mark.parametrize("added", [(4, 1), (4, 6), (2, 4, 6), (1, 2, 4, 6), (6, 1)], ids=str)
def test_what_is_no_bias_is_added_for_itself(added: Shape) -> None:
    def lay(net: Net, x: Value) -> Value:
        product = net.op("MatMul", x, net.normal(8, 6, fan_in=8))
        return net.op("Add", product, net.floats(random.standard_normal(tuple(added))))

    rows = 6 if added == (6, 1) else 4
    found = laid(lay, (2, rows, 8), (2, rows, 8))
    whole(found, {"MatMulIntegerToFloat": 1})
    assert found.ops[-1] == "Add"


def test_a_product_that_is_read_elsewhere_keeps_its_own_result() -> None:
    def lay(net: Net, x: Value) -> Value:
        product = net.op("MatMul", x, net.normal(8, 6, fan_in=8))
        net.b.output("z", product)
        return net.op("Add", product, net.floats(np.ones(6)))

    whole(laid(lay, (2, 4, 8), (2, 4, 8)), {"MatMulIntegerToFloat": 1})


def test_three_products_share_the_rows_of_what_they_read() -> None:
    def lay(net: Net, x: Value) -> Value:
        q, k, v = (net.linear(x, (8, 8)) for _ in range(3))
        return net.op("MatMul", net.op("MatMul", q, net.op("Transpose", k, perm=(0, 2, 1))), v)

    found = laid(lay, ("N", "L", 8), (2, 4, 8))
    whole(found, {"QGemm": 3})
    counts = {op: found.ops.count(op) for op in ("Reshape", "Shape", "Concat", "Gemm")}
    assert counts == {"Reshape": 4, "Shape": 1, "Concat": 1, "Gemm": 3}


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("length", [0, 1, 5])
def test_no_rows_at_all(batch: int, length: int) -> None:
    """An extent of 0 is not taken for "as it was"."""
    found = laid(lambda net, x: net.linear(net.linear(x, (8, 6)), (6, 3)), ("N", "L", 8), (2, 4, 8))
    (result,) = Session(found.after.SerializeToString(), PLAIN).run({"x": np.ones((batch, length, 8), np.float32)})
    assert isinstance(result, np.ndarray)
    assert result.shape == (batch, length, 3)


@pytest.mark.parametrize("shape", [(3, 8, 6), (6,)])
def test_what_is_no_constant_matrix_is_left(shape: Shape) -> None:
    net = Net()
    x = net.b.input("x", DType.FLOAT, (3, 4, shape[-2] if len(shape) > 1 else 6))
    net.b.output("y", net.op("MatMul", x, net.normal(*shape, fan_in=8)))
    found = quantized(net.b.graph(), [{"x": np.ones(_fixed(x), np.float32)}])
    assert found.record.notes == ["y: its right side is no constant matrix"]


def _fixed(x: Value) -> tuple[int, ...]:
    return tuple(dim for dim in x.shape or () if isinstance(dim, int))


# Weights that several nodes read


def test_one_matrix_read_both_ways_is_kept_as_two() -> None:
    """W and its transpose have the same shape here, and other scales."""

    def lay(net: Net, x: Value) -> Value:
        w = net.normal(8, 8, fan_in=8)
        return net.op("Gemm", net.op("Gemm", x, w, transB=1), w)

    whole(laid(lay, (4, 8), (4, 8)), {"QGemm": 2})


def test_one_scale_with_two_variances() -> None:
    def lay(net: Net, x: Value) -> Value:
        scale, zeros = net.floats(np.ones(8)), net.floats(np.zeros(8))
        for variance in (1.0, 100.0):
            x = net.op("BatchNormalization", net.conv(x, 8), scale, zeros, zeros, net.floats(np.full(8, variance)))
        return net.conv(x, 8)

    whole(laid(lay, (1, 8, 5, 5), (1, 8, 5, 5)), {"QLinearConv": 5}, 0.03)


def test_a_weight_that_float_reads_too_stays_float_there() -> None:
    def lay(net: Net, x: Value) -> Value:
        w = net.floats(random.standard_normal((8, 8)))
        return net.op("Add", net.op("MatMul", x, w), net.op("Sin", w))

    found = laid(lay, (8, 8), (8, 8))
    whole(found, {"QGemm": 1})
    assert sorted(str(tensor.data_type) for tensor in found.after.graph.initializer if list(tensor.dims) == [8, 8]) == [
        str(int(DType.FLOAT)),
        str(int(DType.INT8)),
    ]


def test_two_products_with_one_weight_share_its_codes() -> None:
    def lay(net: Net, x: Value) -> Value:
        w = net.normal(8, 8, fan_in=8)
        return net.op("MatMul", net.op("MatMul", x, w), w)

    found = laid(lay, (4, 8), (4, 8))
    whole(found, {"QGemm": 2})
    assert sum(list(tensor.dims) == [8, 8] for tensor in found.after.graph.initializer) == 1


def test_an_overridable_weight_is_left() -> None:
    net = Net()
    x = net.b.input("x", DType.FLOAT, (1, 3, 4, 4))
    w = net.b.input("w", DType.FLOAT, (2, 3, 1, 1), default=np.ones((2, 3, 1, 1), np.float32))
    net.b.output("y", net.op("Conv", x, w))
    found = quantized(net.b.graph(), [{"x": np.ones((1, 3, 4, 4), np.float32)}])
    assert found.ops == ["Conv"]
    assert found.record.notes == ["y: its weight or bias is no constant"]


def test_an_empty_weight_is_left() -> None:
    net = Net()
    x = net.b.input("x", DType.FLOAT, (3, 0))
    net.b.output("y", net.op("MatMul", x, net.floats(np.zeros((0, 4)))))
    found = quantized(net.b.graph(), [{"x": np.ones((3, 0), np.float32)}])
    assert found.record.notes == ["y: its weight is empty"]


# Scale and shift


def test_a_batch_normalization_between_is_a_convolution_of_each_channel() -> None:
    found = laid(
        lambda net, x: net.conv(net.relu(net.batch_norm(net.op("Concat", net.conv(x, 8), net.conv(x, 8), axis=1))), 4),
        (1, 3, 8, 8),
        (1, 3, 8, 8),
    )
    whole(found, {"QLinearConv": 4, "QLinearConcat": 1}, 0.03)
    assert ir.load(found.after).opset_imports[""] == 17


def test_a_batch_normalization_of_no_image_stays() -> None:
    net = Net()
    x = net.b.input("x", DType.FLOAT, (2, 4, 9))
    w = net.normal(4, 4, 3, fan_in=12)
    net.b.output("y", net.op("Conv", net.batch_norm(net.op("Conv", x, w)), w))
    found = quantized(net.b.graph(), [{"x": random.standard_normal((2, 4, 9)).astype(np.float32)}])
    assert "BatchNormalization" in found.ops
    assert found.record.notes == ["batchnormalization2: it is no image, so that no convolution says the same"]


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul"])
@pytest.mark.parametrize(("scale", "fits"), [(1e-9, False), (1.0, True)])
def test_a_bias_beside_which_the_activation_is_nothing_keeps_it_float(kind: str, scale: float, fits: bool) -> None:
    """No float32 is so large that codes of 32 bits times it and the step of the activation would reach the bias."""
    huge = 1e37

    def lay(net: Net, x: Value) -> Value:
        if kind == "Conv":
            return net.op("Conv", x, net.normal(3, 3, 1, 1, fan_in=3), net.floats(np.full(3, huge)))
        w, b = net.normal(4, 3, fan_in=4), net.floats(np.full(3, huge))
        return net.op("Add", net.op("MatMul", x, w), b) if kind == "MatMul" else net.op("Gemm", x, w, b)

    shape = (2, 3, 4, 4) if kind == "Conv" else (2, 4)
    found = laid(lay, shape, shape, scale=scale)
    overflows = [note for note in found.record.notes if "the scale of its weight overflows" in note]
    assert len(overflows) == (not fits)
    assert found.coverage().is_whole
    assert bool(found.record.rewrites) is fits


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul"])
@pytest.mark.parametrize("bias", [-3.7, 3.7])
def test_a_channel_of_next_to_no_weight_does_not_wrap_around(kind: str, bias: float) -> None:
    """Its bias takes many steps of the accumulator, and what the kernel adds to it must still fit int32."""
    weight = np.full((8, 32), 1e-7)
    weight[1:] = random.standard_normal((7, 32)) / 6
    shifts = np.full(8, bias)

    def lay(net: Net, x: Value) -> Value:
        if kind == "Conv":
            y = net.op("Conv", x, net.floats(weight.reshape(8, 32, 1, 1)), net.floats(shifts))
        elif kind == "Gemm":
            y = net.op("Gemm", x, net.floats(weight), net.floats(shifts), transB=1)
        else:
            y = net.op("Add", net.op("MatMul", x, net.floats(weight.T)), net.floats(shifts))
        return net.op("Neg", net.relu(y))

    shape = (2, 32, 4, 4) if kind == "Conv" else (64, 32)
    found = laid(lay, shape, shape)
    assert found.coverage().is_whole
    feed = {"x": np.full(shape, 5, np.float32)}
    for far in (feed, {"x": -feed["x"]}):
        results = np.asarray(Session(found.after.SerializeToString(), ONE_THREAD).run(far)[0])
        assert np.abs(results[:, 0] + max(bias, 0)).max() < 0.05
