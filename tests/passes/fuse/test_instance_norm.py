"""Instance normalisation in several spellings, and what only looks like it."""

import numpy as np
import pytest

from tests.equivalence import Inputs
from tests.passes.fuse.spellings import fused, kept, net, steps

PASS = "fuse-instance-norm"
BOUND = steps(of_one=2048, of_result=64)
"""A mean of n elements is within n roundings of the largest |x|, below 10, which the inverse deviation multiplies: it
is 10 at most, for an epsilon of 0.01. The images have up to 20 elements."""
SHAPE = "N,3,4,5"

CONSTANTS = (
    "float two = {2.0}, float eps = {0.01}, float one = {1.0}, float minus_half = {-0.5}, float k = {0.05},"
    " float[3,1,1] scale = {0.5, -1.5, 2.0}, float[3,1,1] bias = {0.25, -3.0, 0.0}, int64[2] hw = {2, 3},"
    " int64[2] back = {-1, -2}, int64[1] last = {-1}, int64[3] chw = {1, 2, 3}"
)
CORE = "u = ReduceMean(x, hw)  d = Sub(x, u)  p = Mul(d, d)  v = ReduceMean(p, hw)  e = Add(v, eps)"
AFFINE = "s = Mul(n, scale)  y = Add(s, bias)"
SPELLINGS = {
    "tensorflow": f"{CORE}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "by a reciprocal": f"{CORE}  r = Sqrt(e)  i = Reciprocal(r)  n = Mul(d, i)  {AFFINE}",
    "by a power": f"{CORE}  i = Pow(e, minus_half)  n = Mul(i, d)  s = Mul(scale, n)  y = Add(bias, s)",
    "axes from the back": f"{CORE.replace('hw', 'back')}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "a power as the square": f"{CORE.replace('Mul(d, d)', 'Pow(d, two)')}  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "two differences": "u = ReduceMean(x, hw)  d = Sub(x, u)  d2 = Sub(x, u)  p = Mul(d2, d2)  v = ReduceMean(p, hw)"
    f"  e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "sums": "t = ReduceSum(x, hw)  u = Mul(t, k)  d = Sub(x, u)  q = ReduceSumSquare(d, hw)  v = Mul(q, k)"
    f"  e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  {AFFINE}",
    "a scale alone": f"{CORE}  r = Sqrt(e)  n = Div(d, r)  y = Mul(n, scale)",
    "a bias alone": f"{CORE}  r = Sqrt(e)  n = Div(d, r)  y = Add(n, bias)",
    "neither": f"{CORE}  r = Sqrt(e)  y = Div(d, r)",
}


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str) -> None:
    text = net(nodes, CONSTANTS, SHAPE)
    assert fused(text, PASS, BOUND, opset=18).op_types == ["InstanceNormalization"]
    simplified = fused(text, f"simplify,{PASS},remove-dead-nodes", BOUND, opset=18)
    assert simplified.op_types == ["InstanceNormalization"]
    kept(text, PASS, fp="strict")


TORCH = SPELLINGS["tensorflow"]


def test_ahead_of_layer_normalisation() -> None:
    text = net(TORCH, CONSTANTS, SHAPE)
    found = fused(text, f"{PASS},fuse-layer-norm,fuse-rms-norm", BOUND, opset=18)
    assert found.op_types == ["InstanceNormalization"]


def test_one_spatial_axis() -> None:
    constants = CONSTANTS.replace("[3,1,1]", "[3,1]").replace("int64[2] hw = {2, 3}", "int64[1] hw = {2}")
    assert fused(net(TORCH, constants, "N,3,4"), PASS, BOUND, opset=18).op_types == ["InstanceNormalization"]


def test_symbolic_extents() -> None:
    inputs = Inputs(bindings=[{"N": 2, "H": 3, "W": 5}, {"N": 1, "H": 1, "W": 1}, {"N": 0, "H": 2, "W": 2}])
    found = fused(net(TORCH, CONSTANTS, "N,3,H,W"), PASS, BOUND, opset=18, inputs=inputs)
    assert found.op_types == ["InstanceNormalization"]


def test_torch_without_affine_and_a_scale_behind() -> None:
    constants = f"{CONSTANTS}, float[3] ones = {{1.0, 1.0, 1.0}}, float[3] zeros = {{0.0, 0.0, 0.0}}"
    nodes = f"n = InstanceNormalization<epsilon = 0.01>(x, ones, zeros)  {AFFINE}"
    found = fused(net(nodes, constants, SHAPE), PASS, BOUND)
    assert found.op_types == ["InstanceNormalization"]
    assert found.rules == ("instance-norm-scale", "instance-norm-bias")
    twice = nodes.replace("zeros", "zeros").replace("x, ones", "x, half3")
    kept(net(twice, f"{constants}, float[3] half3 = {{0.5, 0.5, 0.5}}", SHAPE).replace("Add(s", "Sub(s"), PASS)


def test_a_normalisation_over_one_axis_belongs_to_fuse_layer_norm() -> None:
    """Unless one number for each channel follows."""
    constants = CONSTANTS.replace("int64[2] hw = {2, 3}", "int64[1] hw = {2}")
    kept(net(SPELLINGS["neither"], constants, "N,3,4"), PASS)
    rows = constants.replace("[3,1,1] scale = {0.5, -1.5, 2.0}", "[4] scale = {0.5, -1.5, 2.0, 1.0}")
    kept(net(SPELLINGS["a scale alone"], rows, "N,3,4"), PASS)
    pixels = CONSTANTS.replace("[3,1,1] scale = {0.5, -1.5, 2.0}", "[5] scale = {0.5, -1.5, 2.0, 1.0, 1.0}")
    kept(net(SPELLINGS["a scale alone"], pixels, SHAPE), PASS)


NEAR_MISSES = {
    "epsilon outside of the root": CORE.replace("e = Add(v, eps)", "q = Sqrt(v)")
    + f"  r = Add(q, eps)  n = Div(d, r)  {AFFINE}",
    "over one of two axes": TORCH.replace("hw", "last"),
    "over channels too": TORCH.replace("hw", "chw"),
    "a variance over other axes": TORCH.replace("(p, hw)", "(p, last)"),
    "a mean over other axes": TORCH.replace("(x, hw)", "(x, last)"),
    "not centred": TORCH.replace("Sub(x, u)", "Add(x, u)"),
    "the difference reversed": TORCH.replace("Sub(x, u)", "Sub(u, x)"),
    "no root": f"{CORE}  n = Div(d, e)  {AFFINE}",
    "multiplied by the root": TORCH.replace("Div(d, r)", "Mul(d, r)"),
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    kept(net(nodes, CONSTANTS, SHAPE), PASS)


@pytest.mark.parametrize("inner", ["u", "d", "p", "v", "e", "r"])
def test_other_readers(inner: str) -> None:
    text = net(f"{TORCH}  z = Neg({inner})", CONSTANTS, SHAPE).replace("5] y)", "5] y, float[N,3,H,W] z)")
    kept(text, PASS)


def test_unknown_channels_and_ranks() -> None:
    kept(net(SPELLINGS["neither"], CONSTANTS, "N,C,4,5"), PASS)
    text = f"g (float[N] x0, int64[M] to) => (float[A,B,C,D] y) <{CONSTANTS}>"
    kept(f"{text} {{ x = Reshape(x0, to)  {TORCH} }}", PASS)


def test_a_scale_that_broadcasts_the_batch() -> None:
    constants = CONSTANTS.replace("float[3,1,1] scale = {0.5, -1.5, 2.0}", "float[2,1,1,1] scale = {0.5, 2.0}")
    text = net(TORCH, constants, "1,3,4,5").replace("=> (float[1,3,4,5] y)", "=> (float[2,3,4,5] y)")
    kept(text, PASS)


def test_special_values_pass_the_same_way() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 5)).astype(np.float32)
    x[0, 0, 0, 0], x[1, 1, 1, 1], x[1, 2, 0, 3], x[0, 2] = np.nan, np.inf, -np.inf, 2.5
    fused(net(TORCH, CONSTANTS, SHAPE), PASS, BOUND, opset=18, inputs=Inputs(values={"x": [x]}))
