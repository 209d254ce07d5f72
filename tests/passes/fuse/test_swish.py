"""Swish, also called SiLU, in every exporter's spelling, and what only looks like it."""

import pytest

from tests.passes.fuse.spellings import fused, kept, net, of, steps

PASS = "fuse-swish"
BOUND = steps(of_one=16, of_result=16)
"""Some roundings of |x| and of |alpha x|, which are below 20 where the gate is not 0 or 1."""

CONSTANTS = "float one = {1.0}, float k = {1.702}, float minus_one = {-1.0}, float tenth = {0.1}, float two = {2.0}"
SPELLINGS = {
    "torch": ("s = Sigmoid(x)  y = Mul(x, s)", 1.0),
    "commuted": ("s = Sigmoid(x)  y = Mul(s, x)", 1.0),
    "quick gelu, clip": ("m = Mul(x, k)  s = Sigmoid(m)  y = Mul(x, s)", 1.702),
    "quick gelu, commuted": ("m = Mul(k, x)  s = Sigmoid(m)  y = Mul(s, x)", 1.702),
    "by a tenth": ("m = Div(x, tenth)  s = Sigmoid(m)  y = Mul(s, x)", 10.0),
    "a quotient": ("n = Neg(x)  e = Exp(n)  a = Add(e, one)  y = Div(x, a)", 1.0),
    "a quotient, commuted": ("n = Mul(x, minus_one)  e = Exp(n)  a = Add(one, e)  y = Div(x, a)", 1.0),
    "a reciprocal": ("n = Neg(x)  e = Exp(n)  a = Add(e, one)  r = Reciprocal(a)  y = Mul(x, r)", 1.0),
    "one divided": ("n = Neg(x)  e = Exp(n)  a = Add(e, one)  r = Div(one, a)  y = Mul(r, x)", 1.0),
}


@pytest.mark.parametrize(("nodes", "alpha"), SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str, alpha: float) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, BOUND, opset=24)
    assert found.op_types == ["Swish"]
    assert found.after.graph.node[0].attribute[0].f == pytest.approx(alpha)
    assert fused(net(nodes, CONSTANTS), f"simplify,{PASS},remove-dead-nodes", BOUND, opset=24).op_types == ["Swish"]
    kept(net(nodes, CONSTANTS), PASS, opset=24, fp="strict")


@pytest.mark.parametrize("name", [name for name in SPELLINGS if "quotient" in name or "reciprocal" in name])
def test_where_the_opset_cannot_rise_a_product_with_sigmoid_is_made(name: str) -> None:
    nodes = f"f = Softmax<axis = 1>(x)  {of('f', SPELLINGS[name][0])}"
    found = fused(net(nodes, CONSTANTS), PASS, BOUND, opset=11)
    assert found.op_types == ["Softmax", "Sigmoid", "Mul"]
    assert found.rules == ("quotient-swish",)


@pytest.mark.parametrize("name", SPELLINGS)
def test_spelled_with_sigmoid(name: str) -> None:
    text, spelled = net(SPELLINGS[name][0], CONSTANTS), f"{PASS}{{spell=Sigmoid}}"
    if "quotient" in name or name in ("a reciprocal", "one divided"):
        assert fused(text, spelled, BOUND).op_types == ["Sigmoid", "Mul"]
    else:
        kept(text, spelled)


def test_the_opset_rises() -> None:
    found = fused(net(SPELLINGS["torch"][0], CONSTANTS), PASS, BOUND, opset=13)
    assert (found.op_types, found.opset) == (["Swish"], 24)


def test_special_values_pass_the_same_way() -> None:
    """An exponential that overflows makes 0 of the quotient, as the gate does."""
    for name in ("torch", "quick gelu, clip"):
        fused(net(SPELLINGS[name][0], CONSTANTS), PASS, BOUND, opset=24, kinds=("extreme", "special"))
    fused(net(SPELLINGS["a quotient"][0], CONSTANTS), PASS, BOUND, opset=24, kinds=("extreme",))


NEAR_MISSES = {
    "of another x": "n = Neg(x)  s = Sigmoid(n)  y = Mul(x, s)",
    "a sum": "s = Sigmoid(x)  y = Add(x, s)",
    "divided by the gate": "s = Sigmoid(x)  y = Div(x, s)",
    "a shift": "m = Add(x, k)  s = Sigmoid(m)  y = Mul(x, s)",
    "the gate squared": "s = Sigmoid(x)  y = Mul(s, s)",
    "HardSigmoid": "s = HardSigmoid(x)  y = Mul(x, s)",
    "divided by x": "m = Div(k, x)  s = Sigmoid(m)  y = Mul(x, s)",
    "a quotient: two": "n = Neg(x)  e = Exp(n)  a = Add(e, two)  y = Div(x, a)",
    "a quotient: rising": "e = Exp(x)  a = Add(e, one)  y = Div(a, x)",
    "a quotient: of another x": "w = Abs(x)  n = Neg(w)  e = Exp(n)  a = Add(e, one)  y = Div(x, a)",
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS, opset=24)


@pytest.mark.parametrize("inner", ["m", "s"])
def test_other_readers(inner: str) -> None:
    nodes = SPELLINGS["quick gelu, clip"][0]
    kept(net(nodes, CONSTANTS, outputs=inner), PASS, opset=24)
    kept(net(f"{nodes}  z = Neg({inner})", CONSTANTS, outputs="z"), PASS, opset=24)


def test_a_factor_for_each_element_or_none_that_is_known() -> None:
    nodes = SPELLINGS["quick gelu, clip"][0]
    each = CONSTANTS.replace("float k = {1.702}", "float[4] k = {1.0, 1.0, 1.0, 1.702}")
    kept(net(nodes, each), PASS, opset=24)
    kept(f"g (float[N] x, float k = {{1.702}}) => (float[N] y) {{ {nodes} }}", PASS, opset=24)
    wider = CONSTANTS.replace("float k = {1.702}", "float[2,1,1] k = {1.702, 1.702}")
    text = net(nodes, wider, "1,3,4").replace("=> (float[1,3,4] y)", "=> (float[2,3,4] y)")
    kept(text, PASS, opset=24)


def test_broadcast_of_a_gate() -> None:
    kept("g (float[N,1] x, float[N,3] w) => (float[N,3] y) { s = Sigmoid(w)  y = Mul(x, s) }", PASS, opset=24)
