"""Clamped lines, in every spelling, become HardSigmoid."""

import pytest

from planish import ir, passes
from tests.equivalence import model, untouched
from tests.passes.fuse.spellings import fused, net, steps

PASS = "fuse-hard-sigmoid"
BOUND = steps(of_one=8)
"""Slope and intercept are rounded once more than before, and so is their sum: some steps of |alpha x| + |beta|, which
is below 2 wherever the result is strictly between 0 and 1."""

CONSTANTS = (
    "float zero = {0.0}, float one = {1.0}, float three = {3.0}, float six = {6.0}, float sixth = {0.16666667},"
    " float half = {0.5}, float fifth = {0.2}, float minus_three = {-3.0}, float five = {5.0}"
)
SPELLINGS = {
    "torch functional, opset 11": ("a = Add(x, three)  c = Clip(a, zero, six)  y = Div(c, six)", 1 / 6, 0.5),
    "torch, by a reciprocal": ("a = Add(x, three)  c = Clip(a, zero, six)  y = Mul(c, sixth)", 1 / 6, 0.5),
    "reciprocal in front": ("a = Add(three, x)  c = Clip(a, zero, six)  y = Mul(sixth, c)", 1 / 6, 0.5),
    "relu6 of mobilenet v3 in tf2onnx": (
        "a = Add(x, three)  r = Relu(a)  c = Min(r, six)  y = Mul(c, sixth)",
        1 / 6,
        0.5,
    ),
    "Min in front": ("a = Add(x, three)  r = Relu(a)  c = Min(six, r)  y = Div(c, six)", 1 / 6, 0.5),
    "Max and Min": ("a = Add(x, three)  r = Max(a, zero)  c = Min(r, six)  y = Div(c, six)", 1 / 6, 0.5),
    "Min and Max": ("a = Add(x, three)  r = Min(a, six)  c = Max(zero, r)  y = Div(c, six)", 1 / 6, 0.5),
    "Min and Relu": ("a = Add(x, three)  r = Min(a, six)  c = Relu(r)  y = Div(c, six)", 1 / 6, 0.5),
    "Relu and half a Clip": ("a = Add(x, three)  r = Relu(a)  c = Clip(r, , six)  y = Div(c, six)", 1 / 6, 0.5),
    "Clip after Relu": ("a = Add(x, three)  r = Relu(a)  c = Clip(r, zero, six)  y = Div(c, six)", 1 / 6, 0.5),
    "less a negative": ("a = Sub(x, minus_three)  c = Clip(a, zero, six)  y = Div(c, six)", 1 / 6, 0.5),
    "keras 2": ("s = Mul(x, fifth)  a = Add(s, half)  y = Clip(a, zero, one)", 0.2, 0.5),
    "keras 2 by Div": ("s = Div(x, five)  a = Add(s, half)  y = Clip(a, zero, one)", 0.2, 0.5),
    "keras 3": ("s = Mul(x, sixth)  a = Add(s, half)  y = Clip(a, zero, one)", 1 / 6, 0.5),
    "shift before scale": ("a = Add(x, three)  s = Div(a, six)  y = Clip(s, zero, one)", 1 / 6, 0.5),
    "as Relu and Min to one": ("s = Mul(x, sixth)  a = Add(s, half)  r = Relu(a)  y = Min(r, one)", 1 / 6, 0.5),
    "a scale alone": ("s = Mul(x, fifth)  y = Clip(s, zero, one)", 0.2, 0.0),
    "a shift alone": ("s = Add(x, half)  y = Clip(s, zero, one)", 1.0, 0.5),
    "a slope downwards": ("s = Mul(x, minus_three)  a = Add(s, half)  y = Clip(a, zero, one)", -3.0, 0.5),
}


@pytest.mark.parametrize(("nodes", "alpha", "beta"), SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(nodes: str, alpha: float, beta: float) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, BOUND)
    assert found.op_types == ["HardSigmoid"]
    written = {attribute.name: attribute.f for attribute in found.after.graph.node[0].attribute}
    assert written == pytest.approx({"alpha": alpha, "beta": beta}, rel=1e-6)
    assert len(found.rules) == 1


@pytest.mark.parametrize(("nodes", "alpha", "beta"), SPELLINGS.values(), ids=SPELLINGS)
def test_nothing_reassociates_where_that_is_not_allowed(nodes: str, alpha: float, beta: float) -> None:
    untouched(net(nodes, CONSTANTS), PASS, fp="strict")


@pytest.mark.parametrize("dims", ["1", "1,1,1"])
def test_numbers_of_higher_rank(dims: str) -> None:
    constants = CONSTANTS.replace("float ", f"float[{dims}] ").replace(f"[{dims}] zero", " zero")
    constants = constants.replace(f"[{dims}] six ", " six ")
    assert fused(net(SPELLINGS["shift before scale"][0], constants.replace(f"[{dims}] one", " one")), PASS, BOUND).rules


def test_a_number_written_once_an_element() -> None:
    constants = CONSTANTS.replace("float three = {3.0}", "float[4] three = {3.0, 3.0, 3.0, 3.0}")
    found = fused(net(SPELLINGS["torch functional, opset 11"][0], constants), PASS, BOUND)
    assert found.op_types == ["HardSigmoid"]


def test_special_values_pass_the_same_way() -> None:
    """NaN stays NaN, and infinities and what is very large end on the bounds."""
    for nodes in ("torch functional, opset 11", "Min and Max", "keras 2"):
        fused(net(SPELLINGS[nodes][0], CONSTANTS), PASS, BOUND, kinds=("extreme", "special"))


def test_half_precision() -> None:
    constants = "float16 zero = {0}, float16 three = {16896}, float16 six = {17920}"
    text = net("a = Add(x, three)  c = Clip(a, zero, six)  y = Div(c, six)", constants, dtype="float16")
    assert fused(text, PASS, BOUND).op_types == ["HardSigmoid"]


def test_old_forms() -> None:
    body = "g (float[N] x) => (float[N] y) <float h = {0.5}> { a = Add(x, h)  y = Clip<min = 0.0, max = 1.0>(a) }"
    assert fused(body, PASS, BOUND, opset=9).op_types == ["HardSigmoid"]


def test_two_side_by_side() -> None:
    nodes = (
        "a = Add(x, three)  c = Clip(a, zero, six)  y = Div(c, six)"
        "  s = Mul(y, fifth)  t = Add(s, half)  z = Clip(t, zero, one)"
    )
    found = fused(net(nodes, CONSTANTS, outputs="z"), PASS, BOUND)
    assert found.op_types == ["HardSigmoid", "HardSigmoid"]


def test_inside_of_a_nested_graph() -> None:
    body = """g (float[N] x, bool c) => (float[N] y) <float zero = {0.0}, float one = {1.0}, float half = {0.5}> {
        y = If(c) <
            then_branch = t () => (float[N] p) { a = Add(x, half)  p = Clip(a, zero, one) },
            else_branch = e () => (float[N] q) { q = Neg(x) }
        >
    }"""
    assert fused(body, PASS, BOUND).op_types == ["If", "HardSigmoid", "Neg"]


NEAR_MISSES = {
    "upper bound 1 % too large": ("a = Add(x, three)  c = Clip(a, zero, k)  y = Div(c, six)", "6.06"),
    "divisor 1 % too small": ("a = Add(x, three)  c = Clip(a, zero, six)  y = Div(c, k)", "5.94"),
    "no lower bound": ("a = Add(x, three)  c = Min(a, six)  y = Div(c, k)", "6.0"),
    "another lower bound": ("a = Add(x, three)  c = Clip(a, half, six)  y = Div(c, k)", "6.0"),
    "bounds that exclude each other": ("a = Add(x, half)  c = Max(a, six)  d = Min(c, k)  y = Max(d, zero)", "1.0"),
    "bounds in the wrong order": ("a = Add(x, half)  y = Clip(a, k, zero)", "1.0"),
    "a scale by zero": ("s = Mul(x, k)  a = Add(s, half)  y = Clip(a, zero, one)", "0.0"),
    "a bound alone, which is a Clip": ("y = Clip(x, zero, k)", "1.0"),
    "divided by x": ("s = Div(k, x)  y = Clip(s, zero, one)", "1.0"),
    "a number less x": ("s = Sub(k, x)  y = Clip(s, zero, one)", "0.5"),
    "divided by the clamp": ("a = Add(x, three)  c = Clip(a, zero, six)  y = Div(k, c)", "6.0"),
    "a slope beyond the attribute": ("s = Mul(x, k)  c = Clip(s, zero, six)  y = Mul(c, sixth)", "1e-45"),
}


@pytest.mark.parametrize(("nodes", "k"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str, k: str) -> None:
    untouched(net(nodes, f"{CONSTANTS}, float k = {{{k}}}"), PASS)


TORCH = SPELLINGS["torch functional, opset 11"][0]


@pytest.mark.parametrize("inner", ["a", "c"])
def test_other_readers(inner: str) -> None:
    untouched(net(f"{TORCH}  z = Neg({inner})", CONSTANTS, outputs="z"), PASS)
    untouched(net(TORCH, CONSTANTS, outputs=inner), PASS)


def test_one_number_a_channel() -> None:
    each = "{1.0, 2.0, 3.0, 4.0}"
    untouched(net(TORCH, CONSTANTS.replace("float three = {3.0}", f"float[4] three = {each}")), PASS)


def test_constants_that_change_the_shape() -> None:
    longer = CONSTANTS.replace("float three = {3.0}", "float[2,1,1] three = {3.0, 3.0}")
    untouched(net(TORCH, longer, "1,3,4").replace("1,3,4] y", "2,3,4] y"), PASS)
    higher = CONSTANTS.replace("float three = {3.0}", "float[1,1,1,1] three = {3.0}")
    untouched(net(TORCH, higher).replace("N,3,4] y", "A,B,C,D] y"), PASS)
    symbolic = CONSTANTS.replace("float three = {3.0}", "float[4] three = {3.0, 3.0, 3.0, 3.0}")
    untouched(net(TORCH, symbolic, "N").replace("N] y", "M] y"), PASS)


def test_bounds_that_the_caller_may_change() -> None:
    body = "g (float[N] x, float six = {6.0}) => (float[N] y) <float three = {3.0}, float zero = {0.0}>"
    untouched(f"{body} {{ {TORCH} }}", PASS)
    computed = "g (float[N] x, float three) => (float[N] y) <float six = {6.0}, float zero = {0.0}>"
    untouched(f"{computed} {{ {TORCH} }}", PASS)


def test_integers() -> None:
    constants = "int32 zero = {0}, int32 three = {3}, int32 six = {6}"
    untouched(
        net("a = Add(x, three)  r = Max(a, zero)  c = Min(r, six)  y = Div(c, six)", constants, "N", "int32"), PASS
    )


def test_an_unknown_rank() -> None:
    """A number of rank 0 changes no shape, whatever it is; one of rank 1 would make a vector of a scalar."""
    opaque = "g (float[N] x, int64[M] s) => (float[A,B] y)"
    reshaped = f"<{CONSTANTS}> {{ r0 = Reshape(x, s)  {TORCH.replace('(x', '(r0')} }}"
    graph = ir.load(model(f"{opaque} {reshaped}"))
    assert [rewrite.rule for record in passes.run(graph, PASS) for rewrite in record.rewrites] == ["scaled-clamp"]
    vector = reshaped.replace("float three = {3.0}", "float[1] three = {3.0}")
    untouched(f"{opaque} {vector}", PASS)


def test_doubles_have_no_kernel() -> None:
    constants = "double zero = {0.0}, double three = {3.0}, double six = {6.0}"
    untouched(net(TORCH, constants, dtype="double"), PASS)
