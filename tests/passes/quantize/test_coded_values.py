"""Codes as graphs hold them: by whatever operator, under whatever name."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from planish import ir
from planish.passes.quantize.coded_values import activations, weights
from tests.equivalence import model
from tests.passes.quantize.quantized import net, node

SCALES = "float s = {0.1}, float t = {0.2}, uint8 z = {3}, int8 w = {0}"


def test_names_scales_and_zero_points() -> None:
    body = """q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  a = Relu(d)
        a_quantized = QuantizeLinear(a, t, z)  b = DequantizeLinear(a_quantized, t, z)  y = Neg(b)"""
    found = list(activations(ir.load(model(f"g (float[N,8] x) => (float[N,8] y) <{SCALES}> {{ {body} }}"))))
    assert [(each.codes.name, each.names) for each in found] == [("q", ("x",)), ("a_quantized", ("a",))]
    assert [float(each.scale) for each in found] == [np.float32(0.1), np.float32(0.2)]
    assert all(int(each.zero_point) == 3 for each in found)


def test_operators_on_codes_and_what_moves_codes() -> None:
    body = """q = QuantizeLinear(x, s, z)  p = QLinearMatMul(q, s, z, m, t, w, t, z)  f = Flatten(p)
        r = DequantizeLinear(f, t, z)  y = Neg(r)"""
    text = f"g (float[N,2] x) => (float[N,2] y) <{SCALES}, int8[2,2] m = {{1, -2, 3, 4}}> {{ {body} }}"
    graph = ir.load(model(text))
    found = {each.codes.name: each for each in activations(graph)}
    assert list(found) == ["q", "p", "f"]
    assert float(found["p"].scale) == float(found["f"].scale) == np.float32(0.2)
    assert found["f"].names == ("r",)
    (weight,) = weights(graph)
    assert (weight.codes.name, float(weight.scale), weight.axis) == ("m", np.float32(0.2), -1)


def test_computed_scales_and_biases_are_left_out() -> None:
    body = """e = Exp(s)  q = QuantizeLinear(x, e, z)  d = DequantizeLinear(q, e, z)
        c = DequantizeLinear(b, s)  y = Add(d, c)"""
    graph = ir.load(model(f"g (float[N,2] x) => (float[N,2] y) <{SCALES}, int32[2] b = {{1, 2}}> {{ {body} }}"))
    assert not list(activations(graph))
    assert not list(weights(graph))


def test_a_weight_of_blocks_and_one_that_two_nodes_read() -> None:
    codes = helper.make_tensor("codes", TensorProto.INT4, [32, 4], np.zeros(64, np.uint8).tobytes(), raw=True)
    nodes = [
        node("DequantizeLinear", ["codes", "scales"], ["w"], axis=0, block_size=16),
        node("DequantizeLinear", ["codes", "scales"], ["v"], axis=0, block_size=16),
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["x", "v"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    proto = net(nodes, {"scales": np.ones((2, 4), np.float32)})
    proto.graph.initializer.append(codes)
    (found,) = weights(ir.load(proto))
    assert (found.block, found.axis, found.scale.shape) == (16, 0, (2, 4))
