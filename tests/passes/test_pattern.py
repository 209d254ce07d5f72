"""Pictures match what they show, and nothing else."""

import pytest

from planish import ir
from planish.ir import Graph, Node, Value
from planish.passes.pattern import Bindings, Const, Maybe, Op, Var
from tests.equivalence import model

x, z, c = Var("x"), Var("z"), Const("c")


def graph(body: str, *, outputs: str = "float[N] y", constants: str = "float[1] w = {1}, float[1] v = {2}") -> Graph:
    return ir.load(model(f"g (float[N] a, float[N] b, float[1] o = {{1}}) => ({outputs}) <{constants}> {{ {body} }}"))


def made(inside: Graph, name: str) -> Node:
    return next(node for node in inside.walk() if any(result.name == name for result in node.results))


def matched(pattern: Op, inside: Graph, name: str = "y") -> Bindings | None:
    bindings = Bindings()
    return bindings if bindings.match(pattern, made(inside, name)) else None


def name_of(value: Value | None) -> str | None:
    return None if value is None else value.name


def test_parts_are_the_keys_of_a_match() -> None:
    conv, relu = (Op("Mul", (x, c)), Op("Relu"))
    outer = Op("Add", (conv, z))
    found = matched(outer, graph("m = Mul(a, w)  y = Add(m, b)"))
    assert found is not None
    assert (found[x].name, found[c].name, found[z].name) == ("a", "w", "b")
    assert found[conv].op == "Mul"
    assert [node.op for node in found.nodes] == ["Add", "Mul"]
    assert matched(relu, graph("y = Relu(a)")) is not None
    assert matched(relu, graph("y = Abs(a)")) is None


def test_several_operators_and_every_operator() -> None:
    inside = graph("y = Abs(a)")
    assert matched(Op(("Relu", "Abs"), (x,)), inside) is not None
    assert matched(Op(()), inside) is not None
    assert matched(Op((), (x, z)), inside) is None


def test_one_var_in_two_places_is_one_value() -> None:
    square = Op("Mul", (x, x))
    assert matched(square, graph("y = Mul(a, a)")) is not None
    assert matched(square, graph("y = Mul(a, b)")) is None


@pytest.mark.parametrize(
    ("operand", "is_constant"), [("w", True), ("k", True), ("o", False), ("b", False), ("n", False)]
)
def test_constants(operand: str, is_constant: bool) -> None:
    """Initializers and Constant nodes are; overridable initializers and what is computed from constants are none."""
    inside = graph(f"k = Constant<value = float[1] {{3}}>()  n = Neg(w)  y = Mul(a, {operand})")
    assert (matched(Op("Mul", (x, c)), inside) is not None) == is_constant


def test_both_orders() -> None:
    for body in ("y = Mul(a, w)", "y = Mul(w, a)"):
        found = matched(Op("Mul", (x, c), commutes=True), graph(body))
        assert found is not None
        assert (found[x].name, found[c].name) == ("a", "w")
    assert matched(Op("Mul", (x, c)), graph("y = Mul(w, a)")) is None
    two = matched(Op("Mul", (x, c), commutes=True), graph("y = Mul(w, v)"))
    assert two is not None
    assert (two[x].name, two[c].name) == ("w", "v")
    assert matched(Op("Mul", (x, c), commutes=True), graph("y = Mul(a, b)")) is None


def test_what_a_failed_order_bound_is_forgotten() -> None:
    inner = Op("Relu", (x,))
    found = matched(Op("Add", (inner, x), commutes=True), graph("r = Relu(b)  y = Add(b, r)"))
    assert found is not None
    assert found[x].name == "b"
    assert matched(Op("Add", (inner, x), commutes=True), graph("r = Relu(b)  y = Add(a, r)")) is None


def test_omitted_operands() -> None:
    low, high = Var("low"), Var("high")
    clip = Op("Clip", (x, Maybe(low), Maybe(high)))
    for body, expected in (
        ("y = Clip(a)", (None, None)),
        ("y = Clip(a, l)", ("l", None)),
        ("y = Clip(a, , l)", (None, "l")),
    ):
        found = matched(clip, graph(body, constants="float l = {0}"))
        assert found is not None
        assert (name_of(found.get(low)), name_of(found.get(high))) == expected
    assert matched(Op("Clip", (x,)), graph("y = Clip(a, l)", constants="float l = {0}")) is None
    assert matched(Op("Clip", (x, low)), graph("y = Clip(a)", constants="float l = {0}")) is None
    assert matched(Op("Clip", (x, Maybe(Const("k")))), graph("l = Squeeze(o)  y = Clip(a, l)")) is None


def test_any_operands() -> None:
    for body in ("y = Sum(a)", "y = Sum(a, b, a)"):
        assert matched(Op("Sum"), graph(body)) is not None
    assert matched(Op("Sum", (x, z)), graph("y = Sum(a, b, a)")) is None
    assert matched(Op("Sum", ()), graph("y = Sum(a)")) is None


INNER = Op("Neg", (x,))
OUTER = Op("Abs", (INNER,))


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        pytest.param("n = Neg(a)  y = Abs(n)", "float[N] y, float[N] n", id="an output"),
        pytest.param("n = Neg(a)  y = Abs(n)  s = Exp(n)", "float[N] y, float[N] s", id="a second reader"),
        pytest.param("n = Neg(a)  m = Abs(n)  y = Add(m, n)", "float[N] y", id="a reader further down"),
        pytest.param(
            "n = Neg(a)  y = Abs(n)  t = Constant<value = bool {1}>()  s = If(t) <"
            "then_branch = f () => (float[N] p) { p = Exp(n) }, else_branch = e () => (float[N] q) { q = Exp(a) }>",
            "float[N] y, float[N] s",
            id="a reader in a nested graph",
        ),
    ],
)
def test_inner_nodes_have_no_other_reader(body: str, outputs: str) -> None:
    name = "m" if "m =" in body else "y"
    assert matched(OUTER, graph(body, outputs=outputs), name) is None
    assert matched(Op("Abs", (Op("Neg", (x,), shared=True),)), graph(body, outputs=outputs), name) is not None


def test_a_node_read_twice_by_one_node() -> None:
    inside = graph("n = Neg(a)  y = Mul(n, n)")
    assert matched(Op("Mul", (INNER, INNER)), inside) is None
    shared = Op("Neg", (x,), shared=True)
    assert matched(Op("Mul", (shared, shared)), inside) is not None
    assert matched(Op("Mul", (shared, shared)), graph("n = Neg(a)  m = Neg(a)  y = Mul(n, m)")) is None


def test_an_inner_node_whose_other_results_are_read() -> None:
    picture = Op("Abs", (Op("Split", (x,)),))
    body = "n, m = Split<axis = 0>(w2)  y = Abs(n)"
    constants = "float[2] w2 = {1, 2}"
    assert matched(picture, graph(body, outputs="float[1] y", constants=constants)) is not None
    assert matched(picture, graph(body, outputs="float[1] y, float[1] m", constants=constants)) is None
    second = graph(body.replace("Abs(n)", "Abs(m)"), outputs="float[1] y", constants=constants)
    assert matched(picture, second) is None
    assert matched(Op("Abs", (Op("Split", (x,), shared=True),)), second) is None, "a picture shows the first result"


def test_a_picture_does_not_reach_into_another_graph() -> None:
    branches = "then_branch = f () => (float[N] p) { p = Abs(n) }, else_branch = e () => (float[N] q) { q = Exp(a) }"
    inside = graph(f"n = Neg(a)  t = Constant<value = bool {{1}}>()  y = If(t) <{branches}>")
    assert matched(OUTER, inside, "p") is None


def test_a_test_of_the_node_comes_first() -> None:
    asked: list[str] = []

    def is_asked(node: Node) -> bool:
        asked.append(node.op)
        return node.get_int("axis") == 0

    picture = Op("Softmax", (x,), where=is_asked)
    assert matched(picture, graph("y = Softmax<axis = 0>(a)")) is not None
    assert matched(picture, graph("y = Softmax(a)")) is None
    assert matched(picture, graph("y = Abs(a)")) is None
    assert asked == ["Softmax", "Softmax"]


def test_pictures_show_themselves() -> None:
    assert repr(Op(("Mul", "Div"), (Op("Conv", (x, Maybe(c))), Const("k")))) == "Div|Mul(Conv(x, [c]), k)"
    assert repr(Op(())) == "*(...)"
    assert Op("Abs", (INNER,)).depth == 2
    assert Op("Relu").depth == 1
