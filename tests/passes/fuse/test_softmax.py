"""Softmax and its logarithm in every exporter's spelling, and what only looks like them."""

import re

import numpy as np
import pytest

from tests.equivalence import Inputs
from tests.passes.fuse.spellings import fused, kept, net, steps

PASS = "fuse-softmax"
BOUND = steps(of_one=4, of_result=64)
"""The exponent is rounded, and so is each of the few terms: some steps of the result for each unit of the exponent,
which is below 20 here."""
LOG_BOUND = steps(of_one=64, of_result=8)
"""Some roundings of |x| and of its maximum, which are below 10."""

CONSTANTS = (
    "int64[1] last = {-1}, int64[1] second = {1}, int64[2] both = {1, 2}, int64[1] third = {2}, float one = {1.0},"
    " float two = {2.0}, float small = {0.000001}"
)
LESS = "g = ReduceMax(x, last)  z = Sub(x, g)"
SPELLINGS = {
    "by hand": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  y = Div(e, t)",
    "everything twice": f"{LESS}  e = Exp(z)  g2 = ReduceMax(x, last)  z2 = Sub(x, g2)  e2 = Exp(z2)"
    "  t = ReduceSum(e2, last)  y = Div(e, t)",
    "times a reciprocal": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  i = Reciprocal(t)  y = Mul(e, i)",
    "times one divided": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  i = Div(one, t)  y = Mul(i, e)",
    "axes put back": "g0 = ReduceMax<keepdims = 0>(x, last)  g = Unsqueeze(g0, last)  z = Sub(x, g)  e = Exp(z)"
    "  t0 = ReduceSum<keepdims = 0>(e, last)  t = Unsqueeze(t0, last)  y = Div(e, t)",
    "the axis counted from the front": f"{LESS}  e = Exp(z)  t = ReduceSum(e, third)  y = Div(e, t)",
    "of the logarithm": "l = LogSoftmax(x)  y = Exp(l)",
    "of ReduceLogSumExp": "t = ReduceLogSumExp(x, last)  l = Sub(x, t)  y = Exp(l)",
}
LOG_SPELLINGS = {
    "torch's logsumexp": "t = ReduceLogSumExp(x, last)  y = Sub(x, t)",
    "less the maximum": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  l = Log(t)  y = Sub(z, l)",
    "by ReduceLogSum": f"{LESS}  e = Exp(z)  l = ReduceLogSum(e, last)  y = Sub(z, l)",
    "the maximum added again": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  l = Log(t)  a = Add(l, g)  y = Sub(x, a)",
    "the maximum in front": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  l = Log(t)  a = Add(g, l)  y = Sub(x, a)",
    "ReduceLogSumExp less the maximum": f"{LESS}  t = ReduceLogSumExp(z, last)  y = Sub(z, t)",
}


@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, BOUND, opset=18)
    assert found.op_types == ["Softmax"]


@pytest.mark.parametrize("nodes", LOG_SPELLINGS.values(), ids=LOG_SPELLINGS)
def test_spellings_of_the_logarithm(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, LOG_BOUND, opset=18)
    assert found.op_types == ["LogSoftmax"]


ALL = {**SPELLINGS, **{f"log: {name}": nodes for name, nodes in LOG_SPELLINGS.items()}}


@pytest.mark.parametrize("nodes", ALL.values(), ids=ALL)
def test_nothing_reassociates_where_that_is_not_allowed(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS, fp="strict")


@pytest.mark.parametrize("nodes", ALL.values(), ids=ALL)
def test_along_another_axis(nodes: str) -> None:
    middle = nodes.replace("third", "last").replace("last", "second").replace("Softmax(x)", "Softmax<axis = 1>(x)")
    bound = steps(of_one=64, of_result=64)
    found = fused(net(middle, CONSTANTS), PASS, bound, opset=18)
    assert found.op_types in (["Softmax"], ["LogSoftmax"])
    assert found.after.graph.node[0].attribute[0].i in (1, -2)


@pytest.mark.parametrize("nodes", ALL.values(), ids=ALL)
def test_spellings_after_they_were_simplified(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), f"simplify,{PASS},remove-dead-nodes", steps(of_one=64, of_result=64), opset=18)
    assert len(found.op_types) == 1


OLD = re.sub(r"(Reduce\w+)\((\w), last\)", r"\1<axes = [-1]>(\2)", SPELLINGS["by hand"])


def test_old_forms() -> None:
    found = fused(net(OLD, "float one = {1.0}"), PASS, BOUND, opset=11)
    assert (found.op_types, found.opset) == (["Softmax"], 11)


def test_an_axis_that_old_softmax_cannot_name() -> None:
    found = fused(net(OLD.replace("-1", "1"), "float one = {1.0}"), PASS, BOUND, opset=11)
    assert (found.op_types, found.opset) == (["Softmax"], 13)


def test_old_softmax_over_all_axes_behind_is_another() -> None:
    kept(net("s = Softmax<axis = 1>(x)  y = Log(s)", "float one = {1.0}"), PASS, opset=11, fp="fast")
    kept(net("s = LogSoftmax<axis = 1>(x)  y = Exp(s)", "float one = {1.0}"), PASS, opset=11)


def test_large_arguments() -> None:
    x = np.array([[[1e4, 9999.0, -1e30, 0.0], [-1e4, -1e4, -10001.0, -3e38]]], np.float32)
    inputs = Inputs(values={"x": [x]})
    for name in ("by hand", "times a reciprocal", "the axis counted from the front"):
        fused(net(SPELLINGS[name], CONSTANTS, "N,2,4"), PASS, BOUND, opset=18, inputs=inputs)
    fused(net(LOG_SPELLINGS["less the maximum"], CONSTANTS, "N,2,4"), PASS, LOG_BOUND, opset=18, inputs=inputs)
    for name in ("the maximum added again", "torch's logsumexp"):
        fused(net(LOG_SPELLINGS[name], CONSTANTS, "N,2,4"), PASS, steps(of_one=1e4), opset=18, inputs=inputs)


def test_special_values_pass_the_same_way() -> None:
    """A NaN or an infinity makes NaN of all along the axis, and -inf, as of masks, makes 0."""
    x = np.random.default_rng(0).normal(0, 2, (4, 3, 4)).astype(np.float32)
    x[0, 0, 0], x[1, 1, 1], x[2, 0, 3], x[3, 2, :3] = np.nan, np.inf, -np.inf, -np.inf
    inputs = Inputs(values={"x": [x]})
    fused(net(SPELLINGS["by hand"], CONSTANTS), PASS, BOUND, opset=18, inputs=inputs)


def test_half_precision_and_doubles() -> None:
    for dtype in ("float16", "double"):
        text = net(SPELLINGS["by hand"], "int64[1] last = {-1}", dtype=dtype)
        assert fused(text, PASS, BOUND, opset=18).op_types == ["Softmax"]


def test_what_others_read_less_the_maximum() -> None:
    """The logarithm is then one of that."""
    nodes = LOG_SPELLINGS["less the maximum"]
    found = fused(net(nodes, CONSTANTS, outputs="z"), PASS, LOG_BOUND, opset=18)
    assert found.op_types == ["ReduceMax", "Sub", "LogSoftmax"]


def test_the_logarithm_of_what_may_vanish() -> None:
    """The logarithm of 0 is minus infinity, where LogSoftmax is finite."""
    nodes = "s = Softmax(x)  y = Log(s)"
    kept(net(nodes, CONSTANTS), PASS)
    assert fused(net(nodes, CONSTANTS), PASS, LOG_BOUND, opset=18, fp="fast").op_types == ["LogSoftmax"]


NEAR_MISSES = {
    "the largest of all, far above a row": SPELLINGS["by hand"].replace("(x, last)", "(x)"),
    "logarithm: without the maximum": "e = Exp(x)  t = ReduceSum(e, last)  l = Log(t)  y = Sub(x, l)",
    "without the maximum, which overflows": "e = Exp(x)  t = ReduceSum(e, last)  y = Div(e, t)",
    "sum over two axes": SPELLINGS["by hand"].replace("(e, last)", "(e, both)"),
    "sum over all axes": SPELLINGS["by hand"].replace("(e, last)", "(e)"),
    "a mean": SPELLINGS["by hand"].replace("ReduceSum", "ReduceMean"),
    "a sum with a guard": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  a = Add(t, small)  y = Div(e, a)",
    "a guarded maximum": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  a = Max(t, small)  y = Div(e, a)",
    "the sum of other data": f"{LESS}  e = Exp(z)  n = Exp(x)  t = ReduceSum(n, last)  y = Div(e, t)",
    "the sum divided": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  y = Div(t, e)",
    "times the sum": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  y = Mul(e, t)",
    "two divided": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  i = Div(two, t)  y = Mul(i, e)",
    "no exponential": "t = ReduceSum(x, last)  y = Div(x, t)",
    "the exponential of the sum alone": "e = Exp(x)  t = ReduceSum(e, last)  y = Div(x, t)",
    "logarithm: of other data": "n = Neg(x)  t = ReduceLogSumExp(n, last)  y = Sub(x, t)",
    "logarithm: over two axes": "t = ReduceLogSumExp(x, both)  y = Sub(x, t)",
    "logarithm: the other way round": "t = ReduceLogSumExp(x, last)  y = Sub(t, x)",
    "logarithm: plus": "t = ReduceLogSumExp(x, last)  y = Add(x, t)",
    "logarithm: another maximum added": f"{LESS}  g2 = ReduceMax(x, second)  e = Exp(z)  t = ReduceSum(e, last)"
    "  l = Log(t)  a = Add(l, g2)  y = Sub(x, a)",
    "logarithm: no maximum added": f"{LESS}  e = Exp(z)  t = ReduceSum(e, last)  l = Log(t)  y = Sub(x, l)",
    "logarithm: no exponential": "t = ReduceSum(x, last)  l = Log(t)  y = Sub(x, l)",
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str) -> None:
    kept(net(nodes, CONSTANTS), PASS)


@pytest.mark.parametrize("name", ["by hand", "times a reciprocal"])
def test_a_maximum_over_another_axis_stays(name: str) -> None:
    """For it differs along the axis of the sum."""
    kept(net(SPELLINGS[name].replace("(x, last)", "(x, second)"), CONSTANTS), PASS)
    kept(net(SPELLINGS[name].replace("(e, last)", "(e, second)"), CONSTANTS), PASS)
    nodes = LOG_SPELLINGS["less the maximum"].replace("(x, last)", "(x, second)")
    kept(net(nodes, CONSTANTS), PASS)
    nodes = LOG_SPELLINGS["the maximum added again"].replace("(x, last)", "(x, second)")
    kept(net(nodes, CONSTANTS), PASS)


def test_other_readers() -> None:
    kept(net(SPELLINGS["by hand"], CONSTANTS, outputs="e"), PASS)
    kept(net(f"{SPELLINGS['by hand']}  w = Neg(e)", CONSTANTS, outputs="w"), PASS)
    found = fused(net(SPELLINGS["by hand"], CONSTANTS, outputs="z"), PASS, BOUND, opset=18)
    assert found.op_types == ["ReduceMax", "Sub", "Softmax"]


def test_other_readers_of_the_sum() -> None:
    text = net(SPELLINGS["by hand"], CONSTANTS).replace("[N,3,4] y)", "[N,3,4] y, float[N,3,M] t)")
    kept(text, PASS)


def test_axes_that_are_not_kept() -> None:
    nodes = SPELLINGS["by hand"].replace("ReduceSum(e", "ReduceSum<keepdims = 0>(e")
    kept(net(nodes, CONSTANTS, "4,4,4"), PASS)


def test_axes_that_the_caller_gives() -> None:
    text = f"g (float[N,4] x, int64[1] last) => (float[N,4] y) {{ {SPELLINGS['by hand']} }}"
    kept(text, PASS)


def test_no_axes_at_all() -> None:
    kept(net("e = Exp(x)  t = ReduceSum<noop_with_empty_axes = 1>(e)  y = Div(e, t)", CONSTANTS), PASS)


def test_integers_have_no_exponential_but_unknown_ranks_there_are() -> None:
    text = f"g (float[N] x0, int64[M] k) => (float[A,B] y) <{CONSTANTS}>"
    kept(f"{text} {{ x = Reshape(x0, k)  {SPELLINGS['by hand']} }}", PASS)
