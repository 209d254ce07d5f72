"""Cheaper arithmetic for the same numbers, where it surely is the same."""

import numpy as np
import pytest

from planish import ir, passes
from tests.equivalence import Inputs, Rewritten, Ulps, model, rewritten, untouched

PASS = "reduce-strength"


def net(nodes: str, constants: str = "", dtype: str = "float", shape: str = "N,3,4", result: str = "A,B,C") -> str:
    """A model that makes `y` of `x` and of `z`, which has the same type."""
    held = f"<{constants}>" if constants else ""
    return f"g ({dtype}[{shape}] x, {dtype}[{shape}] z) => ({dtype}[{result}] y) {held} {{ {nodes} }}"


def found(text: str, tolerance: Ulps | None = None) -> Rewritten:
    return rewritten(model(text, 18), PASS, tolerance=tolerance)


@pytest.mark.parametrize(
    ("before", "constants", "after"),
    [
        ("y = Div(x, c)", "float c = {8.0}", "y = Mul (x, "),
        ("y = Div(x, c)", "float c = {-0.25}", "y = Mul (x, "),
        ("y = Div(x, c)", "float[4] c = {1.0, 2.0, -4.0, 0.5}", "y = Mul (x, "),
        ("y = Div(x, c)", "float[3,1] c = {1.0, 2.0, 4.0}", "y = Mul (x, "),
        ("a = Neg(x)  b = Neg(a)  y = Exp(b)", "", "y = Exp (x)"),
        ("a = Neg(x)  y = Abs(a)", "", "y = Abs (x)"),
        ("a = Abs(x)  y = Abs(a)", "", "y = Abs (x)"),
        ("a = Floor(x)  b = Round(a)  y = Floor(b)", "", "y = Floor (x)"),
        ("a = Round(x)  y = Ceil(a)", "", "y = Round (x)"),
        ("a = Neg(z)  y = Add(x, a)", "", "y = Sub (x, z)"),
        ("a = Neg(z)  y = Add(a, x)", "", "y = Sub (x, z)"),
        ("a = Neg(z)  y = Sub(x, a)", "", "y = Add (x, z)"),
        ("a = Neg(z)  b = Neg(x)  y = Mul(a, b)", "", "y = Mul (z, x)"),
        ("a = Neg(z)  b = Neg(x)  y = Div(a, b)", "", "y = Div (z, x)"),
    ],
)
def test_the_same_bits(before: str, constants: str, after: str) -> None:
    (node,) = found(net(before, constants)).nodes
    assert node.startswith(after)


@pytest.mark.parametrize(
    ("before", "constants", "after", "steps"),
    [
        ("y = Div(x, c)", "float c = {3.0}", "Mul", 2),
        ("y = Pow(x, c)", "float c = {2.0}", "Mul", 1),
        ("y = Pow(x, c)", "int64[1] c = {2}", "Mul", 1),
        ("y = Pow(x, c)", "double[1,1,1] c = {2}", "Mul", 1),
        ("y = Div(x, c)", "float[4] c = {1.0, 3.0, 4.0, -0.3}", "Mul", 2),
        ("a = Reciprocal(z)  y = Mul(x, a)", "", "Div", 2),
        ("a = Reciprocal(z)  y = Mul(a, x)", "", "Div", 2),
        ("a = Div(c, z)  y = Mul(x, a)", "float c = {1.0}", "Div", 2),
        ("a = Abs(x)  y = Pow(a, c)", "float c = {0.5}", "Sqrt", 1),
        ("y = Pow(x, c)", "float[1] c = {-1.0}", "Reciprocal", 1),
        ("a = Sub(x, z)  y = Neg(a)", "", "Sub", 0),
    ],
)
def test_within_rounding(before: str, constants: str, after: str, steps: int) -> None:
    text = net(before, constants)
    inputs = Inputs(values={"z": [np.full((1, 3, 4), 3, np.float32)], "x": [np.full((1, 3, 4), -7, np.float32)]})
    result = rewritten(model(text, 18), PASS, tolerance=Ulps(steps))
    rewritten(model(text, 18), PASS, tolerance=Ulps(steps), inputs=inputs)
    assert result.op_types[-1] == after
    assert "Reciprocal" not in result.op_types[:-1]
    untouched(model(text, 18), PASS, fp="strict")


@pytest.mark.parametrize("dtype", ["double", "float16"])
def test_other_floats(dtype: str) -> None:
    """float16 constants are written by their bits."""
    two, three, half = ("2", "3", "0.5") if dtype == "double" else ("16384", "16896", "14336")
    assert found(net("y = Pow(x, c)", f"{dtype} c = {{{two}}}", dtype), Ulps(1)).op_types == ["Mul"]
    assert found(net("y = Div(x, c)", f"{dtype} c = {{{two}}}", dtype)).op_types == ["Mul"]
    assert found(net("y = Div(x, c)", f"{dtype} c = {{{three}}}", dtype), Ulps(2)).op_types == ["Mul"]
    text = net("a = Abs(x)  y = Pow(a, c)", f"{dtype} c = {{{half}}}", dtype)
    assert found(text, Ulps(2)).op_types == ["Abs", "Sqrt"]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers(dtype: str) -> None:
    assert found(net("y = Pow(x, c)", f"{dtype} c = {{2}}", dtype), Ulps(0)).op_types == ["Mul"]
    assert found(net("a = Sub(x, z)  y = Neg(a)", "", dtype)).op_types == ["Sub"]
    assert found(net("a = Neg(z)  y = Add(x, a)", "", dtype)).op_types == ["Sub"]
    assert found(net("a = Neg(z)  b = Neg(x)  y = Mul(a, b)", "", dtype)).op_types == ["Mul"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(net("y = Div(x, c)", "int64 c = {2}", "int64"), id="a quotient of integers"),
        pytest.param(net("y = Div(c, x)", "float c = {2.0}"), id="a constant divided by x"),
        pytest.param(net("y = Div(x, c)", "float c = {0.0}"), id="by zero"),
        pytest.param(net("y = Div(x, c)", "float[4] c = {1.0, 2.0, 0.0, 4.0}"), id="by zero on one channel"),
        pytest.param(net("y = Div(x, c)", "float c = {3e38}"), id="the reciprocal is subnormal"),
        pytest.param(net("y = Div(x, c)", "float c = {1e-40}"), id="the reciprocal overflows"),
        pytest.param(net("y = Div(x, c)", "float16 c = {30719}", "float16"), id="a subnormal reciprocal of float16"),
        pytest.param(net("a = Div(x, c)  y = Erf(a)", "float c = {1.4142135}"), id="what a Gelu is found by"),
        pytest.param(net("a = Div(x, c)  y = Softmax(a)", "float c = {8.0}"), id="what attention is found by"),
        pytest.param(
            net("a = Div(x, c)  b = Add(a, z)  y = Softmax(b)", "float c = {8.0}"), id="attention with a mask"
        ),
        pytest.param(net("y = Pow(x, c)", "float[4] c = {2.0, 2.0, 2.0, 2.0}"), id="many exponents"),
        pytest.param(
            net("y = Pow(x, c)", "float[1,1,1,1] c = {2.0}", result="A,B,C,D"), id="an exponent of higher rank"
        ),
        pytest.param(net("y = Pow(x, c)", "float c = {3.0}"), id="a cube, which takes two products"),
        pytest.param(net("y = Pow(x, c)", "float c = {-0.5}"), id="an inverse root, which takes two nodes"),
        pytest.param(net("y = Pow(c, x)", "float c = {2.0}"), id="two to the power of x"),
        pytest.param(net("y = Pow(x, c)", "float c = {0.5}", "int32"), id="a root of integers"),
        pytest.param(net("y = Pow(x, c)", "int64 c = {-1}", "int64"), id="a reciprocal of integers"),
        pytest.param(
            net("a = Pow(x, c)  y = ReduceMean<keepdims = 1>(a, k)", "float c = {2.0}, int64[1] k = {2}"),
            id="what a layer normalization is found by",
        ),
        pytest.param(net("a = Floor(x)  y = Sign(a)"), id="an operator that does not round"),
        pytest.param(net("a = Neg(x)  b = Neg(z)  y = Div(a, b)", "", "int64"), id="quotients of integers wrap around"),
    ],
)
def test_what_must_stay(text: str) -> None:
    untouched(model(text, 18), PASS)


@pytest.mark.parametrize("operand", ["float[N,1] z", "float z", "float[4] z", "float[M,4] z"])
def test_a_reciprocal_that_is_broadcast_stays(operand: str) -> None:
    untouched(f"g (float[N,4] x, {operand}) => (float[A,B] y) {{ a = Reciprocal(z)  y = Mul(x, a) }}", PASS)


def test_a_reciprocal_that_others_read_stays() -> None:
    text = "g (float[N] x, float[N] z) => (float[A] y, float[B] a) { a = Reciprocal(z)  y = Mul(x, a) }"
    untouched(text, PASS)


def test_a_neg_that_others_read_stays() -> None:
    untouched("g (float[N] x, float[N] z) => (float[A] y, float[B] a) { a = Neg(z)  y = Add(x, a) }", PASS)
    both = "g (float[N] x) => (float[A] y, float[B] a) { a = Neg(x)  b = Neg(a)  y = Exp(b) }"
    assert rewritten(both, PASS).nodes == ["a = Neg (x)", "y = Exp (x)"]


def test_an_output_that_would_be_an_input_keeps_its_name() -> None:
    untouched("g (float[N] x) => (float[A] y) { a = Neg(x)  y = Neg(a) }", PASS)


def test_an_unknown_rank() -> None:
    """A scalar exponent cannot broadcast; one of any shape may."""
    loop = (
        "r = Loop(n, , x) <body = b (int64 i, bool go, float[N] v) => (bool on, float[N] w) "
        "{ on = Identity(go)  w = Unsqueeze(v, zero) }>"
    )
    for shape, count in (("", 1), ("[1]", 0)):
        text = (
            f"g (float[N] x, int64 n) => (float y) <int64[1] zero = {{0}}, float{shape} c = {{2.0}}> "
            f"{{ {loop}  s = Pow(r, c)  y = ReduceSum<keepdims = 0>(s) }}"
        )
        graph = ir.load(model(text))
        (record,) = passes.run(graph, PASS)
        assert len(record.rewrites) == count


def test_nested_graphs_and_captured_values() -> None:
    branches = (
        "then_branch = t () => (float[A] p) { b = Neg(a)  p = Add(x, b) }, "
        "else_branch = e () => (float[B] q) { q = Div(x, k) }"
    )
    text = f"g (float[N] x, bool c) => (float[M] y) <float k = {{4.0}}> {{ a = Exp(x)  y = If(c) <{branches}> }}"
    inputs = Inputs(values={"c": [np.array(True), np.array(False)]})
    assert sorted(rewritten(text, PASS, inputs=inputs).op_types) == ["Exp", "If", "Mul", "Sub"]
