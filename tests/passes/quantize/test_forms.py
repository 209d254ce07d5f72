"""What lies between products: which operators work on codes, which do not and why, and what a clip may vanish into."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from planish.ir import DType, Value
from planish.ir.types import Array
from planish.passes.quantize.forms import form_of
from planish.passes.quantize.placement import PLACEMENTS
from planish.runtime.session import Session
from tests.passes.quantize.between import Lay, between
from tests.passes.quantize.statically import ONE_THREAD, Static, quantized
from tests.passes.quantize.topologies import Net

random = np.random.default_rng(11)


def _resize(mode: str, **attributes: str) -> Lay:
    def lay(net: Net, x: Value) -> Value:
        return net.op("Resize", x, None, net.floats(np.array([1, 1, 2, 2])), mode=mode, **attributes)

    return lay


def _slice(net: Net, x: Value) -> Value:
    return net.op("Slice", x, net.ints(1), net.ints(5), net.ints(2))


def _split(net: Net, x: Value, *, whole: bool = True) -> Value:
    a, b, c = net.b.nodes("Split", (x, net.ints(3, 2, 3)), {"axis": 1}, results=("part_a", "part_b", "part_c"))
    return net.op("Concat", a, c, *([b] if whole else []), axis=1)


def _there_and_back(net: Net, x: Value) -> Value:
    flat = net.op("Reshape", x, net.ints(0, 4, 2, -1))
    turned = net.op("Transpose", flat, perm=(0, 2, 1, 3))
    wide = net.op("Unsqueeze", net.op("Reshape", turned, net.ints(0, 8, 6, 6)), net.ints(0))
    return net.op("Squeeze", wide, net.ints(0))


def _shuffled(net: Net, x: Value) -> Value:
    return net.op("Gather", x, net.ints(7, 0, 3, -1), axis=1)


def _gated(net: Net, x: Value) -> Value:
    return net.op("Mul", x, net.op("HardSigmoid", x, alpha=0.25, beta=0.4))


def _with(op: str, constant: Array, *, first: bool = False) -> Lay:
    def lay(net: Net, x: Value) -> Value:
        c = net.floats(constant)
        return net.op(op, *((c, x) if first else (x, c)))

    return lay


CHANNELS = random.standard_normal((8, 1, 1)).astype(np.float32)
FORMS: dict[str, tuple[Lay, Mapping[str, int]]] = {
    "a sum with itself": (lambda net, x: net.op("Add", x, x), {"QLinearAdd": 1}),
    "a square": (lambda net, x: net.op("Mul", x, x), {"QLinearMul": 1}),
    "a residual": (lambda net, x: net.op("Add", net.conv(x, 8), x), {"QLinearAdd": 1}),
    "the same twice": (lambda net, x: net.op("Concat", x, x, axis=1), {"QLinearConcat": 1}),
    "a constant beside": (
        lambda net, x: net.op("Concat", x, net.floats(random.standard_normal((2, 1, 6, 6))), axis=1),
        {"QLinearConcat": 1},
    ),
    "plus a number": (_with("Add", np.array(0.7)), {"QLinearAdd": 1}),
    "minus a number": (_with("Add", np.array(-3.0)), {"QLinearAdd": 1}),
    "plus nothing": (_with("Add", np.array(0.0)), {"QLinearAdd": 1}),
    "times a number": (_with("Mul", np.array(2.0), first=True), {"QLinearMul": 1}),
    "times a negative one": (_with("Mul", np.array(-0.1)), {"QLinearMul": 1}),
    "times channels": (_with("Mul", CHANNELS), {"QLinearMul": 1}),
    "plus channels": (_with("Add", CHANNELS, first=True), {"QLinearAdd": 1}),
    "plus a picture": (_with("Add", random.standard_normal((1, 8, 6, 6))), {"QLinearAdd": 1}),
    "silu": (lambda net, x: net.silu(x), {"QLinearSigmoid": 1, "QLinearMul": 1}),
    "leaky": (lambda net, x: net.op("LeakyRelu", x, alpha=0.1), {"QLinearLeakyRelu": 1}),
    "a gate": (_gated, {"QLinearAdd": 1, "QLinearMul": 1}),
    "mean pooling": (lambda net, x: net.op("AveragePool", x, kernel_shape=(3, 2), strides=(2, 1)), {}),
    "mean pooling that counts its padding": (
        lambda net, x: net.op("AveragePool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1), count_include_pad=1),
        {},
    ),
    "mean pooling without padding by itself": (
        lambda net, x: net.op("AveragePool", x, kernel_shape=(2, 2), auto_pad="VALID"),
        {},
    ),
    "the mean of all": (lambda net, x: net.op("Mul", x, net.pool(x)), {"QLinearGlobalAveragePool": 1, "QLinearMul": 1}),
    "the mean over both axes": (
        lambda net, x: net.op("Mul", x, net.op("ReduceMean", x, net.ints(2, 3))),
        {"QLinearGlobalAveragePool": 1, "QLinearMul": 1},
    ),
    "the mean over both axes, from behind": (
        lambda net, x: net.op("Mul", x, net.op("ReduceMean", x, net.ints(-1, -2), keepdims=1)),
        {"QLinearGlobalAveragePool": 1, "QLinearMul": 1},
    ),
    "the mean over both axes, which are dropped": (
        lambda net, x: net.op(
            "Mul", x, net.op("Unsqueeze", net.op("ReduceMean", x, net.ints(3, 2), keepdims=0), net.ints(2, 3))
        ),
        {"QLinearGlobalAveragePool": 1, "QLinearMul": 1, "Unsqueeze": 1},
    ),
    "maximum pooling": (
        lambda net, x: net.op("MaxPool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2)),
        {"MaxPool": 1},
    ),
    "nearest": (
        _resize("nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        {"Resize": 1},
    ),
    "a part": (_slice, {"Slice": 1}),
    "parts": (_split, {"Split": 1, "QLinearConcat": 1}),
    "there and back": (_there_and_back, {"Reshape": 2, "Transpose": 1, "Unsqueeze": 1, "Squeeze": 1}),
    "shuffled": (_shuffled, {"Gather": 1}),
    "depth to space": (lambda net, x: net.op("DepthToSpace", x, blocksize=2), {"DepthToSpace": 1}),
    "tiled": (lambda net, x: net.op("Tile", x, net.ints(1, 2, 1, 1)), {"Tile": 1}),
    "expanded": (lambda net, x: net.op("Expand", net.pool(x), net.ints(2, 8, 3, 3)), {"Expand": 1}),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    lay, kernels = FORMS[name]
    found = between(lay)
    coverage = found.coverage()
    assert coverage.is_whole, str(coverage)
    others = {kernel: count for kernel, count in coverage.predicted.items() if kernel != "QLinearConv"}
    if name not in ("parts", "expanded"):  # which take others along
        assert others == kernels
    assert kernels.items() <= others.items()
    assert coverage.predicted["QLinearConv"] == 2 + name.startswith("mean pooling") + (name == "a residual")
    assert (coverage.conversions, coverage.borders) == ({"QuantizeLinear": 1, "DequantizeLinear": 1}, 2)
    assert found.error() < 0.04


LEFT: dict[str, tuple[Lay, str]] = {
    "linear": (_resize("linear"), "it interpolates"),
    "filled in": (
        lambda net, x: net.op(
            *("Resize", x, net.floats(np.array([0, 0, 0.1, 0.1, 1, 1, 0.8, 0.8])), net.floats(np.ones(4))),
            mode="nearest",
            coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=7.5,
        ),
        "it fills in a real number",
    ),
    "a part that is not read": (lambda net, x: _split(net, x, whole=False), "a part of it is not read"),
    "a steep gate": (
        lambda net, x: net.op("HardSigmoid", x, alpha=1e30),
        "its slope is not positive, or so steep or flat that the scale would not hold it",
    ),
    "a falling gate": (
        lambda net, x: net.op("HardSigmoid", x, alpha=-0.2),
        "its slope is not positive, or so steep or flat that the scale would not hold it",
    ),
    "a mean that is narrower at the edges": (
        lambda net, x: net.op("AveragePool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1)),
        "it divides by fewer at the edges, which no convolution does",
    ),
    "a mean that pads itself": (
        lambda net, x: net.op("AveragePool", x, kernel_shape=(3, 3), auto_pad="SAME_LOWER"),
        "it divides by fewer at the edges, which no convolution does",
    ),
    "a mean over what sticks out": (
        lambda net, x: net.op("AveragePool", x, kernel_shape=(2, 2), strides=(4, 4), ceil_mode=1),
        "it divides by fewer at the edges, which no convolution does",
    ),
    "a mean over one axis": (
        lambda net, x: net.op("ReduceMean", x, net.ints(2)),
        "it is no mean over the two axes of an image",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_and_why(name: str) -> None:
    lay, why = LEFT[name]
    found = between(lay)
    assert [note.split(": ", 1)[1] for note in found.record.notes] == [why]
    assert found.coverage().is_whole


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("op", ["Add", "Mul", "Concat"])
def test_a_constant_that_is_not_finite(op: str, bad: float) -> None:
    net = Net()
    constant = np.ones((2, 8, 1, 1), np.float32)
    constant[1, 7] = bad
    attributes = {"axis": 2} if op == "Concat" else {}
    node = net.op(op, net.b.input("x", DType.FLOAT, (2, 8, 3, 1)), net.floats(constant), **attributes).producer
    form = None if node is None else form_of(node, PLACEMENTS["cpu-x86"])
    assert node is not None
    assert form is not None
    assert form.obstacle(node) == "its constant holds NaN or infinities"


def test_indices_of_a_maximum_keep_it_float() -> None:
    def lay(net: Net, x: Value) -> Value:
        y, where = net.b.nodes("MaxPool", (x,), {"kernel_shape": (2, 2)}, results=("most", "where"))
        net.b.output("i", where)
        return y

    found = between(lay)
    assert found.coverage().predicted == {"QLinearConv": 2}
    assert found.coverage().is_whole


# What a clip may vanish into: inputs far beyond those of calibration show whether it is really implied


CLIPS: dict[str, tuple[Lay, bool, float, float]] = {
    "relu": (lambda net, x: net.relu(x), True, 0, np.inf),
    "relu6": (lambda net, x: net.relu6(x), True, 0, 6),
    "relu6, then moved": (
        lambda net, x: net.op("MaxPool", net.relu6(x), kernel_shape=(1, 1)),
        True,
        0,
        6,
    ),
    "from 0, without end": (lambda net, x: net.op("Clip", x, net.floats(0)), True, 0, np.inf),
    "from 0 to a little": (lambda net, x: net.op("Clip", x, net.floats(0), net.floats(1e-3)), True, 0, 1e-3),
    "from 0 to where it never got": (lambda net, x: net.op("Clip", x, net.floats(0), net.floats(99)), True, 0, 99),
    "of both signs": (lambda net, x: net.op("Clip", x, net.floats(-1), net.floats(1)), False, -1, 1),
    "from above 0": (lambda net, x: net.op("Clip", x, net.floats(0.5), net.floats(1)), False, 0.5, 1),
    "to below 0": (lambda net, x: net.op("Clip", x, net.floats(-2), net.floats(-1)), False, -2, -1),
    "without bounds": (lambda net, x: net.op("Clip", x), False, -np.inf, np.inf),
    "to an end only": (lambda net, x: net.op("Clip", x, None, net.floats(1)), False, -np.inf, 1),
    "to what is no number": (lambda net, x: net.op("Clip", x, net.floats(0), net.floats(np.nan)), False, -1e9, 1e9),
}


def _clipped(lay: Lay, calibrated: float, wide: float) -> tuple[Static, NDArray[np.float64]]:
    """What reaches the second convolution, which passes it on, of inputs `wide` where those seen were `calibrated`."""
    net = Net()
    x = net.b.input("x", DType.FLOAT, (1, 2, 4, 4))
    identity = net.floats(np.eye(2).reshape(2, 2, 1, 1))
    clipped = lay(net, net.op("Conv", x, identity))
    net.b.output("y", clipped)
    net.b.output("z", net.op("Conv", clipped, identity))
    array = random.standard_normal((1, 2, 4, 4)).astype(np.float32)
    found = quantized(net.b.graph(), [{"x": array * np.float32(calibrated)}])
    result = Session(found.after.SerializeToString(), ONE_THREAD).run({"x": array * np.float32(wide)})[0]
    return found, np.asarray(result, np.float64)


@pytest.mark.parametrize("wide", [1.0, 100.0])
@pytest.mark.parametrize("name", CLIPS)
def test_clips(name: str, wide: float) -> None:
    lay, vanishes, low, high = CLIPS[name]
    found, result = _clipped(lay, 1.0, wide)
    assert ("Clip" not in found.ops and "Relu" not in found.ops) == vanishes
    assert found.coverage().is_whole
    room = 0 if vanishes else 0.02  # codes of both signs do not end at 1 exactly
    assert (result >= low - room).all()
    assert (result <= (high + room) * (1 + 1e-6)).all()


def test_a_clip_of_zeros_only_still_clips() -> None:
    """Nothing but 0 was seen: the range is that of the clip, not a scale of 1."""
    _, result = _clipped(CLIPS["relu6"][0], 0.0, 100.0)
    assert (result >= 0).all()
    assert (result <= 6.000001).all()


@pytest.mark.parametrize("name", ["relu", "relu6", "from 0 to a little", "from 0 to where it never got"])
@pytest.mark.parametrize("wide", [0.5, 100.0])
def test_a_clip_that_shares_its_operand_is_a_sum_with_nothing(name: str, wide: float) -> None:
    """It cannot vanish, since what it reads is read below 0 as well."""
    lay, _, low, high = CLIPS[name]

    net = Net()
    x = net.op("Conv", net.b.input("x", DType.FLOAT, (1, 2, 4, 4)), net.floats(2 * np.eye(2).reshape(2, 2, 1, 1)))
    net.b.output("w", net.conv(x, 2))
    clipped = lay(net, x)
    net.b.output("z", net.conv(clipped, 2))
    net.b.output("y", clipped)
    array = random.standard_normal((1, 2, 4, 4)).astype(np.float32)
    found = quantized(net.b.graph(), [{"x": array}])
    coverage = found.coverage()
    assert coverage.is_whole, str(coverage)
    assert coverage.predicted == {"QLinearConv": 3, "QLinearAdd": 1}
    feed = {"x": array * np.float32(wide)}
    result = np.asarray(Session(found.after.SerializeToString(), ONE_THREAD).run(feed)[2], np.float64)
    assert low <= result.min()
    assert result.max() <= high * (1 + 1e-6)
    if wide < 1:
        assert np.abs(result - np.clip(2 * feed["x"], low, high)).max() <= 0.06


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Softmax", "Sin", "Clip"])
@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 8)], ids=["matrix", "three axes"])
def test_what_reads_a_product_in_real_numbers(op: str, shape: tuple[int, ...]) -> None:
    """Some would make ONNX Runtime keep a Gemm of real numbers: these read what codes stand for."""
    net = Net()
    x = net.b.input("x", DType.FLOAT, shape)
    product = net.linear(x, (8, 5)) if len(shape) > 2 else net.dense(x, (8, 5))
    bounds = [net.floats(0), net.floats(1)] if op == "Clip" else []
    net.b.output("y", net.op("Sin", net.op(op, product, *bounds)))
    found = quantized(net.b.graph(), [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(3)])
    coverage = found.coverage()
    assert coverage.is_whole, str(coverage)
    assert coverage.predicted == {"QGemm": 1}
    fused = len(shape) == 2 and op not in ("Softmax", "Sin")
    assert coverage.conversions == ({"QuantizeLinear": 1, "DequantizeLinear": 1} if fused else {"QuantizeLinear": 1})
    assert found.ops.count("Relu") == (op == "Relu" and not fused)
    assert found.error() < 0.02


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Clip", "Gelu"])
def test_what_reads_a_product_of_more_axes_in_real_numbers(op: str) -> None:
    net = Net(20)
    x = net.op("MatMul", net.b.input("x", DType.FLOAT, (2, 3, 8)), net.normal(8, 5, fan_in=8))
    net.b.output("y", net.op("Sin", net.op(op, x, *([net.floats(-1), net.floats(1)] if op == "Clip" else []))))
    found = quantized(net.b.graph(), [{"x": random.standard_normal((2, 3, 8)).astype(np.float32)} for _ in range(3)])
    coverage = found.coverage()
    assert coverage.is_whole, str(coverage)
    assert coverage.predicted == {"QLinearMatMul" if op in ("Relu", "Clip") else "MatMulIntegerToFloat": 1}


@pytest.mark.parametrize("others", [False, True], ids=["alone", "read elsewhere"])
def test_a_gate_needs_no_codes_where_it_is_shut(others: bool) -> None:
    """x * HardSigmoid(x) is 0 below -3: steps are spent on the rest, unless something else reads x."""

    def lay(net: Net, x: Value) -> Value:
        y = net.op("Mul", x, net.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))
        return net.op("Add", y, net.op("MaxPool", x, kernel_shape=(1, 1))) if others else y

    found = between(lay, scale=20)
    assert found.coverage().is_whole
    assert found.error() < 0.03


def test_a_gate_that_is_always_shut() -> None:
    """The range ends below where the gate opens, and is not turned around for it."""

    def lay(net: Net, x: Value) -> Value:
        shut = net.op("Conv", x, net.floats(np.zeros((8, 8, 1, 1))), net.floats(np.full(8, -7.0)))
        return net.op("Mul", shut, net.op("HardSigmoid", shut, alpha=1 / 6, beta=0.5))

    found = between(lay)
    assert found.coverage().is_whole
    assert found.error() < 0.03
