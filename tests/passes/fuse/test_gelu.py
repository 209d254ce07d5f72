"""Gelu in every exporter's spelling, and what only looks like it."""

import pytest

from tests.equivalence import Inputs, untouched
from tests.passes.fuse.spellings import fused, net, of, steps

PASS = "fuse-gelu"
ERF = steps(of_one=8, of_result=8)
"""Erf is within some steps of 1, and so is its sum with 1; x and what the gate loses where it is close to 0 cancel."""
TANH = steps(of_one=16, of_result=16)

CONSTANTS = (
    "float one = {1.0}, float two = {2.0}, float half = {0.5}, float minus_one = {-1.0}, float three = {3.0},"
    " float root = {1.4142135}, float inverse = {0.70710677}, float quarter = {0.25},"
    " float k = {0.7978846}, float c = {0.044715}, float kc = {0.035677407}, int64 cube = {3}"
)
GATE = "d = Div(x, root)  e = Erf(d)  a = Add(e, one)"
ERF_SPELLINGS = {
    "torch, opset 11": f"{GATE}  m = Mul(x, a)  y = Mul(m, half)",
    "torch, dynamo": f"{GATE}  m = Mul(half, a)  y = Mul(x, m)",
    "by a reciprocal": "d = Mul(x, inverse)  e = Erf(d)  a = Add(one, e)  m = Mul(a, x)  y = Mul(half, m)",
    "half of x, megatron": f"m = Mul(x, half)  {GATE}  y = Mul(m, a)",
    "half of x, commuted": f"m = Mul(half, x)  {GATE}  y = Mul(a, m)",
    "divided by two": f"{GATE}  m = Mul(x, a)  y = Div(m, two)",
    "x divided by two": f"{GATE}  m = Div(x, two)  y = Mul(m, a)",
    "keras, the gate first": "d = Mul(inverse, x)  e = Erf(d)  a = Add(one, e)  m = Mul(half, a)  y = Mul(x, m)",
    "halves inside": "d = Mul(x, inverse)  e = Erf(d)  h = Mul(e, half)  a = Add(h, half)  y = Mul(x, a)",
    "less minus one": "d = Mul(x, inverse)  e = Erf(d)  a = Sub(e, minus_one)  m = Mul(x, a)  y = Mul(m, half)",
    "a quarter and two": f"{GATE}  m = Mul(x, quarter)  p = Mul(m, a)  y = Mul(p, two)",
}
END = "e = Tanh(s)  a = Add(e, one)  m = Mul(x, half)  y = Mul(m, a)"
TANH_SPELLINGS = {
    "torch, opset 11": (
        "q = Mul(x, x)  p = Mul(x, q)  r = Mul(c, p)  t = Add(x, r)  s = Mul(k, t)"
        "  e = Tanh(s)  a = Add(one, e)  m = Mul(x, a)  y = Mul(half, m)"
    ),
    "torch, dynamo": (
        "p = Pow(x, three)  r = Mul(c, p)  t = Add(x, r)  s = Mul(k, t)"
        "  e = Tanh(s)  a = Add(e, one)  m = Mul(half, a)  y = Mul(x, m)"
    ),
    "gpt-2": f"p = Pow(x, three)  r = Mul(p, c)  t = Add(x, r)  s = Mul(t, k)  {END}",
    "an integer exponent": f"p = Pow(x, cube)  r = Mul(p, c)  t = Add(r, x)  s = Mul(t, k)  {END}",
    "fast gelu": f"j = Mul(x, k)  r = Mul(x, c)  q = Mul(r, x)  t = Add(q, one)  s = Mul(j, t)  {END}",
    "a square": f"q = Pow(x, two)  r = Mul(c, q)  t = Add(one, r)  j = Mul(k, x)  s = Mul(j, t)  {END}",
    "the factor on the outside": f"q = Mul(x, x)  r = Mul(q, c)  t = Add(one, r)  j = Mul(x, t)  s = Mul(j, k)  {END}",
    "distributed": f"q = Mul(x, x)  r = Mul(q, kc)  t = Add(k, r)  s = Mul(x, t)  {END}",
    "distributed over the sum": f"p = Pow(x, three)  r = Mul(p, kc)  j = Mul(k, x)  s = Add(j, r)  {END}",
    "cube as products": f"q = Mul(x, x)  p = Mul(q, x)  r = Mul(p, c)  t = Add(x, r)  s = Mul(t, k)  {END}",
}


@pytest.mark.parametrize("nodes", ERF_SPELLINGS.values(), ids=ERF_SPELLINGS)
def test_spellings_with_erf(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, ERF, opset=20)
    assert found.op_types == ["Gelu"]
    assert found.rules == ("erf-gelu",)


@pytest.mark.parametrize("nodes", TANH_SPELLINGS.values(), ids=TANH_SPELLINGS)
def test_spellings_with_tanh(nodes: str) -> None:
    found = fused(net(nodes, CONSTANTS), PASS, TANH, opset=20)
    assert found.op_types == ["Gelu"]
    assert found.after.graph.node[0].attribute[0].s == b"tanh"
    assert found.rules == ("tanh-gelu",)


ALL = {**{f"erf: {name}": nodes for name, nodes in ERF_SPELLINGS.items()}, **TANH_SPELLINGS}


@pytest.mark.parametrize("nodes", ALL.values(), ids=ALL)
def test_spellings_after_they_were_simplified(nodes: str) -> None:
    assert fused(net(nodes, CONSTANTS), f"simplify,{PASS},remove-dead-nodes", TANH, opset=20).op_types == ["Gelu"]


@pytest.mark.parametrize("nodes", ALL.values(), ids=ALL)
def test_nothing_reassociates_where_that_is_not_allowed(nodes: str) -> None:
    untouched(net(nodes, CONSTANTS), PASS, fp="strict")


def test_the_opset_rises() -> None:
    found = fused(net(ERF_SPELLINGS["torch, opset 11"], CONSTANTS), PASS, ERF, opset=11)
    assert (found.op_types, found.opset) == (["Gelu"], 20)


def test_where_the_opset_cannot_rise_all_stays() -> None:
    nodes = f"s = Softmax<axis = 1>(x)  {of('s', ERF_SPELLINGS['torch, opset 11'])}"
    assert fused(net(nodes, CONSTANTS), PASS, ERF, opset=11).rules == ()


def test_special_values_pass_the_same_way() -> None:
    """Where half of x is taken first nothing overflows: NaN, infinities and all else end the same way."""
    nodes = ERF_SPELLINGS["half of x, megatron"]
    fused(net(nodes, CONSTANTS), PASS, ERF, opset=20, kinds=("extreme", "special"))
    nodes = TANH_SPELLINGS["gpt-2"]
    fused(net(nodes, CONSTANTS), PASS, TANH, opset=20, kinds=("extreme", "special"))


def test_of_a_sum_with_a_bias() -> None:
    nodes = f"b = Add(x, quarter)  {of('b', ERF_SPELLINGS['torch, opset 11'])}"
    assert fused(net(nodes, CONSTANTS), PASS, ERF, opset=20).op_types == ["Add", "Gelu"]


def test_twice() -> None:
    first = ERF_SPELLINGS["torch, opset 11"].replace("y =", "z =")
    second = of("z", TANH_SPELLINGS["gpt-2"].replace("t =", "t2 =").replace("Mul(t,", "Mul(t2,"))
    for name in "demas":
        second = second.replace(f" {name} =", f" {name}2 =").replace(f"({name})", f"({name}2)")
        second = second.replace(f"({name},", f"({name}2,").replace(f", {name})", f", {name}2)")
    bound = steps(of_one=64, of_result=64)
    assert fused(net(f"{first}  {second}", CONSTANTS), PASS, bound, opset=20).op_types == ["Gelu", "Gelu"]


def test_a_root_of_few_digits_is_an_approximation() -> None:
    text = net(ERF_SPELLINGS["torch, opset 11"], CONSTANTS.replace("1.4142135", "1.41421"))
    untouched(text, PASS)
    found = fused(text, PASS, steps(of_one=5e-6 / 2**-23 + 8), opset=20, fp="fast")
    assert found.rules == ("rough-erf-gelu",)


def test_half_precision() -> None:
    constants = "float16 one = {15360}, float16 half = {14336}, float16 root = {15784}"
    text = net(ERF_SPELLINGS["torch, opset 11"], constants, dtype="float16")
    found = fused(text, PASS, ERF, opset=20)
    assert found.op_types == ["Gelu"]


NEAR_MISSES = {
    "root 1 % too large": (ERF_SPELLINGS["torch, opset 11"], "1.4142135", "1.428"),
    "half 1 % too small": (ERF_SPELLINGS["torch, opset 11"], "{0.5}", "{0.495}"),
    "one 1 % too large": (ERF_SPELLINGS["torch, opset 11"], "{1.0}", "{1.01}"),
    "erf of a multiple": (ERF_SPELLINGS["torch, opset 11"].replace("Div", "Mul"), "", ""),
    "the root divided by x": (ERF_SPELLINGS["torch, opset 11"].replace("Div(x, root)", "Div(root, x)"), "", ""),
    "Erf from 1": (ERF_SPELLINGS["torch, opset 11"].replace("Add(e, one)", "Sub(one, e)"), "", ""),
    "1 from Erf": (ERF_SPELLINGS["torch, opset 11"].replace("Add(e, one)", "Sub(e, one)"), "", ""),
    "Erf itself": ("d = Div(x, root)  a = Erf(d)  m = Mul(x, a)  y = Mul(m, half)", "", ""),
    "of another x": (f"n = Neg(x)  {GATE}  m = Mul(n, a)  y = Mul(m, half)", "", ""),
    "a sum": (f"{GATE}  m = Add(x, a)  y = Mul(m, half)", "", ""),
    "coefficient 1 % too large": (TANH_SPELLINGS["gpt-2"], "0.044715", "0.04516"),
    "factor 1 % too small": (TANH_SPELLINGS["gpt-2"], "0.7978846", "0.79"),
    "the fourth power": (TANH_SPELLINGS["gpt-2"], "{3.0}", "{4.0}"),
    "the power 2.5": (TANH_SPELLINGS["gpt-2"], "{3.0}", "{2.5}"),
    "x to the power of itself": (TANH_SPELLINGS["gpt-2"].replace("three", "x"), "", ""),
    "a minus": (TANH_SPELLINGS["gpt-2"].replace("Add(x", "Sub(x"), "", ""),
    "the square alone": (TANH_SPELLINGS["gpt-2"], "{3.0}", "{2.0}"),
    "no cube": (f"s = Mul(x, k)  {END}", "", ""),
    "a shift": (f"p = Pow(x, three)  r = Mul(p, c)  t = Add(x, r)  u = Add(t, one)  s = Mul(u, k)  {END}", "", ""),
    "Sigmoid": (TANH_SPELLINGS["gpt-2"].replace("Tanh", "Sigmoid"), "", ""),
    "terms that cancel": (
        f"f = Add(x, one)  g2 = Sub(f, one)  p = Pow(x, three)  r = Mul(p, c)  t = Add(g2, r)  s = Mul(t, k)  {END}",
        "",
        "",
    ),
}


@pytest.mark.parametrize(("nodes", "old", "new"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(nodes: str, old: str, new: str) -> None:
    text = net(nodes, CONSTANTS.replace(old, new) if old else CONSTANTS)
    untouched(text, PASS)
    untouched(text, PASS, fp="fast")


@pytest.mark.parametrize("inner", ["d", "e", "a", "m"])
def test_other_readers(inner: str) -> None:
    nodes = ERF_SPELLINGS["torch, opset 11"]
    untouched(net(f"{nodes}  z = Neg({inner})", CONSTANTS, outputs="z"), PASS)
    untouched(net(nodes, CONSTANTS, outputs=inner), PASS)


@pytest.mark.parametrize("inner", ["p", "r", "t", "s"])
def test_other_readers_of_the_polynomial(inner: str) -> None:
    untouched(net(TANH_SPELLINGS["gpt-2"], CONSTANTS, outputs=inner), PASS)


def test_other_readers_of_x_are_welcome() -> None:
    text = net(f"n = Neg(x)  {of('n', ERF_SPELLINGS['torch, opset 11'])}", CONSTANTS, outputs="n")
    assert fused(text, PASS, ERF, opset=20).op_types == ["Neg", "Gelu"]


def test_constants_that_change_the_shape() -> None:
    nodes = ERF_SPELLINGS["torch, opset 11"]
    for dims, shape, result in (("2,1,1", "1,3,4", "2,3,4"), ("1,1,1,1", "N,3,4", "A,B,C,D"), ("4", "N,3,1", "N,3,4")):
        count = {"2,1,1": 2, "4": 4}.get(dims, 1)
        for name, value in (("half", "0.5"), ("one", "1.0"), ("root", "1.4142135")):
            many = f"float[{dims}] {name} = {{{', '.join([value] * count)}}}"
            constants = CONSTANTS.replace(f"float {name} = {{{value}}}", many)
            text = net(nodes, constants, shape).replace(f"=> (float[{shape}] y)", f"=> (float[{result}] y)")
            untouched(text, PASS)


def test_numbers_of_rank_one() -> None:
    constants = CONSTANTS.replace("float ", "float[1] ")
    assert fused(net(TANH_SPELLINGS["gpt-2"], constants), PASS, TANH, opset=20).op_types == ["Gelu"]
    untouched(f"g (float x) => (float[1] y) <{constants}> {{ {TANH_SPELLINGS['gpt-2']} }}", PASS)


def test_constants_that_the_caller_may_change() -> None:
    body = "g (float[N] x, float half = {0.5}) => (float[N] y) <float one = {1.0}, float root = {1.4142135}>"
    untouched(f"{body} {{ {ERF_SPELLINGS['torch, opset 11']} }}", PASS)


def test_empty_and_single_extents() -> None:
    inputs = Inputs(bindings=[{"N": 0}, {"N": 1}, {"N": 2}])
    fused(net(ERF_SPELLINGS["torch, opset 11"], CONSTANTS), PASS, ERF, opset=20, inputs=inputs)


def test_in_a_nested_graph_of_a_captured_value() -> None:
    body = f"""g (float[N] x, bool b) => (float[N] y) <{CONSTANTS}> {{
        y = If(b) <
            then_branch = t () => (float[N] p) {{ {ERF_SPELLINGS["torch, opset 11"].replace("y =", "p =")} }},
            else_branch = e () => (float[N] q) {{ q = Neg(x) }}
        >
    }}"""
    assert fused(body, PASS, ERF, opset=20).op_types == ["If", "Gelu", "Neg"]
