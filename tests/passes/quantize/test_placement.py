"""What each target wants: types of codes, where a sum takes them, and what may vanish."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir import DType, Graph, Node
from planish.passes.quantize.placement import PLACEMENTS
from planish.passes.quantize.quantize_static import QuantizeStatic, TargetName
from tests.passes.quantize.statically import Static, quantized
from tests.passes.quantize.topologies import TOPOLOGIES, Net

IMAGE = (1, 4, 6, 6)
TENSORRT, ARM = QuantizeStatic(target="tensorrt"), QuantizeStatic(target="cpu-arm")


def block(*, shortcut: bool = False) -> Graph:
    """A residual block between two convolutions; with `shortcut`, both addends are convolutions."""
    net = Net()
    x = net.relu(net.conv(net.b.input("x", DType.FLOAT, IMAGE), 4))
    beside = net.conv(x, 4, kernel=1) if shortcut else x
    x = net.relu(net.op("Add", net.conv(net.relu(net.conv(x, 4)), 4), beside))
    net.b.output("y", net.conv(x, 4))
    return net.b.graph()


def run(graph: Graph, options: QuantizeStatic) -> Static:
    random = np.random.default_rng(2)
    return quantized(graph, [{"x": random.standard_normal(IMAGE).astype(np.float32)} for _ in range(3)], options)


def maker(node: Node, place: int) -> Node:
    operand = node.operands[place]
    assert operand is not None
    assert operand.producer is not None
    return operand.producer


def the(found: Static, op: str) -> Node:
    (node,) = (node for node in found.graph.nodes if node.op == op)
    return node


def zero_points(found: Static) -> list[tuple[DType, int]]:
    """Of the activations."""
    points = [node.operands[2] for node in found.graph.nodes if node.op == "QuantizeLinear"]
    tensors = [value.constant for value in points if value is not None and value.constant is not None]
    return [(tensor.dtype, int(np.asarray(tensor.array()))) for tensor in tensors]


def test_tensorrt_adds_what_a_convolution_gives() -> None:
    """Conv -> Add: real numbers. The other addend is codes, and so is what the Relu behind gives."""
    found = run(block(), TENSORRT)
    add = the(found, "Add")
    assert maker(add, 0).op == "Conv"
    assert maker(add, 1).op == "DequantizeLinear"
    assert found.ops.count("Relu") == 3
    coded = [node for node in found.graph.nodes if node.op == "QuantizeLinear"]
    assert [maker(node, 0).op for node in coded[1:]] == ["Relu"] * 3
    assert {dtype for dtype, _ in zero_points(found)} == {DType.INT8}
    assert {zero for _, zero in zero_points(found)} == {0}
    assert found.error() < 0.03


def test_tensorrt_fuses_one_of_two_convolutions() -> None:
    found = run(block(shortcut=True), TENSORRT)
    add = the(found, "Add")
    assert [maker(add, place).op for place in (0, 1)] == ["Conv", "DequantizeLinear"]
    codes = maker(maker(add, 1), 0)
    assert (codes.op, maker(codes, 0).op) == ("QuantizeLinear", "Conv")
    assert found.error() < 0.03


def test_tensorrt_gives_real_numbers_where_nothing_reads_codes() -> None:
    found = run(block(), TENSORRT)
    assert found.ops[-1] == "Conv"
    assert run(block(), QuantizeStatic()).ops[-2:] == ["QuantizeLinear", "DequantizeLinear"]


@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm"])
def test_the_cpu_adds_codes(target: TargetName) -> None:
    found = run(block(), QuantizeStatic(target=target))
    add = the(found, "Add")
    assert [maker(add, place).op for place in (0, 1)] == ["DequantizeLinear", "DequantizeLinear"]
    assert "Relu" not in found.ops
    dtype, least = (DType.UINT8, 0) if target == "cpu-x86" else (DType.INT8, -128)
    assert {found_type for found_type, _ in zero_points(found)} == {dtype}
    assert zero_points(found)[1] == (dtype, least)  # behind a Relu: every code stands for a number from 0 on
    assert found.error() < 0.02


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_arm_has_the_kernels_of_x86(name: str) -> None:
    """ONNX Runtime makes integer kernels of s8 times s8 on every processor; they are quick on Arm."""
    topology = TOPOLOGIES[name]
    found = quantized(topology.graph(dynamic=True), topology.feeds(), ARM, first=topology.first)
    coverage = found.coverage(qdqisint8allowed="1")
    assert coverage.is_whole, str(coverage)
    assert found.error() < 0.06


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_tensorrt_takes_every_net(name: str) -> None:
    """What is written is right: as ONNX Runtime works it out, in real numbers."""
    topology = TOPOLOGIES[name]
    found = quantized(topology.graph(), topology.feeds(), TENSORRT, first=topology.first)
    assert found.record.rewrites
    assert {dtype for dtype, _ in zero_points(found)} == {DType.INT8}
    assert {zero for _, zero in zero_points(found)} == {0}
    assert found.error() < 0.08
    for node in found.graph.nodes:  # explicit quantization of TensorRT: codes are read by DequantizeLinear alone
        if node.op == "QuantizeLinear":
            assert {user.op for user in node.result.users} == {"DequantizeLinear"}


def test_tensorrt_keeps_gates_and_biases_of_products_in_real_numbers() -> None:
    kernels = {
        name: {prediction.kernel for prediction in quantized(topology.graph(), topology.feeds(), TENSORRT).expected}
        for name, topology in TOPOLOGIES.items()
        if name in ("silu", "mixer")
    }
    assert kernels == {"silu": {"Conv", "Gemm"}, "mixer": {"MatMul"}}


def test_symmetric_codes_leave_the_lowest_out() -> None:
    assert PLACEMENTS["tensorrt"].activation_scheme.limits == (-127, 127)
    assert PLACEMENTS["cpu-x86"].activation_scheme.limits == (0, 255)
    assert PLACEMENTS["cpu-arm"].activation_scheme.limits == (-128, 127)


def test_there_is_no_placement_for_cuda() -> None:
    """It has no kernels for codes."""
    assert set(PLACEMENTS) == {"cpu-x86", "cpu-arm", "tensorrt"}
    assert all(name == placement.name for name, placement in PLACEMENTS.items())
