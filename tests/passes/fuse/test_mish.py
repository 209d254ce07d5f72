"""Mish in every exporter's spelling, and what only looks like it."""

import pytest

from tests.passes.fuse.spellings import fused, kept, net, steps

PASS = "fuse-mish"
BOTH = "fuse-softplus,fuse-mish"
BOUND = steps(of_one=8, of_result=8)
"""Some roundings of |x| and of what is between -1 and 1."""

CONSTANTS = "float one = {1.0}, float half = {0.5}, float twenty = {20.0}"
SPELLINGS = {
    "torch": "s = Softplus(x)  t = Tanh(s)  y = Mul(x, t)",
    "commuted": "s = Softplus(x)  t = Tanh(s)  y = Mul(t, x)",
    "plain": "e = Exp(x)  a = Add(e, one)  s = Log(a)  t = Tanh(s)  y = Mul(x, t)",
    "limited": "f = Softplus(x)  c = Greater(x, twenty)  s = Where(c, x, f)  t = Tanh(s)  y = Mul(x, t)",
}


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str) -> None:
    assert fused(net(nodes, CONSTANTS), BOTH, BOUND, opset=18).op_types == ["Mish"]
    assert fused(net(nodes, CONSTANTS), f"simplify,{BOTH},remove-dead-nodes", BOUND, opset=18).op_types == ["Mish"]
    kept(net(nodes, CONSTANTS), BOTH, fp="strict")


def test_the_opset_rises() -> None:
    found = fused(net(SPELLINGS["torch"], CONSTANTS), PASS, BOUND, opset=11)
    assert (found.op_types, found.opset) == (["Mish"], 18)


def test_special_values_pass_the_same_way() -> None:
    fused(net(SPELLINGS["torch"], CONSTANTS), PASS, BOUND, opset=18, kinds=("extreme", "special"))


NEAR_MISSES = {
    "of another x": "n = Neg(x)  s = Softplus(n)  t = Tanh(s)  y = Mul(x, t)",
    "a sum": "s = Softplus(x)  t = Tanh(s)  y = Add(x, t)",
    "no Softplus": "s = Relu(x)  t = Tanh(s)  y = Mul(x, t)",
    "another gate": "s = Softplus(x)  t = Sigmoid(s)  y = Mul(x, t)",
    "the gate squared": "s = Softplus(x)  t = Tanh(s)  y = Mul(t, t)",
    "half of Softplus": "s = Softplus(x)  h = Mul(s, half)  t = Tanh(h)  y = Mul(x, t)",
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS)


@pytest.mark.parametrize("inner", ["s", "t"])
def test_other_readers(inner: str) -> None:
    kept(net(SPELLINGS["torch"], CONSTANTS, outputs=inner), PASS)
    kept(net(f"{SPELLINGS['torch']}  z = Neg({inner})", CONSTANTS, outputs="z"), PASS)
