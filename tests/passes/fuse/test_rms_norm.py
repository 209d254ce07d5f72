"""Root mean square normalisation in every exporter's spelling, and what only looks like it."""

import re

import numpy as np
import pytest

from tests.equivalence import Inputs
from tests.passes.fuse.spellings import fused, kept, net, of, steps

PASS = "fuse-rms-norm"
BOUND = steps(of_one=1, of_result=32)
"""No sum has terms of both signs, so that the error is relative: some roundings for each of the few terms."""

CONSTANTS = (
    "float two = {2.0}, float eps = {0.000001}, float one = {1.0}, float half = {0.5}, float minus_half = {-0.5},"
    " float[4] scale = {0.5, -1.5, 2.0, 1.0}, float quarter = {0.25}, int64[1] last = {-1}, int64[1] second = {1},"
    " int64[1] third = {2}, int64 square = {2}, float third_part = {0.33333334}"
)
MEAN = "p = Pow(x, two)  v = ReduceMean(p, last)  e = Add(v, eps)"
SPELLINGS = {
    "llama, torch": f"{MEAN}  r = Sqrt(e)  i = Div(one, r)  n = Mul(x, i)  y = Mul(n, scale)",
    "llama, scale in front": f"{MEAN}  r = Sqrt(e)  i = Div(one, r)  n = Mul(x, i)  y = Mul(scale, n)",
    "dynamo": f"{MEAN}  r = Sqrt(e)  i = Reciprocal(r)  n = Mul(x, i)  y = Mul(n, scale)",
    "t5": f"{MEAN}  r = Sqrt(e)  n = Div(x, r)  y = Mul(scale, n)",
    "a product as the square": "p = Mul(x, x)  v = ReduceMean(p, last)  e = Add(eps, v)  r = Sqrt(e)  n = Div(x, r)"
    "  y = Mul(n, scale)",
    "a negative power": f"{MEAN}  i = Pow(e, minus_half)  n = Mul(i, x)  y = Mul(n, scale)",
    "the power of a half": f"{MEAN}  r = Pow(e, half)  n = Div(x, r)  y = Mul(n, scale)",
    "sums": "p = Mul(x, x)  q = ReduceSum(p, last)  v = Mul(q, quarter)  e = Add(v, eps)  r = Sqrt(e)  n = Div(x, r)"
    "  y = Mul(n, scale)",
    "a sum of squares": "q = ReduceSumSquare(x, last)  v = Mul(q, quarter)  e = Add(v, eps)  r = Sqrt(e)"
    "  n = Div(x, r)  y = Mul(n, scale)",
    "the axis counted from the front": f"{MEAN.replace('last', 'third')}  r = Sqrt(e)  n = Div(x, r)"
    "  y = Mul(n, scale)",
    "an integer exponent": f"{MEAN.replace('two', 'square')}  r = Sqrt(e)  n = Div(x, r)  y = Mul(n, scale)",
    "the inverse scaled": f"{MEAN}  r = Sqrt(e)  i = Reciprocal(r)  g = Mul(i, scale)  y = Mul(x, g)",
    "the inverse scaled, commuted": f"{MEAN}  i = Pow(e, minus_half)  g = Mul(scale, i)  y = Mul(g, x)",
    "axes put back": "p = Mul(x, x)  v = ReduceMean<keepdims = 0>(p, last)  v1 = Unsqueeze(v, last)  e = Add(v1, eps)"
    "  r = Sqrt(e)  n = Div(x, r)  y = Mul(n, scale)",
    "no scale": f"{MEAN}  r = Sqrt(e)  y = Div(x, r)",
}


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, BOUND, opset=23)
    assert found.op_types == ["RMSNormalization"]
    written = {a.name: a.i or a.f for a in found.after.graph.node[0].attribute}
    assert written == {"axis": -1, "epsilon": pytest.approx(1e-6)}


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_after_they_were_simplified(nodes: str) -> None:
    pipeline = f"simplify,{PASS},remove-dead-nodes"
    assert fused(net(nodes, CONSTANTS), pipeline, BOUND, opset=23).op_types == ["RMSNormalization"]


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_nothing_reassociates_where_that_is_not_allowed(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS, opset=23, fp="strict")


LLAMA = SPELLINGS["llama, torch"]


def test_the_opset_rises() -> None:
    found = fused(net(LLAMA, CONSTANTS), PASS, BOUND, opset=18)
    assert (found.op_types, found.opset) == (["RMSNormalization"], 23)


def test_two_axes() -> None:
    constants = CONSTANTS.replace("int64[1] last = {-1}", "int64[2] last = {1, -1}")
    constants += ", float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}"
    found = fused(net(LLAMA.replace("scale", "w"), constants), PASS, BOUND, opset=23)
    assert found.op_types == ["RMSNormalization"]
    assert found.after.graph.node[0].attribute[0].i == -2


def test_casts_around() -> None:
    """As Llama is written: single precision within, and the scale applied to what was rounded."""
    half = CONSTANTS.replace(
        "float[4] scale = {0.5, -1.5, 2.0, 1.0}", "float16[4] scale = {14336, 48640, 16384, 15360}"
    )
    inner = of("f", LLAMA).replace("n =", "n32 =").replace("y = Mul(n,", "n = Cast<to = 10>(n32)  y = Mul(n,")
    nodes = f"f = Cast<to = 1>(x)  {inner}"
    found = fused(net(nodes, half, dtype="float16"), PASS, steps(of_one=4, of_result=4), opset=23)
    assert found.op_types == ["RMSNormalization"]


def test_what_follows_a_layer_normalisation_is_none() -> None:
    nodes = LLAMA.replace("x", "d")
    kept(net(f"u = ReduceMean(x, last)  d = Sub(x, u)  {nodes}", CONSTANTS), PASS, opset=23)


def test_what_is_centred_over_another_axis_is_one() -> None:
    nodes = of("d", LLAMA)
    bound = steps(of_one=4, of_result=32)
    found = fused(net(f"u = ReduceMean(x, second)  d = Sub(x, u)  {nodes}", CONSTANTS), PASS, bound, opset=23)
    assert found.op_types == ["ReduceMean", "Sub", "RMSNormalization"]


NEAR_MISSES = {
    "epsilon outside of the root": "p = Pow(x, two)  v = ReduceMean(p, last)  q = Sqrt(v)  r = Add(q, eps)"
    "  n = Div(x, r)  y = Mul(n, scale)",
    "over an inner axis": LLAMA.replace("last", "second"),
    "of other data": f"w = Neg(x)  {LLAMA.replace('n = Mul(x, i)', 'n = Mul(w, i)')}",
    "a sum, not a mean": LLAMA.replace("ReduceMean", "ReduceSum"),
    "a sum over too few": "p = Mul(x, x)  q = ReduceSum(p, last)  v = Mul(q, third_part)  e = Add(v, eps)  r = Sqrt(e)"
    "  n = Div(x, r)  y = Mul(n, scale)",
    "no square": LLAMA.replace("Pow(x, two)", "Abs(x)"),
    "the power of a half": LLAMA.replace("Pow(x, two)", "Pow(x, half)"),
    "divided by the inverse": LLAMA.replace("Mul(x, i)", "Div(x, i)"),
    "the inverse divided": LLAMA.replace("Mul(x, i)", "Div(i, x)"),
    "a root divided by the mean": LLAMA.replace("Div(one, r)", "Div(two, r)"),
    "less epsilon": LLAMA.replace("Add(v, eps)", "Sub(v, eps)"),
    "a variance": "p = Mul(x, x)  q = ReduceMean(p, last)  u = ReduceMean(x, last)  w = Mul(u, u)  v = Sub(q, w)"
    "  e = Add(v, eps)  r = Sqrt(e)  n = Div(x, r)  y = Mul(n, scale)",
    "a maximum": LLAMA.replace("Add(v, eps)", "Max(v, eps)"),
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS, opset=23)


@pytest.mark.parametrize("inner", ["p", "v", "e", "r", "i"])
def test_other_readers(inner: str) -> None:
    text = net(f"{LLAMA}  z = Neg({inner})", CONSTANTS).replace("[N,3,4] y)", "[N,3,4] y, float[N,3,M] z)")
    kept(text, PASS, opset=23)
    kept(net(LLAMA, CONSTANTS).replace("[N,3,4] y)", f"[N,3,4] y, float[N,3,M] {inner})"), PASS, opset=23)


def test_a_scale_of_other_axes_stays() -> None:
    constants = CONSTANTS.replace("float[4] scale", "float[4,1] scale")
    found = fused(net(LLAMA, constants, "N,4,4"), PASS, BOUND, opset=23)
    assert found.op_types == ["RMSNormalization", "Mul"]


@pytest.mark.parametrize("shape", ["N,3,M", "N,3,0"])
def test_extents_that_are_not_known_or_none(shape: str) -> None:
    kept(net(SPELLINGS["no scale"], CONSTANTS, shape), PASS, opset=23)


def test_doubles_and_epsilons_that_differ_or_change() -> None:
    constants = re.sub(r"float(\[\d\])? ", r"double\1 ", CONSTANTS)
    kept(net(LLAMA, constants, dtype="double"), PASS, opset=23)
    several = CONSTANTS.replace("float eps = {0.000001}", "float[3,1] eps = {0.01, 0.02, 0.03}")
    kept(net(LLAMA, several), PASS, opset=23)
    none = CONSTANTS.replace("float eps = {0.000001}, ", "")
    kept(f"g (float[N,4] x, float eps) => (float[N,4] y) <{none}> {{ {LLAMA} }}", PASS, opset=23)


def test_special_values_pass_the_same_way() -> None:
    x = np.random.default_rng(0).normal(0, 1, (5, 3, 4)).astype(np.float32)
    x[0, 0, 0], x[1, 1, 1], x[2, 0, 3] = np.nan, np.inf, -np.inf
    x[3, 0], x[3, 1], x[4, 0] = 0, 1e-30, -0.0
    fused(net(LLAMA, CONSTANTS), PASS, BOUND, opset=23, inputs=Inputs(values={"x": [x]}))
