"""Quotients of a value and its norm, and what only looks like them."""

import numpy as np
import pytest

from tests.equivalence import Inputs
from tests.passes.fuse.spellings import fused, kept, net, steps

PASS = "fuse-lp-norm"
BOUND = steps(of_result=16)
"""No sum has terms of both signs, so that the error is relative: some roundings for each of the few terms."""
X = np.random.default_rng(0).normal(0, 2, (2, 3, 4)).astype(np.float32)
INPUTS = Inputs(values={"x": [X, X * 1e-9, X * 1e9]})

CONSTANTS = (
    "int64[1] last = {-1}, int64[1] second = {1}, int64[2] both = {1, 2}, float two = {2.0}, float one = {1.0},"
    " float half = {0.5}, float minus_half = {-0.5}, float eps = {1e-12}, int64[1] third = {2}, float three = {3.0}"
)
SPELLINGS = {
    "torch's norm": ("n = ReduceL2(x, last)  y = Div(x, n)", 2),
    "squares": ("p = Mul(x, x)  s = ReduceSum(p, last)  n = Sqrt(s)  y = Div(x, n)", 2),
    "a power": ("p = Pow(x, two)  s = ReduceSum(p, last)  n = Pow(s, half)  y = Div(x, n)", 2),
    "a sum of squares": ("s = ReduceSumSquare(x, third)  n = Sqrt(s)  y = Div(x, n)", 2),
    "a reciprocal": ("p = Mul(x, x)  s = ReduceSum(p, last)  n = Sqrt(s)  i = Reciprocal(n)  y = Mul(x, i)", 2),
    "one divided": ("n = ReduceL2(x, last)  i = Div(one, n)  y = Mul(i, x)", 2),
    "a negative power": ("p = Mul(x, x)  s = ReduceSum(p, last)  i = Pow(s, minus_half)  y = Mul(x, i)", 2),
    "sum norm": ("n = ReduceL1(x, last)  y = Div(x, n)", 1),
    "sizes": ("a = Abs(x)  n = ReduceSum(a, last)  y = Div(x, n)", 1),
    "sizes, by a reciprocal": ("a = Abs(x)  n = ReduceSum(a, last)  i = Reciprocal(n)  y = Mul(i, x)", 1),
}


@pytest.mark.parametrize(("nodes", "p"), SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str, p: int) -> None:
    text = net(nodes, CONSTANTS)
    found = fused(text, PASS, BOUND, opset=18, inputs=INPUTS)
    assert found.op_types == ["LpNormalization"]
    assert {a.name: a.i for a in found.after.graph.node[0].attribute} == {"axis": -1, "p": p}
    simplified = fused(text, f"simplify,{PASS},remove-dead-nodes", BOUND, opset=18, inputs=INPUTS)
    assert simplified.op_types == ["LpNormalization"]
    kept(text, PASS, fp="strict")


@pytest.mark.parametrize("nodes", [nodes.replace("last", "second") for nodes, _ in SPELLINGS.values()])
def test_another_axis(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, BOUND, opset=18, inputs=INPUTS)
    assert found.op_types == ["LpNormalization"]


NEAR_MISSES = {
    "torch's normalize": "n = ReduceL2(x, last)  c = Clip(n, eps)  h = Shape(x)  b = Expand(c, h)  y = Div(x, b)",
    "bounded from below": "n = ReduceL2(x, last)  c = Max(n, eps)  y = Div(x, c)",
    "epsilon added": "n = ReduceL2(x, last)  c = Add(n, eps)  y = Div(x, c)",
    "epsilon under the root": "p = Mul(x, x)  s = ReduceSum(p, last)  e = Add(s, eps)  n = Sqrt(e)  y = Div(x, n)",
    "over two axes": "n = ReduceL2(x, both)  y = Div(x, n)",
    "over all axes": "n = ReduceL2(x)  y = Div(x, n)",
    "of other data": "w = Exp(x)  n = ReduceL2(w, last)  y = Div(x, n)",
    "a mean": "p = Mul(x, x)  s = ReduceMean(p, last)  n = Sqrt(s)  y = Div(x, n)",
    "the squared norm": "p = Mul(x, x)  s = ReduceSum(p, last)  y = Div(x, s)",
    "the third power": "p = Pow(x, three)  s = ReduceSum(p, last)  n = Sqrt(s)  y = Div(x, n)",
    "times the norm": "n = ReduceL2(x, last)  y = Mul(x, n)",
    "the norm divided": "n = ReduceL2(x, last)  y = Div(n, x)",
    "the sum": "n = ReduceSum(x, last)  y = Div(x, n)",
    "the largest": "a = Abs(x)  n = ReduceMax(a, last)  y = Div(x, n)",
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS)


def test_axes_that_are_not_kept() -> None:
    kept(net("n = ReduceL2<keepdims = 0>(x, last)  y = Div(x, n)", CONSTANTS, "4,4,4"), PASS)


def test_other_readers() -> None:
    text = net("n = ReduceL2(x, last)  y = Div(x, n)", CONSTANTS).replace("3,4] y)", "3,4] y, float[N,3,M] n)")
    kept(text, PASS)
    squares = SPELLINGS["squares"][0]
    kept(net(squares, CONSTANTS, outputs="p"), PASS)


def test_an_unknown_rank() -> None:
    text = f"g (float[N] x0, int64[M] k) => (float[A,B] y) <{CONSTANTS}>"
    kept(f"{text} {{ x = Reshape(x0, k)  {SPELLINGS['squares'][0]} }}", PASS)


def test_integers_have_a_norm_of_their_own() -> None:
    """It is an integer too, and so is the quotient."""
    kept("g (int32[N,4] x) => (int32[N,4] y) <int64[1] last = {-1}> { n = ReduceL1(x, last)  y = Div(x, n) }", PASS)


def test_what_needs_no_zero() -> None:
    """A norm of 0 makes NaN when divided by, and LpNormalization defines the quotient as 0; all else stays alike."""
    x = X.copy()
    x[0, 0, 0], x[1, 1, 1] = np.nan, np.inf
    inputs = Inputs(values={"x": [x]})
    fused(net(SPELLINGS["torch's norm"][0], CONSTANTS), PASS, BOUND, opset=18, inputs=inputs)
