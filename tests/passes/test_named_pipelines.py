"""Whole pipelines on models in which the passes depend on each other."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planish import ir, passes
from planish.runtime.providers import Target
from tests.equivalence import Inputs, Terms, op_types, rewritten, run, untouched
from tests.passes.fuse.nets import net, normal, statistics

BOTH = "simplify,fuse"


@pytest.mark.parametrize("pipeline", ["fuse", BOTH])
def test_dead_readers_hold_no_fusion_up(pipeline: str) -> None:
    """Were they removed at the end alone, a second run would fuse what the first could not."""
    body = "c = Conv(x, w)  dead = Exp(c)  deader = Neg(dead)  y = BatchNormalization(c, s, o, m, v)"
    source = net(body, {"w": normal(6, 4, 1, 1), **statistics(6)}, "N,4,2,2", "N,6,2,2")
    found = ir.load(source)
    passes.run(found, pipeline)
    assert op_types(ir.emit(found).graph) == ["Conv"]


def test_convolutions_that_fusing_makes_alike() -> None:
    """1 + 3 and 2 + 2: two biases that differ become one, and with them two convolutions."""
    given = {"w": normal(6, 4, 1, 1)} | {name: np.full(6, value) for name, value in (("b1", 1.0), ("b2", 2.0))}
    given |= {name: np.full((6, 1, 1), value) for name, value in (("k1", 3.0), ("k2", 2.0))}
    body = (
        "a = Conv(x, w, b1)  b = Add(a, k1)  c = Conv(x, w, b2)  d = Add(c, k2)  e = Relu(b)  f = Neg(d)  y = Add(e, f)"
    )
    found = rewritten(net(body, given, "N,4,2,2", "N,6,2,2"), BOTH, tolerance=Terms(10))
    assert found.op_types == ["Conv", "Relu", "Sub"]


def test_constants_that_folding_makes_alike() -> None:
    """They meet in the second round, and wake the pass that compares nodes."""
    text = """g (float[N,4] x) => (float[N,4] y) <int64 one = {1}> {
        s = Shape(x)  g1 = Gather(s, one)  f1 = Cast<to = 1>(g1)  a = Mul(x, f1)
        i = Sum(x)  t = Shape(i)  g2 = Gather(t, one)  f2 = Cast<to = 1>(g2)  b = Mul(i, f2)
        c = Ceil(a)  d = Abs(b)  y = Add(c, d)
    }"""
    assert rewritten(text, BOTH).op_types == ["Mul", "Ceil", "Abs", "Add"]


def quantized() -> onnx.ModelProto:
    """A convolution between quantized tensors, weights and bias in integers, as quantizers write it."""
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.001, 0.01, 8).astype(np.float32)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(128),
        "w": rng.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8),
        "ws": scales,
        "wz": np.zeros(8, np.int8),
        "b": rng.integers(-1000, 1000, 8).astype(np.int32),
        "bs": scales * np.float32(0.02),
        "bz": np.zeros(8, np.int32),
        "ys": np.float32(0.05),
        "yz": np.uint8(120),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], axis=0),
        helper.make_node("Conv", ["xd", "wd", "bd"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 9, 9])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 9, 9])]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_quantized_weights_stay_quantized() -> None:
    """ONNX Runtime computes in integers where it finds them; folded to floats they are slower and round elsewhere."""
    source = quantized()
    graph = ir.load(source)
    passes.run(graph, BOTH)
    after = ir.emit(graph)
    assert op_types(after.graph) == op_types(source.graph)
    feeds = {"x": np.random.default_rng(1).normal(0, 1, (2, 4, 9, 9)).astype(np.float32)}
    target = Target(threads=1)
    (expected,), (found,) = run(source, feeds, target), run(after, feeds, target)
    assert isinstance(expected, np.ndarray)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fp", ["strict", "default", "fast"])
def test_floating_point_modes(fp: passes.Fp) -> None:
    body = "c = Conv(x, w)  d = Add(c, k)  i = Identity(d)  y = Abs(i)"
    source = net(body, {"w": normal(6, 4, 1, 1), "k": normal(6, 1, 1)}, "N,4,2,2", "N,6,2,2")
    found = rewritten(source, BOTH, fp=fp, tolerance=Terms(10))
    assert found.op_types == (["Conv", "Add", "Abs"] if fp == "strict" else ["Conv", "Abs"])


def test_what_nothing_can_be_done_about_stays_byte_by_byte() -> None:
    for text in (
        "g (float[N] x) => (float[N] y) { y = Neg(x) }",
        "g (float[N] x, float[N] unused) => (float[N] y, float[N] z) { y = Identity(x)  z = Identity(x) }",
        "g (float[3] x, float[3] w = {1, 2, 3}) => (float[3] y) { y = Mul(x, w) }",
    ):
        untouched(text, BOTH)


def test_an_output_that_turns_out_constant() -> None:
    text = """g (float[N,4] x) => (int64[2] y, float[2] z, float[N,4] u) <
        int64[1] a = {1}, int64[1] m = {3}, float[2] w = {1, 2}
    > {
        s = Shape(x)  t = Slice(s, a, m)  y = Concat<axis = 0>(t, t)  v = Add(w, w)  z = Identity(v)  u = Identity(x)
    }"""
    found = rewritten(text, BOTH)
    assert found.op_types == ["Identity"]
    assert found.initializers["y"].tolist() == [4, 4]
    assert found.initializers["z"].tolist() == [2, 4]


def test_an_empty_batch() -> None:
    text = """g (float[N,2,3] x) => (float[N,2] y) <
        int64 zero = {0}, int64[1] axis = {0}, int64[1] minus = {-1},
        float[6,2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
    > {
        s = Shape(x)  n = Gather(s, zero)  u = Unsqueeze(n, axis)  t = Concat<axis = 0>(u, minus)  f = Reshape(x, t)
        y = Gemm(f, w)
    }"""
    found = rewritten(text, BOTH, inputs=Inputs(refusals=True))
    assert found.op_types == ["Reshape", "Gemm"]


def test_unknown_extents_of_a_branch_are_those_of_its_result() -> None:
    """Both had names of their own before the If went; a Reshape between them is none."""
    text = """g (float[N,M] x, int64[2] t) => (float[A,B] y) <
        bool on = {1}, int64 zero = {0}, int64 one = {1}, int64[1] axis = {0}
    > {
        a = Reshape(x, t)
        v = If(on) <then_branch = p () => (float[C,D] r) { r = Abs(a) },
                    else_branch = q () => (float[E,F] w) { w = Reshape(x, t) }>
        s = Shape(v)  g1 = Gather(s, zero)  u1 = Unsqueeze(g1, axis)  g2 = Gather(s, one)  u2 = Unsqueeze(g2, axis)
        k = Concat<axis = 0>(u1, u2)  b = Reshape(v, k)  y = Neg(b)
    }"""
    flat = Inputs(bindings=[{"N": 2, "M": 3}], values={"t": [np.array([3, 2]), np.array([6, 1]), np.array([-1, 0])]})
    assert rewritten(text, "simplify", inputs=flat).op_types == ["Reshape", "Abs", "Neg"]
