"""Two constants become one where the numbers stay the same, or differ by rounding alone."""

import numpy as np
import pytest

from tests.equivalence import Inputs, Rewritten, Terms, model, rewritten, untouched

PASS = "merge-arithmetic"
VECTORS = "float[4] c = {1.5, -2.5, 3.0, 0.25}, float[4] d = {2.0, -3.0, 1.0, 5.0}"
SCALARS = "float c = {1.5}, float d = {2.5}"
MIXED = "float c = {1.5}, float[4] d = {2.0, 3.0, 1.0, 5.0}"
RAISING = "float[4] c = {1.5, 2.5, 3.0, 0.25}, float[1,1,1,1] d = {2.0}"


def net(nodes: str, constants: str = SCALARS, dtype: str = "float", shape: str = "N,3,4", result: str = "") -> str:
    held = f"<{constants}>" if constants else ""
    shapes = result or ("A,B,C,D" if "[1,1,1,1]" in constants else "A,B,C")
    return f"g ({dtype}[{shape}] x) => ({dtype}[{shapes}] y) {held} {{ {nodes} }}"


def found(text: str, tolerance: Terms | None = None) -> Rewritten:
    return rewritten(model(text, 17), f"{PASS},remove-dead-nodes", tolerance=tolerance)


CHAINS = [
    ("a = Mul(x, c)  y = Mul(a, d)", "Mul"),
    ("a = Mul(c, x)  y = Mul(d, a)", "Mul"),
    ("a = Mul(x, c)  y = Div(a, d)", "Mul"),
    ("a = Div(x, c)  y = Mul(d, a)", "Mul"),
    ("a = Div(x, c)  y = Div(a, d)", "Div"),
    ("a = Add(x, c)  y = Add(a, d)", "Add"),
    ("a = Add(c, x)  y = Add(d, a)", "Add"),
    ("a = Sub(x, c)  y = Sub(a, d)", "Sub"),
    ("a = Sub(x, c)  y = Sub(d, a)", "Sub"),
    ("a = Sub(c, x)  y = Add(d, a)", "Sub"),
]


@pytest.mark.parametrize("constants", [SCALARS, MIXED, RAISING, "float[3,1] c={2, 3, 5}, float[1] d={4}"])
@pytest.mark.parametrize(("chain", "op"), CHAINS)
def test_within_rounding(chain: str, op: str, constants: str) -> None:
    text = net(chain, constants)
    result = found(text, Terms(8))
    assert result.op_types == [op]
    (constant,) = result.initializers.values()
    shapes = [tuple(tensor.dims) for tensor in model(text).graph.initializer]
    assert constant.shape == np.broadcast_shapes(*shapes)
    untouched(text, PASS, fp="strict")


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("a = Add(x, c)  y = Sub(a, d)", ("Add", [-1.0])),
        ("a = Sub(x, c)  y = Add(a, d)", ("Add", [1.0])),
        ("a = Add(x, c)  y = Sub(d, a)", ("Sub", [1.0])),
        ("a = Sub(c, x)  y = Sub(a, d)", ("Sub", [-1.0])),
    ],
)
def test_differences_of_constants(chain: str, expected: tuple[str, list[float]]) -> None:
    swapped = net(chain, "float c = {1.0}, float d = {2.0}")
    result = found(swapped, Terms(8))
    assert (result.op_types, [c.item() for c in result.initializers.values()]) == ([expected[0]], expected[1])


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize(
    "chain",
    [
        *(chain for chain, _ in CHAINS if "Div" not in chain),
        "a = Add(x, c)  y = Sub(a, d)",
        "a = Sub(x, c)  y = Add(a, d)",
        "a = Add(x, c)  y = Sub(d, a)",
        "a = Sub(c, x)  y = Sub(a, d)",
        "a = Neg(x)  y = Mul(a, c)",
        "a = Mul(x, d)  y = Neg(a)",
    ],
)
def test_integers_wrap_around_alike(chain: str, dtype: str) -> None:
    largest = 2**31 - 1 if dtype == "int32" else 2**63 - 1
    constants = f"{dtype} c = {{{-largest - 1}}}, {dtype}[4] d = {{3, {largest}, -1, 1000003}}"
    result = found(net(chain, constants, dtype))
    assert len(result.op_types) == 1


@pytest.mark.parametrize(
    ("chain", "op", "value"),
    [
        ("a = Neg(x)  y = Mul(c, a)", "Mul", -1.5),
        ("a = Mul(x, c)  y = Neg(a)", "Mul", -1.5),
        ("a = Neg(x)  y = Div(a, c)", "Div", -1.5),
        ("a = Div(x, c)  y = Neg(a)", "Div", -1.5),
        ("a = Neg(x)  y = Add(a, c)", "Sub", 1.5),
        ("a = Neg(x)  y = Add(c, a)", "Sub", 1.5),
        ("a = Neg(x)  y = Sub(a, c)", "Sub", -1.5),
        ("a = Neg(x)  y = Sub(c, a)", "Add", 1.5),
    ],
)
def test_signs_keep_every_bit(chain: str, op: str, value: float) -> None:
    result = found(net(chain, "float c = {1.5}"))
    assert result.op_types == [op]
    assert [constant.item() for constant in result.initializers.values()] == [value]
    zero = found(net(chain, "float c = {0.0}"))
    assert zero.op_types == [op]


@pytest.mark.parametrize(
    ("chain", "constants"),
    [
        pytest.param("a = Mul(x, c)  y = Mul(a, d)", "float c={1e30}, float d={1e30}", id="the product overflows"),
        pytest.param("a = Mul(x, c)  y = Mul(a, d)", "float c={1e-30}, float d={1e-10}", id="the product is subnormal"),
        pytest.param("a = Mul(x, c)  y = Mul(a, d)", "float c={1e-30}, float d={1e-30}", id="the product vanishes"),
        pytest.param("a = Mul(x, c)  y = Mul(a, d)", "float c={1e-40}, float d={1e10}", id="a factor is subnormal"),
        pytest.param("a = Mul(x, c)  y = Mul(a, d)", "float c={inf}, float d={2}", id="a factor is infinite"),
        pytest.param("a = Mul(x, c)  y = Div(a, d)", "float c={2}, float d={0}", id="by zero"),
        pytest.param("a = Div(x, c)  y = Div(a, d)", "float c={2}, float d={0}", id="twice divided, once by zero"),
        pytest.param("a = Div(x, c)  y = Mul(a, d)", "float c={2}, float d={0}", id="a quotient times zero"),
        pytest.param("a = Add(x, c)  y = Add(a, d)", "float c={3e38}, float d={3e38}", id="the sum overflows"),
        pytest.param("a = Add(x, c)  y = Sub(a, d)", "float c={12582912}, float d={12582912}", id="rounding by a sum"),
        pytest.param("a = Sub(x, c)  y = Add(a, d)", "float c={1e9}, float d={1e9}", id="constants that cancel"),
        pytest.param("a = Add(x, c)  y = Add(a, d)", "float[4] c={1,2,3,4}, float[4] d={1,2,-3,4}", id="cancel at one"),
        pytest.param("a = Add(x, c)  y = Mul(a, d)", SCALARS, id="an affine chain"),
        pytest.param("a = Mul(x, c)  y = Add(a, d)", SCALARS, id="another affine chain"),
        pytest.param("a = Div(c, x)  y = Mul(a, d)", SCALARS, id="x divides"),
        pytest.param(
            "a = Mul(x, c)  y = Mul(a, d)", "float[3,1] c={1,2,3}, float[4] d={1,2,3,4}", id="an outer product"
        ),
        pytest.param("a = Mul(x, c)  y = Mul(a, a)", "float c={3}", id="a square"),
        pytest.param("a = Mul(x, c)  y = Mul(a, x)", "float c={3}", id="a factor that is no constant"),
    ],
)
def test_what_must_stay(chain: str, constants: str) -> None:
    untouched(net(chain, constants), PASS)


def test_integer_quotients_stay() -> None:
    for chain in ("a = Div(x, c)  y = Div(a, d)", "a = Mul(x, c)  y = Div(a, d)", "a = Div(x, c)  y = Mul(a, d)"):
        untouched(net(chain, "int64 c = {3}, int64 d = {5}", "int64"), PASS)
    untouched(net("a = Neg(x)  y = Div(a, c)", "int64 c = {3}", "int64"), PASS)


def test_half_precision_overflows_sooner() -> None:
    """300 * 300 is more than 65504; 2 * 3 is not."""
    chain = "a = Mul(x, c)  y = Mul(a, d)"
    untouched(net(chain, "float16 c = {23728}, float16 d = {23728}", "float16"), PASS)
    assert found(net(chain, "float16 c = {16384}, float16 d = {16896}", "float16"), Terms(8)).op_types == ["Mul"]


def test_zero_as_a_factor() -> None:
    """NaN and infinities times zero are NaN either way."""
    assert found(net("a = Mul(x, c)  y = Mul(a, d)", "float c={0}, float d={2}"), Terms(4)).op_types == ["Mul"]


@pytest.mark.parametrize("dtype", ["double"])
def test_double_is_worked_out_wider(dtype: str) -> None:
    chain = net("a = Mul(x, c)  y = Mul(a, d)", "double c = {0.1}, double d = {0.2}", dtype)
    assert found(chain, Terms(4)).op_types == ["Mul"]


def test_a_weight_that_others_read_is_not_doubled() -> None:
    constants = f"float[2000] c = {{{', '.join(['2'] * 2000)}}}, float d = {{3}}"
    body = "a = Mul(x, c)  b = Mul(a, d)  e = Add(x, c)  y = Add(b, e)"
    untouched(net(body, constants, shape="N,2000", result="A,B"), PASS)
    alone = "a = Mul(x, c)  b = Mul(a, d)  e = Exp(x)  y = Add(b, e)"
    assert found(net(alone, constants, shape="N,2000", result="A,B").replace("Exp", "Neg"), Terms(8)).op_types == [
        "Mul",
        "Neg",
        "Add",
    ]


def test_an_intermediate_that_others_read_stays() -> None:
    untouched(
        "g (float[N] x) => (float[N] y, float[N] a) <float c={2}, float d={3}> { a = Mul(x, c)  y = Mul(a, d) }", PASS
    )
    untouched(net("a = Mul(x, c)  b = Mul(a, d)  y = Add(a, b)"), PASS)


def test_a_constant_that_the_caller_gives_is_none() -> None:
    untouched("g (float[N] x, float c = {2}) => (float[N] y) <float d = {3}> { a = Mul(x, c)  y = Mul(a, d) }", PASS)


def test_the_factor_of_a_gelu_stays() -> None:
    gelu = "h = Mul(x, r)  e = Erf(h)  s = Add(e, one)  m = Mul(x, s)  a = Mul(m, c)  y = Mul(a, d)"
    untouched(net(gelu, "float r={0.7071}, float one={1}, float c={0.5}, float d={3}"), PASS)


def test_a_chain_of_many() -> None:
    text = net(
        "a = Mul(x, c)  b = Mul(a, d)  e = Neg(b)  f = Add(e, c)  g = Add(f, d)  y = Sub(g, c)",
        "float c={2}, float d={8}",
    )
    result = found(text, Terms(16))
    assert result.op_types == ["Mul", "Add"]


def test_a_constant_that_broadcasts_x() -> None:
    text = "g (float[N,1] x) => (float[A,B] y) <float[4] c={1,2,3,4}, float[2,4] d={1,2,3,4,5,6,7,8}> "
    inputs = Inputs(bindings=[{"N": 1}, {"N": 2}])
    body = text + "{ a = Mul(x, c)  y = Mul(a, d) }"
    assert rewritten(body, PASS, tolerance=Terms(4), inputs=inputs).op_types == ["Mul"]


def test_integers_times_zero() -> None:
    whole = "g (int64[2,3] x) => (int64[2,3] y) <int64 c = {0}> { y = Mul(x, c) }"
    result = rewritten(whole, PASS)
    assert result.op_types == []
    assert result.initializers["y"].shape == (2, 3)
    for shape in ("[N,3]", "[2000]"):
        untouched(whole.replace("[2,3]", shape), PASS)
    untouched(whole.replace("int64", "float"), PASS)
    raising = whole.replace("int64 c = {0}", "int64[1,1,1] c = {0}").replace("[2,3] y", "[A,B,C] y")
    assert rewritten(raising, PASS).initializers["y"].shape == (1, 2, 3)
