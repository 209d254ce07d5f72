"""Chains of bounds become one, which gives the same for every number, NaN and infinities included."""

import numpy as np
import pytest
from onnx import numpy_helper

from planish import ir
from planish.ir import DType
from planish.passes.simplify.merge_bounds import Bounds, bounds
from tests.equivalence import Ulps, model, rewritten, untouched

PASS = "merge-bounds"


def net(nodes: str, constants: str = "", dtype: str = "float", shape: str = "N,3,4", result: str = "A,B,C") -> str:
    held = f"<{constants}>" if constants else ""
    return f"g ({dtype}[{shape}] x) => ({dtype}[{result}] y) {held} {{ {nodes} }}"


def numbers(**values: float) -> str:
    return ", ".join(f"float {name} = {{{float(value)}}}" for name, value in values.items())


def kept(text: str, tolerance: Ulps | None = None, opset: int = 17) -> list[str]:
    """The node that is left, and the numbers that it bounds by; "-" for one that is omitted."""
    found = rewritten(model(text, opset), PASS, tolerance=tolerance)
    (node,) = found.after.graph.node
    return [node.op_type, *(str(found.initializers[name].item()) if name else "-" for name in node.input[1:])]


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        ("a = Clip(x, l, h)  y = Clip(a, m, k)", numbers(l=-2, h=6, m=-1, k=8), ["Clip", "-1.0", "6.0"]),
        ("a = Clip(x, l, h)  y = Clip(a, m, k)", numbers(l=1, h=2, m=3, k=4), ["Clip", "3.0", "3.0"]),
        ("a = Clip(x, l, h)  y = Clip(a, m, k)", numbers(l=3, h=4, m=1, k=2), ["Clip", "2.0", "2.0"]),
        ("a = Clip(x, l, h)  y = Clip(a, m, k)", numbers(l=5, h=2, m=-3, k=4), ["Clip", "5.0", "2.0"]),
        ("a = Clip(x, l, h)  y = Clip(a, m, k)", numbers(l=1, h=2, m=7, k=3), ["Clip", "3.0", "3.0"]),
        ("a = Clip(x, l)  y = Clip(a, , h)", numbers(l=-2, h=6), ["Clip", "-2.0", "6.0"]),
        ("a = Clip(x, , h)  y = Clip(a, , k)", numbers(h=6, k=5), ["Clip", "-", "5.0"]),
        ("a = Relu(x)  y = Clip(a, l, h)", numbers(l=-2, h=6), ["Clip", "0.0", "6.0"]),
        ("a = Relu(x)  y = Clip(a, l, h)", numbers(l=0, h=6), ["Clip", "0.0", "6.0"]),
        ("a = Clip(x, l, h)  y = Relu(a)", numbers(l=-2, h=6), ["Clip", "0.0", "6.0"]),
        ("a = Clip(x, l, h)  y = Relu(a)", numbers(l=1, h=6), ["Clip", "1.0", "6.0"]),
        ("a = Relu(x)  y = Relu(a)", "", ["Relu"]),
        ("a = Relu(x)  y = Min(a, h)", numbers(h=6), ["Clip", "0.0", "6.0"]),
        ("a = Min(h, x)  y = Relu(a)", numbers(h=6), ["Clip", "0.0", "6.0"]),
        ("a = Max(x, l)  y = Min(a, h)", numbers(l=-2, h=6), ["Clip", "-2.0", "6.0"]),
        ("a = Max(l, x)  y = Min(h, a)", numbers(l=7, h=6), ["Clip", "6.0", "6.0"]),
        ("a = Min(x, h)  y = Max(a, l)", numbers(l=7, h=6), ["Clip", "7.0", "7.0"]),
        ("a = Max(x, l)  y = Min(a, h)", "float l = {-inf}, float h = {2}", ["Min", "2.0"]),
        ("a = Max(x, l)  y = Max(a, m)", numbers(l=-2, m=3), ["Max", "3.0"]),
        ("a = Min(x, l)  y = Min(a, m)", numbers(l=-2, m=3), ["Min", "-2.0"]),
        ("a = Max(x, l)  y = Relu(a)", numbers(l=-2), ["Relu"]),
        ("a = Max(x, l)  y = Relu(a)", numbers(l=2), ["Max", "2.0"]),
        ("a = Max(x, l)  y = Clip(a)", numbers(l=2), ["Clip", "2.0"]),
        ("a = Relu(x)  b = Clip(a, l, h)  c = Min(b, k)  y = Relu(c)", numbers(l=-1, h=6, k=5), ["Clip", "0.0", "5.0"]),
        ("a = Exp(x)  y = Relu(a)", "", ["Exp"]),
        ("a = Sigmoid(x)  y = Relu(a)", "", ["Sigmoid"]),
        ("a = Sqrt(x)  y = Max(a, l)", numbers(l=-1), ["Sqrt"]),
        ("a = Tanh(x)  y = Clip(a, l, h)", numbers(l=-2, h=2), ["Tanh"]),
        ("a = HardSigmoid(x)  y = Clip(a, l, h)", numbers(l=0, h=1), ["HardSigmoid"]),
    ],
)
def test_the_same_bits(nodes: str, constants: str, expected: list[str]) -> None:
    assert kept(net(nodes, constants)) == expected


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        ("a = Max(x, l)  y = Min(a, h)", numbers(l=0, h=6), ["Clip", "0.0", "6.0"]),
        ("a = Min(x, h)  y = Max(a, l)", numbers(l=0, h=6), ["Clip", "0.0", "6.0"]),
        ("y = Max(x, l)", numbers(l=0), ["Relu"]),
        ("y = Max(l, x)", numbers(l=0), ["Relu"]),
        ("a = Max(x, l)  y = Min(a, h)", numbers(l=-1, h=0), ["Clip", "-1.0", "0.0"]),
        ("a = Clip(x, l, h)  y = Relu(a)", numbers(l=-3, h=-1), ["Clip", "0.0", "0.0"]),
        ("a = Min(x, k)  y = Clip(a, l, h)", numbers(k=6, l=1, h=0), ["Clip", "0.0", "0.0"]),
        ("y = Clip(x, l)", numbers(l=0), ["Relu"]),
        ("a = Clip(x, l)  b = Relu(a)  y = Max(b, l)", numbers(l=0), ["Relu"]),
    ],
)
def test_the_same_but_for_the_sign_of_zero_or_infinity(nodes: str, constants: str, expected: list[str]) -> None:
    text = net(nodes, constants)
    assert kept(text, Ulps(0)) == expected


def test_the_sign_of_zero_is_why() -> None:
    untouched(net("a = Max(x, l)  y = Min(a, h)", numbers(l=0, h=6)), PASS, fp="strict")
    untouched(net("y = Max(x, l)", numbers(l=0)), PASS, fp="strict")
    untouched(net("y = Clip(x, l)", numbers(l=0)), PASS, fp="strict")


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        pytest.param(
            "a = Clip(x, l, h)  y = Clip(a, m)", "float l={1}, float h={2}, float m={-0.0}", id="a negative zero"
        ),
        pytest.param(
            "a = Sigmoid(x)  y = Clip(a, l, h)", numbers(l=0, h=1), id="Sigmoid, which reaches a step above 1"
        ),
        pytest.param("a = Tanh(x)  y = Clip(a, l, h)", numbers(l=-1, h=1), id="Tanh, which reaches a step above 1"),
        pytest.param("a = Abs(x)  y = Clip(a, l)", numbers(l=-1), id="infinities, which Clip bounds"),
        pytest.param("a = Abs(x)  y = Max(a, l)", numbers(l=0), id="Max with zero, which loses the sign of a zero"),
        pytest.param("a = LeakyRelu(x)  y = Relu(a)", "", id="LeakyRelu"),
        pytest.param("a = Relu(x)  y = LeakyRelu(a)", "", id="of LeakyRelu"),
        pytest.param("a = Max(x, l)  y = Min(a, h)", "float[4] l = {1,2,3,4}, float h = {9}", id="a bound each"),
        pytest.param("a = Max(x, x)  y = Min(a, h)", numbers(h=2), id="Max of x and x"),
        pytest.param("a = Max(x, l, h)  y = Min(a, h)", numbers(l=1, h=2), id="Max of three"),
        pytest.param("a = Relu(x)  y = Max(a, x)", "", id="no constant"),
    ],
)
def test_what_must_stay(nodes: str, constants: str) -> None:
    untouched(net(nodes, constants), PASS, fp="strict")


def test_a_nan_is_no_bound() -> None:
    source = model(net("a = Clip(x, l, h)  y = Clip(a, m)", numbers(l=1, h=2, m=7)))
    (bound,) = (tensor for tensor in source.graph.initializer if tensor.name == "m")
    bound.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), "m"))
    untouched(source, PASS)


def test_a_bound_that_raises_the_rank_stays() -> None:
    for nodes in ("a = Max(x, l)  y = Min(a, h)", "a = Relu(x)  y = Max(a, l)", "a = Exp(x)  y = Max(a, l)"):
        constants = "float[1,1,1,1] l = {-1.0}, float h = {6.0}"
        untouched(net(nodes, constants, result="A,B,C,D"), PASS)


def test_a_bound_of_another_form_that_cannot_broadcast() -> None:
    assert kept(net("a = Max(x, l)  y = Min(a, h)", "float[1,1,1] l = {-1}, float[1] h = {6}")) == [
        "Clip",
        "-1.0",
        "6.0",
    ]


def test_an_intermediate_that_others_read_stays() -> None:
    text = (
        "g (float[N] x) => (float[A] y, float[B] a) <float l = {-1}, float h = {2}> { a = Clip(x, l, h)  y = Relu(a) }"
    )
    untouched(text, PASS)
    wider = text.replace("y = Relu(a)", "b = Clip(a, m, k)  y = Neg(b)").replace(
        "float l", "float m={-5}, float k={5}, float l"
    )
    assert rewritten(wider, PASS).op_types == ["Clip", "Neg"]


def test_bounds_that_the_caller_gives_stay() -> None:
    untouched("g (float[N] x, float h) => (float[A] y) { a = Relu(x)  y = Clip(a, , h) }", PASS)
    untouched("g (float[N] x, float h = {6}) => (float[A] y) { a = Relu(x)  y = Clip(a, , h) }", PASS)


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "uint8"])
def test_integers(dtype: str) -> None:
    chain = "a = Clip(x, l, h)  y = Clip(a, m, k)"
    constants = ", ".join(f"{dtype} {name} = {{{value}}}" for name, value in {"l": 1, "h": 9, "m": 3, "k": 12}.items())
    assert kept(net(chain, constants, dtype)) == ["Clip", "3", "9"]
    assert kept(net("a = Clip(x, , h)  y = Clip(a, m)", constants, dtype)) == ["Clip", "3", "9"]


def test_integers_beyond_the_exact_range_of_double() -> None:
    constants = "int64 l = {9007199254740993}, int64 m = {9007199254740992}"
    assert kept(net("a = Max(x, l)  y = Max(a, m)", constants, "int64")) == ["Max", "9007199254740993"]
    assert kept(net("a = Min(x, l)  y = Min(a, m)", constants, "int64")) == ["Min", "9007199254740992"]


def test_max_and_min_of_integers_stay() -> None:
    untouched(net("a = Max(x, l)  y = Min(a, h)", "int64 l = {1}, int64 h = {5}", "int64"), PASS)


def test_double_and_float16() -> None:
    assert kept(net("a = Max(x, l)  y = Min(a, h)", "double l = {1}, double h = {5}", "double")) == [
        "Clip",
        "1.0",
        "5.0",
    ]
    untouched(model(net("a = Max(x, l)  y = Min(a, h)", "double l = {1}, double h = {5}", "double"), 11), PASS)
    half = "float16 l = {15360}, float16 h = {17664}"
    untouched(net("a = Max(x, l)  y = Min(a, h)", half, "float16"), PASS)
    assert kept(net("a = Relu(x)  y = Clip(a, l, h)", half, "float16")) == ["Clip", "1.0", "5.0"]


def test_old_forms() -> None:
    chain = "a = Relu(x)  b = Clip<min = -1.0, max = 6.0>(a)  y = Clip<max = 5.0>(b)"
    found = rewritten(model(net(chain), 8), PASS)
    assert found.nodes == ["y = Clip <max: float = 5, min: float = 0> (x)"]


@pytest.mark.parametrize("low", [-2.0, 0.0, 1.0])
@pytest.mark.parametrize("high", [-1.0, 0.0, 3.0])
@pytest.mark.parametrize("other", [Bounds(-1.5, 0.5), Bounds(2, 1), Bounds(-np.inf, 0), Bounds(0, np.inf)])
def test_two_bounds_are_one(low: float, high: float, other: Bounds) -> None:
    """Also where they are disjoint or in the wrong order."""
    mine = Bounds(low, high)
    for number in (-np.inf, -5, -1.5, -1, 0, 0.25, 0.5, 1, 1.5, 2, 3, 7, np.inf):
        assert mine.after(other).apply(number) == mine.apply(other.apply(number))


def test_bounds_of_nodes_that_have_none() -> None:
    b = ir.Builder()
    x = b.input("x", DType.FLOAT, (3,))
    b.output("y", b.node("Max", (x, b.initializer("c", np.array([np.nan], np.float32)))))
    assert bounds(b.graph().nodes[0]) is None
