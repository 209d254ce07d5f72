"""Softplus in every exporter's spelling, and what only looks like it."""

import numpy as np
import pytest

from tests.equivalence import Inputs
from tests.passes.fuse.spellings import fused, kept, net, steps

PASS = "fuse-softplus"
BOUND = steps(of_one=4, of_result=4)
"""What is added to 1 is rounded to steps of 1, and so is the logarithm to its own."""

CONSTANTS = "float one = {1.0}, float zero = {0.0}, float twenty = {20.0}, float k = {1.01}, float five = {5.0}"
TAIL = "b = Abs(x)  n = Neg(b)  e = Exp(n)  a = Add(e, one)  l = Log(a)"
SPELLINGS = {
    "plain": "e = Exp(x)  a = Add(e, one)  y = Log(a)",
    "commuted": "e = Exp(x)  a = Add(one, e)  y = Log(a)",
    "guarded, TensorFlow": f"{TAIL}  r = Relu(x)  y = Add(r, l)",
    "guarded, commuted": f"{TAIL}  r = Relu(x)  y = Add(l, r)",
    "guarded by Max": f"{TAIL}  r = Max(x, zero)  y = Add(r, l)",
    "guarded by Max, commuted": f"{TAIL}  r = Max(zero, x)  y = Add(l, r)",
}
LIMITS = {
    "torch, dynamo": "s = Softplus(x)  c = Greater(x, twenty)  y = Where(c, x, s)",
    "or equal": "s = Softplus(x)  c = GreaterOrEqual(x, twenty)  y = Where(c, x, s)",
    "below": "s = Softplus(x)  c = Less(x, twenty)  y = Where(c, s, x)",
    "below or equal": "s = Softplus(x)  c = LessOrEqual(x, twenty)  y = Where(c, s, x)",
    "of a plain one": "e = Exp(x)  a = Add(e, one)  s = Log(a)  c = Greater(x, twenty)  y = Where(c, x, s)",
}
ALL = {**SPELLINGS, **LIMITS}


@pytest.mark.parametrize("nodes", ALL.values(), ids=ALL)
def test_spellings(nodes: str) -> None:
    assert fused(net(nodes, CONSTANTS), PASS, BOUND).op_types == ["Softplus"]


@pytest.mark.parametrize("nodes", ALL.values(), ids=ALL)
def test_spellings_after_they_were_simplified(nodes: str) -> None:
    assert fused(net(nodes, CONSTANTS), f"simplify,{PASS},remove-dead-nodes", BOUND).op_types == ["Softplus"]


@pytest.mark.parametrize("nodes", ALL.values(), ids=ALL)
def test_nothing_reassociates_where_that_is_not_allowed(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS, fp="strict")


def test_only_limits() -> None:
    kept(net(SPELLINGS["plain"], CONSTANTS), f"{PASS}{{only-limits=true}}")
    assert fused(net(LIMITS["below"], CONSTANTS), f"{PASS}{{only-limits=true}}", BOUND).op_types == ["Softplus"]


def test_large_and_special_values_pass_the_same_way() -> None:
    """Where nothing overflows on the way."""
    for name in ("guarded, TensorFlow", "torch, dynamo", "below"):
        fused(net(ALL[name], CONSTANTS), PASS, BOUND, kinds=("extreme", "special"))
    x = np.array([[[-1e30, -200.0, -20.0, 88.0], [-np.inf, np.nan, 20.0, 19.999998]]], np.float32)
    inputs = Inputs(values={"x": [x]})
    for nodes in ALL.values():
        fused(net(nodes, CONSTANTS, "N,2,4"), PASS, BOUND, inputs=inputs)


def test_half_precision() -> None:
    constants = "float16 one = {15360}, float16 twenty = {19712}"
    for name in ("plain", "torch, dynamo"):
        assert fused(net(ALL[name], constants, dtype="float16"), PASS, BOUND).op_types == ["Softplus"]


NEAR_MISSES = {
    "1 % more than one": SPELLINGS["plain"].replace("one", "k"),
    "less one": SPELLINGS["plain"].replace("Add(e, one)", "Sub(e, one)"),
    "no exponential": "e = Abs(x)  a = Add(e, one)  y = Log(a)",
    "no logarithm": "e = Exp(x)  a = Add(e, one)  y = Sqrt(a)",
    "a limit that is too low": LIMITS["torch, dynamo"].replace("twenty", "five"),
    "the limit on the other side": "s = Softplus(x)  c = Less(x, twenty)  y = Where(c, x, s)",
    "above it, the other way round": "s = Softplus(x)  c = Greater(x, twenty)  y = Where(c, s, x)",
    "the limit of another": "w = Neg(x)  s = Softplus(x)  c = Greater(w, twenty)  y = Where(c, x, s)",
    "another above the limit": "w = Neg(x)  s = Softplus(x)  c = Greater(x, twenty)  y = Where(c, w, s)",
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS)


PARTS = {
    "the tail of another": f"w = Exp(x)  {TAIL.replace('Abs(x)', 'Abs(w)')}  r = Relu(x)  y = Add(r, l)",
    "the tail rising": f"{TAIL.replace('n = Neg(b)', 'n = Relu(b)')}  r = Relu(x)  y = Add(r, l)",
    "another bound": SPELLINGS["guarded by Max"].replace("zero", "twenty"),
    "less the tail": f"{TAIL}  r = Relu(x)  y = Sub(r, l)",
}


@pytest.mark.parametrize("nodes", PARTS.values(), ids=PARTS)
def test_near_misses_of_a_guarded_one(nodes: str) -> None:
    """Only what is inside of them is a Softplus."""
    found = fused(net(nodes, CONSTANTS), PASS, BOUND)
    assert found.rules == ("softplus",)
    assert len(found.op_types) > 1


@pytest.mark.parametrize("inner", ["e", "a"])
def test_other_readers(inner: str) -> None:
    kept(net(SPELLINGS["plain"], CONSTANTS, outputs=inner), PASS)
    kept(net(f"{SPELLINGS['plain']}  z = Neg({inner})", CONSTANTS, outputs="z"), PASS)


def test_constants_that_change_the_shape_or_are_none() -> None:
    many = CONSTANTS.replace("float one = {1.0}", "float[2,1,1] one = {1.0, 1.0}")
    text = net(SPELLINGS["plain"], many, "1,3,4").replace("=> (float[1,3,4] y)", "=> (float[2,3,4] y)")
    kept(text, PASS)
    kept(f"g (float[N] x, float one = {{1.0}}) => (float[N] y) {{ {SPELLINGS['plain']} }}", PASS)
    higher = CONSTANTS.replace("float twenty = {20.0}", "float[1,1,1,1] twenty = {20.0}")
    kept(net(LIMITS["below"], higher).replace("=> (float[N,3,4] y)", "=> (float[A,B,C,D] y)"), PASS)


def test_a_limit_for_each_element() -> None:
    each = CONSTANTS.replace("float twenty = {20.0}", "float[4] twenty = {20.0, 20.0, 1.0, 20.0}")
    kept(net(LIMITS["below"], each), PASS)
