"""Logic that is decided goes; what NaN, broadcasting or a dynamic dim leaves open stays."""

import pytest

from tests.equivalence import Rewritten, Ulps, model, rewritten, untouched

PASS = "simplify-logic"


def net(nodes: str, constants: str = "", shape: str = "2,3", result: str = "bool[A,B] y", dtype: str = "int64") -> str:
    """Booleans p and q and numbers s and t, all of one shape."""
    held = f"<{constants}>" if constants else ""
    inputs = f"bool[{shape}] p, bool[{shape}] q, {dtype}[{shape}] s, {dtype}[{shape}] t"
    return f"g ({inputs}) => ({result}) {held} {{ {nodes} }}"


def found(text: str, tolerance: Ulps | None = None) -> Rewritten:
    return rewritten(model(text, 17), PASS, tolerance=tolerance)


@pytest.mark.parametrize("shape", ["2,3", "N,3"])
@pytest.mark.parametrize(
    ("nodes", "constants", "after"),
    [
        ("h = And(p, q)  k = Not(h)  i = Not(k)  y = Not(i)", "", ["h = And (p, q)", "y = Not (h)"]),
        ("h = Less(s, t)  y = Not(h)", "", ["y = GreaterOrEqual (s, t)"]),
        ("h = Greater(s, t)  y = Not(h)", "", ["y = LessOrEqual (s, t)"]),
        ("h = LessOrEqual(s, t)  y = Not(h)", "", ["y = Greater (s, t)"]),
        ("h = GreaterOrEqual(s, t)  y = Not(h)", "", ["y = Less (s, t)"]),
        ("h = Xor(p, c)  y = Or(h, q)", "bool c = {0}", ["y = Or (p, q)"]),
        ("y = Xor(c, p)", "bool[3] c = {1, 1, 1}", ["y = Not (p)"]),
        ("h = Equal(p, c)  y = Or(h, q)", "bool c = {1}", ["y = Or (p, q)"]),
        ("y = Equal(p, c)", "bool[1] c = {0}", ["y = Not (p)"]),
        ("h = And(p, p)  y = Or(h, q)", "", ["y = Or (p, q)"]),
        ("h = Or(p, p)  y = Xor(h, q)", "", ["y = Xor (p, q)"]),
        ("h = Not(p)  k = Not(q)  y = Xor(h, k)", "", ["y = Xor (p, q)"]),
    ],
)
def test_for_every_shape(nodes: str, constants: str, after: list[str], shape: str) -> None:
    assert found(net(nodes, constants, shape)).nodes == after


@pytest.mark.parametrize(("op", "other"), [("And", "Or"), ("Or", "And")])
def test_de_morgan(op: str, other: str) -> None:
    result = found(net(f"h = Not(p)  k = Not(q)  y = {op}(h, k)", shape="N,3"))
    assert result.op_types == [other, "Not"]
    back = found(net(f"h = Not(p)  k = Not(q)  i = {op}(h, k)  y = Not(i)", shape="N,3"))
    assert back.op_types == [other]


@pytest.mark.parametrize(
    ("nodes", "constants", "value"),
    [
        ("y = And(p, c)", "bool c = {0}", False),
        ("y = Or(c, p)", "bool[1,1] c = {1}", True),
        ("y = Xor(p, p)", "", False),
        ("h = Not(p)  y = And(h, p)", "", False),
        ("h = Not(p)  y = Or(p, h)", "", True),
        ("h = Not(p)  y = Xor(p, h)", "", True),
        ("y = Equal(s, s)", "", True),
        ("y = LessOrEqual(s, s)", "", True),
        ("y = GreaterOrEqual(s, s)", "", True),
        ("y = Less(s, s)", "", False),
        ("y = Greater(s, s)", "", False),
        ("y = Equal(p, p)", "", True),
    ],
)
def test_decided_where_the_shape_is_known(nodes: str, constants: str, value: bool) -> None:
    result = found(net(nodes, constants))
    assert result.op_types == []
    assert result.initializers["y"].tolist() == [[value] * 3] * 2
    untouched(net(nodes, constants, shape="N,3"), PASS)
    untouched(net(nodes, constants, shape="64,64"), PASS)


def test_a_constant_that_broadcasts() -> None:
    """The shape of the result is that of both."""
    text = "g (bool[1,3] p) => (bool[A,B] y) <bool[2,1] c = {0, 0}> { y = And(p, c) }"
    assert found(text).initializers["y"].shape == (2, 3)
    untouched(text.replace("And", "Xor").replace("{0, 0}", "{1, 1}"), PASS)
    untouched(text.replace("And", "Equal"), PASS)


@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize(
    "nodes",
    [
        *(f"h = {op}(s, t)  y = Not(h)" for op in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual")),
        *(f"y = {op}(s, s)" for op in ("Equal", "Less", "LessOrEqual")),
    ],
)
def test_nan_is_neither_less_nor_equal(nodes: str, dtype: str) -> None:
    untouched(net(nodes, dtype=dtype), PASS)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        pytest.param("h = Equal(s, t)  y = Not(h)", "", id="there is no opposite of Equal"),
        pytest.param("y = And(p, c)", "bool[3] c = {1, 0, 1}", id="a mask"),
        pytest.param("y = Equal(s, c)", "int64 c = {1}", id="a number"),
        pytest.param("h = Not(p)  y = And(h, q)", "", id="one Not"),
        pytest.param("h = Not(p)  k = Not(q)  i = And(h, k)  y = Xor(i, h)", "", id="a Not that others read"),
    ],
)
def test_what_must_stay(nodes: str, constants: str) -> None:
    untouched(net(nodes, constants), PASS)


def test_comparisons_that_others_read_stay() -> None:
    untouched(net("h = Less(s, t)  y = Not(h)", result="bool[A,B] y, bool[C,D] h"), PASS)


def test_an_opset_without_the_opposite() -> None:
    text = "g (int64[N] s, int64[N] t) => (bool[N] y) { h = Less(s, t)  y = Not(h) }"
    untouched(model(text, 11), PASS)
    assert rewritten(model(text, 12), PASS).op_types == ["GreaterOrEqual"]


SELECT = [
    ("y = Where(c, k, t)", "bool c = {1}"),
    ("y = Where(c, t, k)", "bool[1,1] c = {0}"),
    ("y = Where(c, k, t)", "bool[2,3] c = {1,1,1,1,1,1}"),
    ("y = Where(p, k, k)", ""),
]


@pytest.mark.parametrize(("nodes", "constants"), SELECT)
@pytest.mark.parametrize("dtype", ["int64", "float"])
def test_selections_that_are_decided(nodes: str, constants: str, dtype: str) -> None:
    text = net(f"k = Neg(s)  {nodes}", constants, result=f"{dtype}[A,B] y", dtype=dtype)
    assert found(text, None if dtype == "int64" else Ulps(0)).nodes == ["y = Neg (s)"]
    if dtype == "float":
        untouched(text, PASS, fp="strict")


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        pytest.param("y = Where(c, k, t)", "bool[3,1,1] c = {1, 1, 1}", id="the condition raises the rank"),
        pytest.param("y = Where(c, k, t)", "bool[2,3] c = {1, 1, 0, 1, 1, 1}", id="a mask"),
        pytest.param("y = Where(c, k, d)", "bool c = {1}, int64[5,1,1] d = {1, 2, 3, 4, 5}", id="the other raises it"),
    ],
)
def test_selections_that_broadcast_stay(nodes: str, constants: str) -> None:
    result = "int64[A,B,C] y" if ",1,1]" in constants else "int64[A,B] y"
    untouched(net(f"k = Neg(s)  {nodes}", constants, result=result), PASS)


def test_a_symbolic_dim_that_the_condition_may_stretch() -> None:
    body = "k = Neg(s)  y = Where(p, k, k)"
    untouched(f"g (int64[N] s, bool[M] p) => (int64[K] y) {{ {body} }}", PASS)
    assert rewritten(f"g (int64[N] s, bool[N] p) => (int64[K] y) {{ {body} }}", PASS).nodes == ["y = Neg (s)"]


@pytest.mark.parametrize("dtype", ["int64", "float"])
def test_conditions(dtype: str) -> None:
    y = f"{dtype}[A,B] y"
    opposite = net("h = Not(p)  y = Where(h, s, t)", shape="N,3", result=y, dtype=dtype)
    zeros = None if dtype == "int64" else Ulps(0)
    assert found(opposite, zeros).nodes == ["y = Where (p, t, s)"]
    read = net("h = Not(p)  y = Where(h, s, t)", shape="N,3", result=f"{y}, bool[C,D] h", dtype=dtype)
    assert found(read, zeros).nodes == ["h = Not (p)", "y = Where (p, t, s)"]
    for nested in ("k = Where(p, s, t)  y = Where(p, k, z)", "k = Where(p, t, z)  y = Where(p, s, k)"):
        text = net(f"z = Neg(s)  {nested}", shape="N,3", result=y, dtype=dtype)
        assert found(text).nodes == ["z = Neg (s)", "y = Where (p, s, z)"]


def test_nested_selections_of_other_conditions_stay() -> None:
    text = net("z = Neg(s)  k = Where(q, s, t)  y = Where(p, k, z)", result="int64[A,B] y")
    untouched(text, PASS)
    other = net("z = Neg(s)  k = Where(p, s, t)  y = Where(p, k, z)", result="int64[A,B] y, int64[C,D] k")
    untouched(other, PASS)


def test_what_is_never_selected_may_broadcast() -> None:
    text = (
        "g (bool[1] p, int64[1] s, int64[5] t) => (int64[K] y) { k = Where(p, s, t)  z = Neg(s)  y = Where(p, k, z) }"
    )
    untouched(text, PASS)


def test_nested_graphs() -> None:
    branches = (
        "then_branch = t () => (bool[A] u) { k = Not(h)  u = Or(k, q) }, "
        "else_branch = e () => (bool[B] v) { v = Xor(h, on) }"
    )
    text = f"g (bool[N] p, bool[N] q, bool c) => (bool[M] y) <bool on = {{1}}> {{ h = Not(p)  y = If(c) <{branches}> }}"
    result = rewritten(text, PASS)
    assert sorted(result.op_types) == ["If", "Not", "Not", "Not", "Or"]
