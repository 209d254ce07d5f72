"""Group normalisation as exporters spell it, and what only looks like it."""

import pytest

from tests.equivalence import Inputs
from tests.passes.fuse.spellings import fused, kept, net, steps

PASS = "fuse-group-norm"
BOUND = steps(of_one=2048, of_result=64)
"""As many roundings of |x| over the deviation as there are elements in a group: 24, 10 and 10 at most."""
SHAPE = "N,4,3,4"

CONSTANTS = (
    "float[2] ones = {1.0, 1.0}, float[2] zeros = {0.0, 0.0}, int64[3] groups = {0, 2, -1},"
    " int64[4] all = {0, 4, 3, 4}, float[4,1,1] scale = {0.5, -1.5, 2.0, 1.0},"
    " float[4,1,1] bias = {0.25, -3.0, 0.0, 1.0}"
)
CORE = "r = Reshape(x, groups)  i = InstanceNormalization<epsilon = 0.01>(r, ones, zeros)"
AFFINE = "m = Mul(n, scale)  y = Add(m, bias)"
SPELLINGS = {
    "torch": f"{CORE}  h = Shape(x)  n = Reshape(i, h)  {AFFINE}",
    "commuted": f"{CORE}  h = Shape(x)  n = Reshape(i, h)  m = Mul(scale, n)  y = Add(bias, m)",
    "to a known shape": f"{CORE}  n = Reshape(i, all)  {AFFINE}",
    "a scale alone": f"{CORE}  n = Reshape(i, all)  y = Mul(n, scale)",
    "a bias alone": f"{CORE}  n = Reshape(i, all)  y = Add(n, bias)",
    "neither": f"{CORE}  y = Reshape(i, all)",
}


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str) -> None:
    inputs = Inputs(bindings=[{"N": 1}, {"N": 3}])
    found = fused(net(nodes, CONSTANTS, SHAPE), PASS, BOUND, opset=21, inputs=inputs)
    assert found.op_types == ["GroupNormalization"]
    written = {a.name: a.i or a.f for a in found.after.graph.node[-1].attribute}
    assert written == {"num_groups": 2, "epsilon": pytest.approx(0.01)}
    kept(net(nodes, CONSTANTS, SHAPE), PASS, opset=21, fp="strict")


CONVOLVED = "k = Conv(x, pointwise)  g = Sigmoid(k)  c = Mul(g, k)  " + SPELLINGS["torch"].replace("(x", "(c")


def test_symbolic_extents_behind_a_convolution() -> None:
    """It refuses images without pixels, as the normalisation does."""
    inputs = Inputs(bindings=[{"N": 1, "H": 2, "W": 3}, {"N": 2, "H": 1, "W": 1}])
    constants = f"{CONSTANTS}, float[4,4,1,1] pointwise = {{{', '.join(['0.5', '-1.0', '2.0', '1.5'] * 4)}}}"
    found = fused(net(CONVOLVED, constants, "N,4,H,W"), PASS, BOUND, opset=21, inputs=inputs)
    assert found.op_types == ["Conv", "Sigmoid", "Mul", "GroupNormalization"]


def test_an_image_without_pixels() -> None:
    kept(net(SPELLINGS["torch"], CONSTANTS, "N,4,H,W"), PASS, opset=21)


def test_an_empty_batch() -> None:
    """The groups are spelled so that it runs."""
    constants = CONSTANTS.replace("{0, 2, -1}", "{-1, 2, 24}")
    kept(net(SPELLINGS["torch"], constants, SHAPE), PASS, opset=21)


def test_the_opset_rises() -> None:
    inputs = Inputs(bindings=[{"N": 2}])
    found = fused(net(SPELLINGS["to a known shape"], CONSTANTS, SHAPE), PASS, BOUND, opset=13, inputs=inputs)
    assert (found.op_types, found.opset) == (["GroupNormalization"], 21)


def test_spelled_with_means() -> None:
    """As keras spells it, by way of the instance normalisation of five axes."""
    constants = f"{CONSTANTS}, int64[5] five = {{0, 2, 2, 3, 4}}, int64[3] within = {{2, 3, 4}}, float eps = {{0.01}}"
    nodes = (
        "r = Reshape(x, five)  u = ReduceMean(r, within)  d = Sub(r, u)  p = Mul(d, d)  v = ReduceMean(p, within)"
        f"  e = Add(v, eps)  q = Sqrt(e)  i = Div(d, q)  n = Reshape(i, all)  {AFFINE}"
    )
    inputs = Inputs(bindings=[{}])
    found = fused(net(nodes, constants, "2,4,3,4"), f"fuse-instance-norm,{PASS}", BOUND, opset=21, inputs=inputs)
    assert found.op_types == ["GroupNormalization"]


TORCH = SPELLINGS["to a known shape"]
NEAR_MISSES = {
    "scales of the groups": TORCH.replace("ones", "zeros"),
    "biases of the groups": TORCH.replace("zeros", "ones"),
    "to another shape": f"{CORE}  n = Reshape(i, other)  y = Transpose<perm = [0, 1, 3, 2]>(n)",
    "the batch reshaped too": TORCH.replace("groups", "mixed"),
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    more = "int64[4] other = {0, 4, 4, 3}, int64[3] mixed = {-1, 2, 12}"
    kept(net(nodes, f"{CONSTANTS}, {more}", SHAPE), PASS, opset=21)


@pytest.mark.parametrize("inner", ["r", "i"])
def test_other_readers(inner: str) -> None:
    text = net(f"{TORCH}  z = Neg({inner})", CONSTANTS, SHAPE).replace("3,4] y)", "3,4] y, float[N,2,24] z)")
    kept(text, PASS, opset=21)


def test_scales_of_other_axes_stay() -> None:
    constants = CONSTANTS.replace("float[4,1,1] scale", "float[4] scale")
    inputs = Inputs(bindings=[{"N": 2}])
    found = fused(net(TORCH, constants, SHAPE), PASS, BOUND, opset=21, inputs=inputs)
    assert found.op_types == ["GroupNormalization", "Mul", "Add"]


def test_unknown_channels() -> None:
    nodes = f"{CORE}  h = Shape(x)  y = Reshape(i, h)"
    kept(net(nodes, CONSTANTS, "N,C,3,4"), PASS, opset=21)
