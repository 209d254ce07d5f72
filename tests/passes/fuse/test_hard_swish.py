"""x times its clamped line, in every spelling and order, becomes HardSwish."""

import pytest

from tests.equivalence import Ulps, rewritten, untouched
from tests.passes.fuse.spellings import fused, net, of, steps

PASS = "fuse-hard-swish"
AS_PRODUCT = "fuse-hard-swish{spell=HardSigmoid}"
BOUND = steps(of_one=16, of_result=8)
"""Some roundings of |x| times what is between 0 and 1; where the line is close to 0, x is close to -3."""

CONSTANTS = (
    "float zero = {0.0}, float one = {1.0}, float three = {3.0}, float six = {6.0}, float sixth = {0.16666667},"
    " float half = {0.5}, float minus_three = {-3.0}"
)
GATE = "a = Add(x, three)  c = Clip(a, zero, six)"
SPELLINGS = {
    "torch, opset 11": f"{GATE}  m = Mul(x, c)  y = Div(m, six)",
    "torch, by a reciprocal": f"{GATE}  m = Mul(x, c)  y = Mul(m, sixth)",
    "the gate in front": f"{GATE}  m = Mul(c, x)  y = Mul(sixth, m)",
    "the gate divided": f"{GATE}  d = Div(c, six)  y = Mul(x, d)",
    "the gate times a sixth": f"{GATE}  d = Mul(sixth, c)  y = Mul(d, x)",
    "x divided": f"{GATE}  d = Div(x, six)  y = Mul(d, c)",
    "x times a sixth, keras": f"{GATE}  d = Mul(x, sixth)  y = Mul(c, d)",
    "of HardSigmoid, torch from opset 14 on": "h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)  y = Mul(x, h)",
    "of HardSigmoid, commuted": "h = HardSigmoid<alpha = 0.16666667>(x)  y = Mul(h, x)",
    "paddle": "a = Add(x, three)  r = Relu(a)  c = Min(r, six)  m = Mul(x, c)  y = Div(m, six)",
    "tf2onnx": "a = Add(three, x)  r = Relu(a)  c = Min(r, six)  d = Mul(c, sixth)  y = Mul(x, d)",
    "Max and Min": "a = Add(x, three)  r = Max(zero, a)  c = Min(r, six)  m = Mul(x, c)  y = Div(m, six)",
    "less a negative": "a = Sub(x, minus_three)  c = Clip(a, zero, six)  m = Mul(x, c)  y = Div(m, six)",
    "the line first": "s = Mul(x, sixth)  a = Add(s, half)  c = Clip(a, zero, one)  y = Mul(x, c)",
    "the line divided": "a = Add(x, three)  s = Div(a, six)  c = Clip(s, zero, one)  y = Mul(c, x)",
}


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, BOUND)
    assert found.op_types == ["HardSwish"]
    assert found.rules == ("hard-swish",)


@pytest.mark.parametrize("name", [name for name in SPELLINGS if "HardSigmoid" not in name])
def test_as_a_product(name: str) -> None:
    found = fused(net(SPELLINGS[name], CONSTANTS), AS_PRODUCT, BOUND)
    assert sorted(found.op_types) == ["HardSigmoid", "Mul"]
    assert found.rules == ("hard-swish-as-product",)


@pytest.mark.parametrize("name", [name for name in SPELLINGS if "HardSigmoid" in name])
def test_a_product_stays_one(name: str) -> None:
    untouched(net(SPELLINGS[name], CONSTANTS), AS_PRODUCT)


@pytest.mark.parametrize("name", SPELLINGS)
def test_behind_fuse_hard_sigmoid(name: str) -> None:
    """Whichever of the passes comes first, and whatever it left of the spelling."""
    assert fused(net(SPELLINGS[name], CONSTANTS), f"fuse-hard-sigmoid,{PASS}", BOUND).op_types == ["HardSwish"]


def test_of_something_computed() -> None:
    found = fused(net(f"n = Neg(x)  {of('n', SPELLINGS['torch, opset 11'])}", CONSTANTS), PASS, BOUND)
    assert found.op_types == ["Neg", "HardSwish"]


def test_of_a_scaled_value() -> None:
    """The scale belongs to x when the line is one of the scaled value."""
    nodes = f"s = Mul(x, half)  {of('s', SPELLINGS['torch, opset 11'])}"
    assert fused(net(nodes, CONSTANTS), PASS, BOUND).op_types == ["Mul", "HardSwish"]


def test_one_after_the_other() -> None:
    first = SPELLINGS["torch, opset 11"].replace("y", "p")
    second = "b = Add(p, three)  d = Clip(b, zero, six)  n = Mul(p, d)  y = Div(n, six)"
    bound = steps(of_one=64, of_result=32)
    assert fused(net(f"{first}  {second}", CONSTANTS), PASS, bound).op_types == ["HardSwish", "HardSwish"]


def test_special_values_pass_the_same_way() -> None:
    """What overflows is x * 6 alone, so the gate is scaled here before x is multiplied by it."""
    fused(net(SPELLINGS["the gate divided"], CONSTANTS), PASS, BOUND, kinds=("extreme", "special"))


def test_the_opset_rises() -> None:
    found = fused(net(SPELLINGS["torch, opset 11"], CONSTANTS), PASS, BOUND, opset=11)
    assert (found.op_types, found.opset) == (["HardSwish"], 14)


def test_where_the_opset_cannot_rise_a_product_is_made() -> None:
    """Softmax of opset 11 over an axis that is not the last has no other form."""
    nodes = f"s = Softmax<axis = 1>(x)  {of('s', SPELLINGS['torch, opset 11'])}"
    found = fused(net(nodes, CONSTANTS), PASS, BOUND, opset=11)
    assert (sorted(found.op_types), found.opset) == (["HardSigmoid", "Mul", "Softmax"], 11)
    assert found.rules == ("hard-swish-as-product",)


def test_half_precision() -> None:
    constants = "float16 zero = {0}, float16 three = {16896}, float16 six = {17920}"
    text = net(SPELLINGS["torch, opset 11"], constants, dtype="float16")
    assert fused(text, PASS, BOUND).op_types == ["HardSwish"]


NEAR_MISSES = {
    "shift 1 % too large": (SPELLINGS["torch, opset 11"].replace("three", "k"), "3.03"),
    "height 1 % too small": (SPELLINGS["torch, opset 11"].replace("zero, six", "zero, k"), "5.94"),
    "another lower bound": (SPELLINGS["torch, opset 11"].replace("zero", "k"), "-1.0"),
    "slope of HardSigmoid 1 % off": ("h = HardSigmoid<alpha = 0.1683>(x)  y = Mul(x, h)", "1.0"),
    "HardSigmoid by default": ("h = HardSigmoid(x)  y = Mul(x, h)", "1.0"),
    "another x": (f"n = Neg(x)  {GATE}  m = Mul(n, c)  y = Div(m, six)", "1.0"),
    "HardSigmoid of another x": ("n = Neg(x)  h = HardSigmoid<alpha = 0.16666667>(n)  y = Mul(x, h)", "1.0"),
    "the gate divided by x": (f"{GATE}  m = Div(c, x)  y = Div(m, six)", "1.0"),
    "divided by the gate": (f"{GATE}  m = Div(x, c)  y = Div(m, six)", "1.0"),
    "the gate twice": (f"{GATE}  m = Mul(c, c)  y = Div(m, six)", "1.0"),
    "a sum": (f"{GATE}  m = Add(x, c)  y = Div(m, six)", "1.0"),
}


@pytest.mark.parametrize(("nodes", "k"), NEAR_MISSES.values(), ids=NEAR_MISSES)
@pytest.mark.parametrize("pipeline", [PASS, AS_PRODUCT])
def test_near_misses(nodes: str, k: str, pipeline: str) -> None:
    untouched(net(nodes, f"{CONSTANTS}, float k = {{{k}}}"), pipeline)


@pytest.mark.parametrize("inner", ["a", "c"])
def test_other_readers(inner: str) -> None:
    nodes = SPELLINGS["torch, opset 11"]
    untouched(net(f"{nodes}  z = Neg({inner})", CONSTANTS, outputs="z"), PASS)
    untouched(net(nodes, CONSTANTS, outputs=inner), PASS)


def test_a_hard_sigmoid_that_others_read_stays() -> None:
    nodes = "h = HardSigmoid<alpha = 0.16666667>(x)  y = Mul(x, h)  z = Neg(h)"
    untouched(net(nodes, CONSTANTS, outputs="z"), PASS)


def test_constants_that_change_the_shape() -> None:
    longer = CONSTANTS.replace("float three = {3.0}", "float[2,1,1] threes = {3.0, 3.0}, float three = {3.0}")
    nodes = SPELLINGS["torch, opset 11"].replace("x, three", "x, threes")
    untouched(net(nodes, longer, "1,3,4").replace("1,3,4] y", "2,3,4] y"), PASS)


FACTORS = {
    "another divisor": (f"{GATE}  m = Mul(x, c)  y = Div(m, k)", "6.06"),
    "not divided": (f"{GATE}  y = Mul(x, c)", "1.0"),
    "divided and scaled again": (f"{GATE}  m = Mul(x, c)  d = Div(m, six)  y = Mul(k, d)", "0.4"),
    "scaled before": (f"{GATE}  m = Mul(c, k)  y = Mul(x, m)", "-2.5"),
    "a product that others read": (f"{GATE}  m = Mul(x, c)  d = Div(m, six)  n = Neg(m)  y = Add(d, n)", "1.0"),
}


@pytest.mark.parametrize(("nodes", "k"), FACTORS.values(), ids=FACTORS)
def test_any_factor_stays_behind(nodes: str, k: str) -> None:
    found = rewritten(net(nodes, f"{CONSTANTS}, float k = {{{k}}}"), PASS, tolerance=Ulps(64))
    assert found.op_types[:2] == ["HardSwish", "Mul"]


def test_one_number_a_channel() -> None:
    each = CONSTANTS.replace("float three = {3.0}", "float[4] three = {3.0, 3.0, 3.0, 3.5}")
    untouched(net(SPELLINGS["torch, opset 11"], each), PASS)


def test_a_gate_that_the_caller_may_change() -> None:
    body = "g (float[N] x, float three = {3.0}) => (float[N] y) <float zero = {0.0}, float six = {6.0}>"
    untouched(f"{body} {{ {SPELLINGS['torch, opset 11']} }}", PASS)


def test_nothing_reassociates_where_that_is_not_allowed() -> None:
    untouched(net(SPELLINGS["torch, opset 11"], CONSTANTS), PASS, fp="strict")


def test_broadcast_of_x_with_its_own_gate() -> None:
    """x [N,1] times the gate of another [N,3] that broadcasts against it is no HardSwish."""
    body = "g (float[N,1] x, float[N,3] w) => (float[N,3] y)"
    nodes = SPELLINGS["torch, opset 11"].replace("Add(x", "Add(w")
    untouched(f"{body} <{CONSTANTS}> {{ {nodes} }}", PASS)


def test_doubles_have_no_kernel() -> None:
    constants = "double zero = {0.0}, double three = {3.0}, double six = {6.0}"
    for pipeline in (PASS, AS_PRODUCT):
        untouched(net(SPELLINGS["torch, opset 11"], constants, dtype="double"), pipeline)
