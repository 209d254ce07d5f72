"""Layer normalisation in every exporter's spelling, and what only looks like it."""

import re

import numpy as np
import pytest

from tests.equivalence import Inputs
from tests.passes.fuse.spellings import fused, kept, net, of, steps

PASS = "fuse-layer-norm"
BOUND = steps(of_one=512, of_result=32)
"""A mean of n elements is within n roundings of the largest |x|, which the inverse deviation multiplies: it is 10 at
most, for an epsilon of 0.01, and |x| is below 10."""

CONSTANTS = (
    "float two = {2.0}, float eps = {0.01}, float one = {1.0}, float half = {0.5}, float minus_half = {-0.5},"
    " float[4] scale = {0.5, -1.5, 2.0, 1.0}, float[4] bias = {0.25, -3.0, 0.0, 1.0}, float quarter = {0.25},"
    " int64[1] last = {-1}, int64[1] second = {1}, int64[2] both = {-1, 1}, int64[1] third = {2}, int64 square = {2},"
    " float three_quarters = {0.75},"
    " int64[3] kept = {-1, 3, 1}, float zero = {0.0}, float third_part = {0.33333334}, float hundred = {100.0}"
)
MEAN = "u = ReduceMean(x, last)  d = Sub(x, u)"
VARIANCE = f"{MEAN}  p = Pow(d, two)  v = ReduceMean(p, last)  e = Add(v, eps)"
AFFINE = "s = Mul(n, scale)  y = Add(s, bias)"
JAX = (
    "a = ReduceSum<keepdims = 0>(x, last)  m = Mul(a, quarter)  q = Mul(x, x)  b = ReduceSum<keepdims = 0>(q, last)"
    "  c = Mul(b, quarter)  w = Mul(m, m)  f = Sub(c, w)  v = Relu(f)  v1 = Reshape(v, kept)  e = Add(v1, eps)"
    "  r = Sqrt(e)  i = Reciprocal(r)  g = Mul(i, scale)  u = Reshape(m, kept)  d = Sub(x, u)  n = Mul(d, g)"
    "  y = Add(n, bias)"
)
RESHAPED = {
    "flax": JAX,
    "flax, without the bound": JAX.replace("v = Relu(f)  v1 = Reshape(v, kept)", "v1 = Reshape(f, kept)"),
    "flax, bounded by Max": JAX.replace("Relu(f)", "Max(zero, f)"),
    "one-pass variance with kept axes": "u = ReduceMean(x, last)  q = Pow(x, two)  c = ReduceMean(q, last)"
    f"  w = Mul(u, u)  v = Sub(c, w)  e = Add(v, eps)  r = Sqrt(e)  d = Sub(x, u)  n = Div(d, r)  {AFFINE}",
    "scaled inverse": f"{VARIANCE}  i = Pow(e, minus_half)  g = Mul(scale, i)  n = Mul(g, d)  y = Add(bias, n)",
    "torch's var_mean, dynamo": "u = ReduceMean(x, last)  z = Sub(x, u)  q = Mul(z, z)"
    "  v = ReduceMean<keepdims = 0>(q, last)  v1 = Reshape(v, kept)  a = ReduceSum<keepdims = 0>(x, last)"
    "  a1 = Unsqueeze(a, last)  m = Mul(a1, quarter)  d = Sub(x, m)  e = Add(v1, eps)  r = Sqrt(e)"
    f"  i = Reciprocal(r)  n = Mul(d, i)  {AFFINE}",
}
SPELLINGS = {
    **RESHAPED,
    "torch, opset 11": f"{VARIANCE}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "commuted": f"{MEAN}  p = Pow(d, two)  v = ReduceMean(p, last)  e = Add(eps, v)  r = Sqrt(e)"
    "  n = Div(d, r)  s = Mul(scale, n)  y = Add(bias, s)",
    "a product as the square": f"{MEAN}  p = Mul(d, d)  v = ReduceMean(p, last)  e = Add(v, eps)  r = Sqrt(e)"
    f"  n = Div(d, r)  {AFFINE}",
    "an integer exponent": f"{VARIANCE.replace('two', 'square')}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "torch's var_mean": f"u = ReduceMean(x, last)  d = Sub(x, u)  u2 = ReduceMean(x, last)  d2 = Sub(x, u2)"
    f"  p = Mul(d2, d2)  v = ReduceMean(p, last)  e = Add(v, eps)  r = Sqrt(e)  i = Div(one, r)"
    f"  n = Mul(d, i)  {AFFINE}",
    "two differences of one mean, old torch": "u = ReduceMean(x, last)  d = Sub(x, u)  d2 = Sub(x, u)  p = Pow(d2, two)"
    f"  v = ReduceMean(p, last)  e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "torch, dynamo": f"{VARIANCE}  r = Sqrt(e)  i = Reciprocal(r)  n = Mul(d, i)  {AFFINE}",
    "a negative power": f"{VARIANCE}  i = Pow(e, minus_half)  n = Mul(i, d)  {AFFINE}",
    "the power of a half": f"{VARIANCE}  r = Pow(e, half)  n = Div(d, r)  {AFFINE}",
    "sums": "t = ReduceSum(x, last)  u = Mul(t, quarter)  d = Sub(x, u)  p = Mul(d, d)  q = ReduceSum(p, last)"
    f"  v = Mul(q, quarter)  e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "a sum of squares": f"{MEAN}  q = ReduceSumSquare(d, last)  v = Mul(q, quarter)  e = Add(v, eps)  r = Sqrt(e)"
    f"  n = Div(d, r)  {AFFINE}",
    "the difference reversed, squared": f"u = ReduceMean(x, last)  d = Sub(x, u)  d2 = Sub(u, x)  p = Mul(d2, d2)"
    f"  v = ReduceMean(p, last)  e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "the axis counted from the front": f"{VARIANCE.replace('last', 'third')}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "tf2onnx": "u = ReduceMean(x, last)  d = Sub(x, u)  p = Mul(d, d)  v = ReduceMean(p, last)  e = Add(v, eps)"
    "  r = Sqrt(e)  i = Reciprocal(r)  g = Mul(i, scale)  a = Mul(x, g)  b = Mul(u, g)  c = Sub(bias, b)"
    "  y = Add(a, c)",
    "keras 3": "u = ReduceMean(x, last)  d = Sub(x, u)  p = Mul(d, d)  v = ReduceMean(p, last)  e = Add(v, eps)"
    "  r = Sqrt(e)  i = Div(one, r)  g = Mul(scale, i)  a = Mul(x, g)  m = Neg(u)  b = Mul(m, g)  c = Add(b, bias)"
    "  y = Add(a, c)",
    "keras 3, commuted": "u = ReduceMean(x, last)  d = Sub(x, u)  p = Mul(d, d)  v = ReduceMean(p, last)"
    "  e = Add(v, eps)  i = Pow(e, minus_half)  g = Mul(i, scale)  a = Mul(g, x)  m = Neg(u)  b = Mul(g, m)"
    "  c = Add(bias, b)  y = Add(c, a)",
}
BARE = {
    "no scale and no bias": f"{VARIANCE}  r = Sqrt(e)  y = Div(d, r)",
    "a scale alone": f"{VARIANCE}  r = Sqrt(e)  n = Div(d, r)  y = Mul(n, scale)",
    "a bias alone": f"{VARIANCE}  r = Sqrt(e)  n = Div(d, r)  y = Add(n, bias)",
    "distributed without either": f"{VARIANCE}  r = Sqrt(e)  i = Reciprocal(r)  a = Mul(x, i)  b = Mul(u, i)"
    "  y = Sub(a, b)",
    "distributed with a scale alone": f"{VARIANCE}  r = Sqrt(e)  i = Reciprocal(r)  g = Mul(i, scale)  a = Mul(x, g)"
    "  b = Mul(u, g)  y = Sub(a, b)",
}


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, BOUND, opset=18)
    assert found.op_types == ["LayerNormalization"]
    node = found.after.graph.node[0]
    assert list(node.input) == ["x", "scale", "bias"]
    assert {a.name: a.i or a.f for a in node.attribute} == {"axis": -1, "epsilon": pytest.approx(0.01)}


@pytest.mark.parametrize("nodes", BARE.values(), ids=BARE)
def test_without_scale_or_bias(nodes: str) -> None:
    assert fused(net(nodes, CONSTANTS), PASS, BOUND, opset=18).op_types == ["LayerNormalization"]


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_after_they_were_simplified(nodes: str) -> None:
    pipeline = f"simplify,{PASS},remove-dead-nodes"
    assert fused(net(nodes, CONSTANTS), pipeline, BOUND, opset=18).op_types == ["LayerNormalization"]


@pytest.mark.parametrize("nodes", {**SPELLINGS, **BARE}.values(), ids={**SPELLINGS, **BARE})
def test_nothing_reassociates_where_that_is_not_allowed(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS, fp="strict")


TORCH = SPELLINGS["torch, opset 11"]


def test_two_axes() -> None:
    constants = CONSTANTS.replace("int64[1] last = {-1}", "int64[2] last = {-2, -1}")
    constants += ", float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3,1] c = {1,2,3}"
    nodes = TORCH.replace("scale", "w").replace("bias", "c")
    found = fused(net(nodes, constants), PASS, steps(of_one=4096, of_result=64), opset=18)
    assert found.op_types == ["LayerNormalization"]
    assert found.after.graph.node[0].attribute[0].i == -2


def test_old_forms_and_the_opset_that_rises() -> None:
    constants = re.sub(r"int64\[.\] \w+ = {[^}]*}, ", "", CONSTANTS)
    nodes = re.sub(r"ReduceMean\((\w+), last\)", r"ReduceMean<axes = [-1]>(\1)", TORCH)
    found = fused(net(nodes, constants), PASS, BOUND, opset=11)
    assert (found.op_types, found.opset) == (["LayerNormalization"], 17)


def test_all_axes_of_a_vector() -> None:
    nodes = TORCH.replace(", last", "")
    assert fused(net(nodes, CONSTANTS, "4"), PASS, BOUND, opset=18).op_types == ["LayerNormalization"]


def test_scale_and_bias_of_other_forms() -> None:
    for dims in ("1,4", "1,1,4"):
        constants = CONSTANTS.replace("float[4]", f"float[{dims}]")
        assert fused(net(TORCH, constants), PASS, BOUND, opset=18).op_types == ["LayerNormalization"]
    numbers = CONSTANTS.replace("float[4] scale = {0.5, -1.5, 2.0, 1.0}", "float scale = {0.5}")
    assert fused(net(TORCH, numbers), PASS, BOUND, opset=18).op_types == ["LayerNormalization"]


def test_a_computed_scale() -> None:
    """As in adaptive normalisation, where it is one for the whole batch."""
    text = f"g (float[N,3,4] x, float[4] k, float[4] c) => (float[N,3,4] y) <{CONSTANTS}> {{ {TORCH} }}"
    found = fused(text.replace("scale)", "k)").replace("bias)", "c)"), PASS, BOUND, opset=18)
    assert found.op_types == ["LayerNormalization"]


def test_what_follows_stays() -> None:
    """A second scale, and a residual of the full shape."""
    nodes = f"{TORCH.replace('y =', 't =')}  w = Mul(t, hundred)  y = Add(w, x)"
    found = fused(net(nodes, CONSTANTS), PASS, steps(of_one=65536), opset=18)
    assert found.op_types == ["LayerNormalization", "Mul", "Add"]


def test_a_normalisation_that_was_one_before() -> None:
    text = net(
        "n = LayerNormalization(x, ones, zeros)  s = Mul(n, scale)  y = Add(bias, s)",
        f"{CONSTANTS}, float[4] ones = {{1.0, 1.0, 1.0, 1.0}}, float[4] zeros = {{0.0, 0.0, 0.0, 0.0}}",
    )
    assert fused(text, PASS, BOUND, opset=17).op_types == ["LayerNormalization"]


def test_casts_around() -> None:
    inner = of("f", SPELLINGS["torch, opset 11"]).replace("y =", "z =")
    nodes = f"f = Cast<to = 1>(x)  {inner}  y = Cast<to = 10>(z)"
    found = fused(net(nodes, CONSTANTS, dtype="float16"), PASS, steps(of_one=8, of_result=4), opset=18)
    assert found.op_types == ["LayerNormalization"]
    between = nodes.replace("n =", "n32 =").replace("s = Mul(n", "n = Cast<to = 10>(n32)  s = Mul(n")
    between = between.replace("z =", "y =").replace("  y = Cast<to = 10>(z)", "")
    half = CONSTANTS.replace(
        "float[4] scale = {0.5, -1.5, 2.0, 1.0}", "float16[4] scale = {14336, 48640, 16384, 15360}"
    )
    half = half.replace("float[4] bias = {0.25, -3.0, 0.0, 1.0}", "float16[4] bias = {13312, 49664, 0, 15360}")
    found = fused(net(between, half, dtype="float16"), PASS, steps(of_one=8, of_result=4), opset=18)
    assert found.op_types == ["LayerNormalization"]


def test_casts_stay_where_the_scale_would_be_rounded() -> None:
    inner = of("f", SPELLINGS["torch, opset 11"]).replace("y =", "z =")
    nodes = f"f = Cast<to = 1>(x)  {inner}  y = Cast<to = 10>(z)"
    constants = CONSTANTS.replace("0.5, -1.5, 2.0, 1.0", "0.5, -1.5, 2.0, 1.0001")
    found = fused(net(nodes, constants, dtype="float16"), PASS, steps(of_one=8, of_result=4), opset=18)
    assert found.op_types == ["Cast", "LayerNormalization", "Cast"]


NEAR_MISSES = {
    "epsilon outside of the root": f"{MEAN}  p = Pow(d, two)  v = ReduceMean(p, last)  q = Sqrt(v)  r = Add(q, eps)"
    f"  n = Div(d, r)  {AFFINE}",
    "a root of no mean": f"{MEAN}  p = Pow(d, two)  e = Add(p, eps)  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "the power 2 %": f"{VARIANCE.replace('two', 'three_quarters')}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "variance over another axis": f"{VARIANCE.replace('(p, last)', '(p, second)')}  r = Sqrt(e)  n = Div(d, r)"
    f"  {AFFINE}",
    "mean over another axis": f"{VARIANCE.replace('(x, last)', '(x, second)')}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "both over an inner axis": f"{VARIANCE.replace('last', 'second')}  r = Sqrt(e)  y = Div(d, r)",
    "variance of other data": "w = Neg(x)  u = ReduceMean(x, last)  d = Sub(x, u)  u2 = ReduceMean(w, last)"
    f"  d2 = Sub(w, u2)  p = Mul(d2, d2)  v = ReduceMean(p, last)  e = Add(v, eps)  r = Sqrt(e)"
    f"  n = Div(d, r)  {AFFINE}",
    "the difference reversed": "u = ReduceMean(x, last)  d = Sub(u, x)  p = Pow(d, two)  v = ReduceMean(p, last)"
    f"  e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "a root too many": f"{VARIANCE}  q = Sqrt(e)  r = Sqrt(q)  n = Div(d, r)  {AFFINE}",
    "no root": f"{VARIANCE}  n = Div(d, e)  {AFFINE}",
    "multiplied by the root": f"{VARIANCE}  r = Sqrt(e)  n = Mul(d, r)  {AFFINE}",
    "divided by the inverse": f"{VARIANCE}  r = Sqrt(e)  i = Reciprocal(r)  n = Div(d, i)  {AFFINE}",
    "less epsilon": f"{VARIANCE.replace('Add(v', 'Sub(v')}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "an unbiased variance": f"{MEAN}  p = Mul(d, d)  q = ReduceSum(p, last)  v = Mul(q, third_part)  e = Add(v, eps)"
    f"  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "a maximum": f"{MEAN}  p = Mul(d, d)  v = ReduceMean(p, last)  e = Max(v, eps)  r = Sqrt(e)  n = Div(d, r)"
    f"  {AFFINE}",
    "flax, of the variance reshaped to other axes": JAX.replace("v1 = Reshape(v, kept)", "v1 = Reshape(v, other)"),
    "flax, plus the squared mean": JAX.replace("Sub(c, w)", "Add(c, w)"),
    "flax, the difference reversed": JAX.replace("Sub(c, w)", "Sub(w, c)"),
    "flax, another bound": JAX.replace("Relu(f)", "Max(f, eps)"),
    "flax, the square of another mean": JAX.replace("w = Mul(m, m)", "w = Mul(c, c)"),
    "distributed, plus the mean": SPELLINGS["tf2onnx"].replace("Sub(bias, b)", "Add(bias, b)"),
    "distributed, of the bias": SPELLINGS["tf2onnx"].replace("Sub(bias, b)", "Sub(b, bias)"),
    "distributed, another mean": SPELLINGS["tf2onnx"].replace("Mul(u, g)", "Mul(v, g)"),
    "distributed, another factor": SPELLINGS["tf2onnx"].replace("Mul(u, g)", "Mul(u, i)"),
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    shape = "N,3,4" if "other" not in nodes else "1,3,4"
    kept(net(nodes, f"{CONSTANTS}, int64[3] other = {{3, 1, 1}}", shape).replace("=> (float[1,", "=> (float[A,"), PASS)


@pytest.mark.parametrize("inner", ["u", "d", "p", "v", "e", "r"])
def test_other_readers(inner: str) -> None:
    text = net(f"{TORCH}  z = Neg({inner})", CONSTANTS).replace("[N,3,4] y)", "[N,3,4] y, float[N,3,M] z)")
    kept(text, PASS)
    kept(net(TORCH, CONSTANTS).replace("[N,3,4] y)", f"[N,3,4] y, float[N,3,M] {inner})"), PASS)


def test_other_readers_of_the_normalised_value() -> None:
    """Then scale and bias stay behind it."""
    found = fused(net(TORCH, CONSTANTS, outputs="n"), PASS, BOUND, opset=18)
    assert found.op_types == ["LayerNormalization", "Mul", "Add"]
    found = fused(net(TORCH, CONSTANTS, outputs="s"), PASS, BOUND, opset=18)
    assert found.op_types == ["LayerNormalization", "Add"]


def test_a_scale_of_other_axes_stays() -> None:
    """As where channels come first: one number for each row, whatever extents are equal."""
    constants = CONSTANTS.replace("float[4] scale", "float[4,1] scale").replace("float[4] bias", "float[4,1] bias")
    found = fused(net(TORCH, constants, "N,4,4"), PASS, BOUND, opset=18)
    assert found.op_types == ["LayerNormalization", "Mul", "Add"]


def test_a_scale_that_broadcasts_the_data_stays() -> None:
    constants = CONSTANTS.replace("float[4] scale = {0.5, -1.5, 2.0, 1.0}", "float[2,1,1] scale = {0.5, 2.0}")
    text = net(TORCH, constants, "1,3,4").replace("=> (float[1,3,4] y)", "=> (float[2,3,4] y)")
    assert fused(text, PASS, BOUND, opset=18).op_types == ["LayerNormalization", "Mul", "Add"]
    single = net(TORCH, CONSTANTS, "N,3,1").replace("=> (float[N,3,1] y)", "=> (float[N,3,4] y)")
    assert fused(single, PASS, BOUND, opset=18).op_types == ["LayerNormalization", "Mul", "Add"]


@pytest.mark.parametrize("shape", ["N,3,M", "N,3,0"])
def test_extents_that_are_not_known_or_none(shape: str) -> None:
    text = net(TORCH, CONSTANTS, shape).replace(f"=> (float[{shape}] y)", "=> (float[N,3,P] y)")
    kept(text.replace("scale)", "half)").replace("bias)", "half)"), PASS)


def test_an_unknown_rank() -> None:
    text = f"g (float[N] x0, int64[M] k) => (float[A,B,C] y) <{CONSTANTS}> {{ x = Reshape(x0, k)  {TORCH} }}"
    kept(text, PASS)


def test_axes_that_are_not_kept() -> None:
    nodes = TORCH.replace("(x, last)", "<keepdims = 0>(x, last)").replace("ReduceMean(x", "ReduceMean(x")
    text = net(nodes, CONSTANTS, "4,4,4")
    kept(text, PASS)


def test_doubles() -> None:
    """Their statistics would be worked out in single precision."""
    constants = re.sub(r"float(\[\d\])? ", r"double\1 ", CONSTANTS)
    kept(net(TORCH, constants, dtype="double"), PASS)


def test_an_epsilon_that_the_caller_may_change() -> None:
    constants = CONSTANTS.replace("float eps = {0.01}, ", "")
    text = f"g (float[N,3,4] x, float eps = {{0.01}}) => (float[N,3,4] y) <{constants}> {{ {TORCH} }}"
    kept(text, PASS)


def test_one_epsilon_an_element() -> None:
    constants = CONSTANTS.replace("float eps = {0.01}", "float[3,1] eps = {0.01, 0.02, 0.03}")
    kept(net(TORCH, constants), PASS)


def test_means_far_from_zero() -> None:
    """Both ways lose what the mean takes: the difference is within roundings of |x| over the deviation."""
    x = (100 + np.random.default_rng(0).normal(0, 1, (2, 3, 4))).astype(np.float32)
    fused(net(TORCH, CONSTANTS), PASS, steps(of_one=100 * 10 * 8), opset=18, inputs=Inputs(values={"x": [x]}))


def test_special_values_pass_the_same_way() -> None:
    """A NaN or an infinity makes NaN of its row alone."""
    x = np.random.default_rng(0).normal(0, 1, (4, 3, 4)).astype(np.float32)
    x[0, 0, 0], x[1, 1, 1], x[2, 0, 3] = np.nan, np.inf, -np.inf
    x[3, 0], x[3, 1] = 2.5, 1e-30
    fused(net(TORCH, CONSTANTS), PASS, BOUND, opset=18, inputs=Inputs(values={"x": [x]}))


def test_no_epsilon() -> None:
    """Where the exporter dropped it for being too small; rows of equal elements are NaN then, as before."""
    x = np.random.default_rng(0).normal(0, 1, (4, 3, 4)).astype(np.float32)
    x[3, 0] = 2.5
    nodes = TORCH.replace("  e = Add(v, eps)", "").replace("Sqrt(e)", "Sqrt(v)")
    found = fused(net(nodes, CONSTANTS), PASS, BOUND, opset=18, inputs=Inputs(values={"x": [x]}))
    assert found.op_types == ["LayerNormalization"]
