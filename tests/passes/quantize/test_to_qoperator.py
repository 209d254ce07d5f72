"""Operators on codes give the bits that ONNX Runtime makes of DequantizeLinear, the operator and QuantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir, passes
from planish.passes.explain import explain
from planish.passes.kernels import cpu
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.passes.quantize.to_qoperator import ToQOperator
from planish.passes.run import Run
from planish.runtime.session import Session
from tests.equivalence import PLAIN, op_types
from tests.passes.quantize.coded_layers import Layers
from tests.passes.quantize.on_codes import OPTIMIZED, PASS, check, hostile, same_bits, written
from tests.passes.quantize.quantized import far
from tests.passes.quantize.statically import quantized
from tests.passes.quantize.topologies import TOPOLOGIES

Array = NDArray[np.generic]
RNG = np.random.default_rng(0)
STEPS = (0.01 * (1 + np.arange(6) / 7)).astype(np.float32)


# Products


@pytest.mark.parametrize("code", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 0, -4])
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions(code: type[np.uint8] | type[np.int8], axis: int | None, bias: bool) -> None:
    net = Layers(code)
    steps = np.array([0.01], np.float32) if axis is None else STEPS
    operands = [net.coded("x"), net.weight((6, 3, 3, 3), axis)]
    operands += [net.bias(steps if axis is not None else np.full(6, 0.01, np.float32))] if bias else []
    y = net.coded(net.add("Conv", operands, pads=[1, 1, 0, 0], strides=[2, 1]), 0.3, 7)
    check(net, y, (2, 3, 7, 6), ["QLinearConv"])


def test_convolutions_of_one_axis_in_groups_and_with_a_zero_point_of_weights() -> None:
    net = Layers()
    y = net.coded(net.add("Conv", (net.coded("x"), net.weight((6, 1, 3), zero=[1] * 6)), group=3, dilations=[2]), 0.1)
    check(net, y, (2, 3, 9), ["QLinearConv"])


@pytest.mark.parametrize("axis", [None, 1, -1])
@pytest.mark.parametrize("code", [np.uint8, np.int8])
def test_matrix_products(code: type[np.uint8] | type[np.int8], axis: int | None) -> None:
    net = Layers(code)
    y = net.coded(net.add("MatMul", (net.coded("x"), net.weight((5, 6), axis))), 0.3, 9)
    check(net, y, (3, 2, 5), ["QLinearMatMul"])


def test_a_product_of_two_activations() -> None:
    net = Layers()
    x = net.coded("x")
    y = net.coded(net.add("MatMul", (x, net.coded(net.add("Transpose", (x,), perm=[0, 2, 1])))), 0.9)
    check(net, y, (3, 2, 5), ["Transpose", "QLinearMatMul"])


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_products_of_rows(quantized: bool, transposed: int, bias: bool) -> None:
    net = Layers()
    operands = [net.coded("x"), net.weight((6, 5) if transposed else (5, 6), 0 if transposed else 1)]
    operands += [net.bias(STEPS)] if bias else []
    y = net.add("Gemm", operands, alpha=1.0 if bias else 0.5, transB=transposed)
    check(net, net.coded(y, 0.2) if quantized else y, (4, 5), ["QGemm"])


def test_a_product_that_gives_real_numbers() -> None:
    net = Layers()
    y = net.add("Exp", (net.add("MatMul", (net.coded("x"), net.weight((5, 6), 1))),))
    check(net, net.coded(y, 0.5, 0), (3, 2, 5), ["MatMulIntegerToFloat", "Exp"])


# Other operators


@pytest.mark.parametrize("code", [np.uint8, np.int8])
@pytest.mark.parametrize("op", ["Add", "Mul", "Where"])
def test_operators_of_two_activations(op: str, code: type[np.uint8] | type[np.int8]) -> None:
    net = Layers(code)
    other = net.real(net.constant(RNG.integers(0, 100, (4, 1)).astype(code)), 0.02, 3)
    condition = [net.constant(np.array([True, False, True, True, False]))] if op == "Where" else []
    y = net.coded(net.add(op, (*condition, net.coded("x"), other)), 0.07, 11)
    check(net, y, (3, 4, 5), [f"QLinear{op}"])


@pytest.mark.parametrize("code", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Sigmoid", {}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("LeakyRelu", {}),
        ("Softmax", {"axis": -1}),
        ("Softmax", {"axis": 1}),
        ("GlobalAveragePool", {}),
        ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1]}),
        ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    ],
)
def test_operators_of_one_activation(
    op: str, attributes: Mapping[str, object], code: type[np.uint8] | type[np.int8]
) -> None:
    net = Layers(code)
    y = net.coded(net.add(op, (net.coded("x"),), **attributes), 1 / 255 if op in ("Sigmoid", "Softmax") else 0.04, 0)
    check(net, y, (2, 3, 5, 4), [f"QLinear{op}"])


def test_a_concat_of_three_scales() -> None:
    net = Layers()
    x = net.coded("x")
    parts = [x, net.coded(net.add("Sigmoid", (x,)), 1 / 255, 0), net.coded(net.add("LeakyRelu", (x,)), 0.06)]
    check(
        net,
        net.coded(net.add("Concat", parts, axis=1), 0.07),
        (2, 3, 4),
        ["QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat"],
    )


# What moves codes


def test_codes_are_moved_without_conversions() -> None:
    net = Layers()
    y = net.coded(net.add("Flatten", (net.coded("x"),)))
    y = net.coded(net.add("Reshape", (y, net.constant(np.array([0, 3, 4, 4], np.int64)))))
    y = net.coded(net.add("MaxPool", (y,), kernel_shape=[2, 2], pads=[1, 1, 0, 0]))
    left = net.add("Split", (y, net.constant(np.array([1, 2], np.int64))), axis=1)
    net.nodes[-1].output.append("right")
    y = net.coded(net.add("Concat", (net.coded(left), net.coded("right")), axis=1))
    proto = net.model(y, ("N", 48), 4)
    ops, _, after = written(proto)
    assert ops == ["Flatten", "Reshape", "MaxPool", "Split", "QLinearConcat"]
    assert op_types(after.graph).count("QuantizeLinear") == 1
    same_bits(proto, after, (2, 48))
    back = ir.load(after)
    passes.run(back, "remove-quantization")
    assert not [node.op for node in back.nodes if "uantize" in node.op or "QLinear" in node.op]


@pytest.mark.parametrize(("scale", "left"), [(1e-38, 2), (2e33, 1), (3e33, 2), (0.05, 1)])
def test_a_scale_at_which_codes_do_not_come_back_keeps_its_conversions(scale: float, left: int) -> None:
    net = Layers()
    proto = net.model(net.coded(net.coded("x", scale), scale), ("N", 16))
    _, _, after = written(proto)
    assert op_types(after.graph).count("QuantizeLinear") == left
    same_bits(proto, after, (3, 16))


def test_codes_are_not_moved_to_another_scale() -> None:
    net = Layers()
    ops, record, _ = written(net.model(net.coded(net.add("Flatten", (net.coded("x"),)), 0.06), ("N", 4)))
    assert (ops, record.rewrites) == (["Flatten"], [])


def _clip(net: Layers, low: float | None, high: float | None) -> str:
    bounds = ["" if end is None else net.constant(end) for end in (low, high)]
    return net.add("Clip", (net.add("Conv", (net.coded("x"), net.weight((6, 3, 1, 1)))), *bounds))


STEP = 2.0**-5


@pytest.mark.parametrize(
    ("low", "high", "zero", "vanishes"),
    [
        (0.0, None, 0, True),
        (0.0, 255 * STEP, 0, True),
        (-0.0, np.inf, 0, True),
        (-4.0, 4.0, 128, True),
        (-4.0, 127 * STEP, 128, True),
        (None, None, 3, True),
        (0.0, None, 1, False),
        (0.0, 255 * STEP - 1e-5, 0, False),
        (-3.9999, 4.0, 128, False),
        (None, 3.0, 0, False),
        (np.nan, None, 0, False),
        (5.0, 1.0, 0, False),
    ],
)
def test_a_clip_that_codes_imply_vanishes(low: float | None, high: float | None, zero: int, vanishes: bool) -> None:
    net = Layers()
    proto = net.model(net.coded(_clip(net, low, high), STEP, zero), ("N", 3, 4, 4))
    ops, _, after = written(proto)
    assert ops == (["QLinearConv"] if vanishes else ["Conv", "Clip"])
    if vanishes:
        same_bits(proto, after, (2, 3, 4, 4))


@pytest.mark.parametrize("code", [np.uint8, np.int8])
@pytest.mark.parametrize("lowest", [False, True])
def test_a_relu_vanishes_into_the_lowest_code(code: type[np.uint8] | type[np.int8], lowest: bool) -> None:
    net = Layers(code)
    y = net.add("Relu", (net.add("Conv", (net.coded("x"), net.weight((6, 3, 1, 1)))),))
    least = int(np.iinfo(code).min)
    proto = net.model(net.coded(y, 0.1, least if lowest else least + 1), ("N", 3, 4, 4))
    ops, _, after = written(proto)
    assert ops == (["QLinearConv"] if lowest else ["Conv", "Relu"])
    if lowest:
        same_bits(proto, after, (2, 3, 4, 4))


# What stays


def left(net: Layers, y: str, shape: Sequence[int | str], note: str, rank: int | None = None) -> None:
    ops, record, _ = written(net.model(y, shape, rank))
    assert not record.rewrites
    assert not [op for op in ops if op.startswith("Q")]
    assert any(note in found for found in record.notes), record.notes


def test_a_bias_in_other_steps_stays() -> None:
    net = Layers()
    y = net.add("Conv", (net.coded("x"), net.weight((6, 3, 1, 1)), net.bias(STEPS, 0.051)))
    left(net, net.coded(y, 0.3), ("N", 3, 4, 4), "the bias is not int32 codes in the steps of x_scale w_scale")
    net = Layers()
    y = net.add("Gemm", (net.coded("x"), net.weight((5, 6), 1), net.bias(STEPS, 0.06)))
    left(net, net.coded(y, 0.3), ("N", 5), "in the steps of a_scale b_scale")


def test_a_bias_of_real_numbers_and_one_that_is_scaled_stay() -> None:
    net = Layers()
    y = net.add("Conv", (net.coded("x"), net.weight((6, 3, 1, 1)), net.constant(np.ones(6, np.float32))))
    left(net, net.coded(y, 0.3), ("N", 3, 4, 4), "the bias is not int32 codes")
    for scaled, steps in (({"beta": 2.0}, 0.05), ({"alpha": 0.5}, 0.025)):
        net = Layers()
        y = net.add("Gemm", (net.coded("x"), net.weight((5, 6), 1), net.bias(STEPS, steps)), **scaled)
        left(net, net.coded(y, 0.3), ("N", 5), "alpha or beta is not 1")


def test_zero_points_that_differ_by_filter_stay() -> None:
    net = Layers()
    y = net.add("Conv", (net.coded("x"), net.weight((6, 3, 1, 1), zero=[0, 1, 0, 0, 0, 0])))
    left(net, net.coded(y, 0.3), ("N", 3, 4, 4), "the zero points of its weights differ")


@pytest.mark.parametrize("axis", [1, 2])
def test_scales_along_another_axis_stay(axis: int) -> None:
    net = Layers()
    left(net, net.coded(net.add("Conv", (net.coded("x"), net.weight((6, 6, 6, 1), axis)))), ("N", 6, 8, 4), "by filter")
    net = Layers()
    left(net, net.coded(net.add("MatMul", (net.coded("x"), net.weight((6, 6), 0)))), ("N", 6), "by column")


def test_steps_out_of_range_stay() -> None:
    net = Layers()
    y = net.add("Conv", (net.coded("x", 1e-30), net.weight((6, 3, 1, 1))))
    left(net, net.coded(y, 1e10), ("N", 3, 4, 4), "out of range")


def test_operands_that_are_no_codes_stay() -> None:
    net = Layers()
    left(net, net.coded(net.add("Conv", ("x", net.weight((6, 3, 1, 1))))), ("N", 3, 4, 4), "its operands")
    net = Layers()
    left(net, net.coded(net.add("Add", (net.coded("x"), "x"))), ("N", 3), "its operands")


def test_without_com_microsoft_only_standard_operators_are_written() -> None:
    net = Layers()
    y = net.coded(net.add("Conv", (net.coded("x"), net.weight((3, 3, 1, 1)))))
    y = net.coded(net.add("Add", (y, net.coded("x"))))
    y = net.coded(net.add("Gemm", (net.coded(net.add("Flatten", (y,))), net.weight((48, 6), 1))))
    proto = net.model(y, ("N", 3, 4, 4), 2)
    ops, record, after = written(proto, cpu())
    assert ops == ["QLinearConv", "Add", "Flatten", "Gemm"]
    assert [note for note in record.notes if "com.microsoft" in note] == [
        f"{op} on codes is an operator of com.microsoft, which the target does not allow: see --allow"
        for op in ("Add", "Gemm")
    ]
    assert [imported.domain for imported in after.opset_import] == [""]
    sessions = [Session(model.SerializeToString(), OPTIMIZED) for model in (proto, after)]
    for x in hostile((2, 3, 4, 4)):
        first, second = (np.asarray(session.run({"x": x})[0]) for session in sessions)
        assert np.array_equal(first, second, equal_nan=True)


def test_strict_writes_none() -> None:
    net = Layers()
    proto = net.model(net.coded(net.add("Conv", (net.coded("x"), net.weight((6, 3, 1, 1))))), ("N", 3, 4, 4))
    (record,) = passes.run(ir.load(proto), PASS, fp="strict")
    assert not record.rewrites


def test_explain_says_why_an_operator_stays() -> None:
    net = Layers()
    y = net.add("Conv", (net.coded("x"), net.weight((6, 3, 1, 1)), net.bias(STEPS, 0.051)))
    graph = ir.load(net.model(net.coded(y, 0.3), ("N", 3, 4, 4)))
    run = Run("fast")
    reasons = [attempt.reason for attempt in explain(graph, ToQOperator().rules(), run)]
    assert any("in the steps of x_scale w_scale" in reason for reason in reasons)


# Whole nets


@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm"])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_nets_keep_their_bits(name: str, target: str) -> None:
    topology = TOPOLOGIES[name]
    options = QuantizeStatic(target="cpu-arm" if target == "cpu-arm" else "cpu-x86")
    static = quantized(topology.graph(dynamic=True), topology.feeds(2), options, first=topology.first)
    _, record, after = written(static.after)
    assert len(record.rewrites) >= len([p for p in static.expected if not p.moves])
    assert not record.notes
    sessions = [Session(model.SerializeToString(), OPTIMIZED) for model in (static.after, after)]
    large = np.asarray(static.feeds[0]["x"], np.float32) * np.float32(30)
    for feed in (*static.feeds, {"x": large}):
        for first, second in zip(*(session.run(feed) for session in sessions), strict=True):
            assert np.array_equal(np.asarray(first), np.asarray(second), equal_nan=True)


@pytest.mark.parametrize("codes", [False, True], ids=["as it is quantized", "of operators on codes"])
@pytest.mark.parametrize("name", [name for name in TOPOLOGIES if name != "hard swish"])
def test_nets_come_back(name: str, codes: bool) -> None:
    """But for a HardSwish, which has another scale before its clip than behind it."""
    topology = TOPOLOGIES[name]
    static = quantized(topology.graph(), topology.feeds(2), first=topology.first)
    graph = ir.load(written(static.after)[2] if codes else static.after)
    passes.run(graph, "remove-quantization")
    assert not [node.op for node in graph.nodes if "uantize" in node.op or "QLinear" in node.op or "QGemm" in node.op]
    back = Session(ir.emit(graph).SerializeToString(), PLAIN).run(static.feeds[0])
    before = Session(static.before.SerializeToString(), PLAIN).run(static.feeds[0])
    for first, second in zip(before, back, strict=True):
        assert far(np.asarray(first, np.float64), np.asarray(second, np.float64)) < 0.05
