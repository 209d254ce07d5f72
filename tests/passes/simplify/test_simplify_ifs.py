"""An If goes where something else decides it, and gives back only what it must."""

import numpy as np
import pytest

from tests.equivalence import Inputs, rewritten, untouched

PASS = "simplify-ifs"
EITHER = Inputs(values={"c": [np.array(True), np.array(False)]})
REFUSING = Inputs(
    values={"c": [np.array(True), np.array(False)]}, bindings=[{"N": 1}, {"N": 3}, {"N": 2}], refusals=True
)
SELECTION = "then_branch = t () => ({0} p) {{ p = Identity(a) }}, else_branch = e () => ({0} q) {{ q = Identity(b) }}"


def choice(then: str, other: str, kind: str = "float[N]") -> str:
    """The branches of an If that gives back one value."""
    return (
        f"<then_branch = t () => ({kind} p) {{ {then} }}, else_branch = e () => ({kind.replace('N', 'M')} q) "
        f"{{ {other} }}>"
    )


def around(nodes: str, inputs: str = "float[N] x, bool c", outputs: str = "float[K] y", constants: str = "") -> str:
    return f"g ({inputs}) => ({outputs}) {f'<{constants}>' if constants else ''} {{ {nodes} }}"


# What encloses an If decides it


@pytest.mark.parametrize(
    ("outer", "inner", "kept"),
    [("c", "c", ["Exp", "Abs"]), ("c", "n", ["Neg", "Exp"]), ("n", "c", ["Neg", "Exp"]), ("n", "n", ["Exp", "Abs"])],
)
def test_an_if_inside_a_branch_of_its_own_condition(outer: str, inner: str, kept: list[str]) -> None:
    nested = f"If({inner}) {choice('p = Exp(x)', 'q = Neg(x)')}"
    other = f"If({inner}) {choice('p = Exp(x)', 'q = Abs(x)')}"
    text = around(f"n = Not(c)  y = If({outer}) {choice(f'p = {nested}', f'q = {other}')}")
    found = rewritten(text, PASS, inputs=EITHER)
    assert [op for op in found.op_types if op not in ("If", "Not")] in (kept, kept[::-1])
    assert found.op_types.count("If") == 1
    assert found.rules.count("enclosed") == 2


def test_from_two_levels_up() -> None:
    inner = f"If(c) {choice('p = Exp(x)', 'q = Neg(x)')}"
    middle = f"If(d) {choice(f'p = {inner}', 'q = Abs(x)')}"
    text = around(f"y = If(c) {choice(f'p = {middle}', 'q = Sqrt(x)')}", "float[N] x, bool c, bool d")
    values = {"c": [np.array(True), np.array(False)], "d": [np.array(True), np.array(False)]}
    found = rewritten(text, PASS, inputs=Inputs(values=values))
    assert found.op_types == ["If", "If", "Exp", "Abs", "Sqrt"]


def test_another_condition_decides_nothing() -> None:
    inner = f"If(d) {choice('p = Exp(x)', 'q = Neg(x)')}"
    untouched(around(f"y = If(c) {choice(f'p = {inner}', 'q = Abs(x)')}", "float[N] x, bool c, bool d"), PASS)


def test_a_loop_between_makes_no_difference() -> None:
    body = f"on = Identity(go)  w = If(c) {choice('p = Exp(v)', 'q = Neg(v)')}"
    loop = f"Loop(n, , x) <body = l (int64 i, bool go, float[N] v) => (bool on, float[N] w) {{ {body} }}>"
    text = around(f"y = If(c) {choice(f'p = {loop}', 'q = Abs(x)')}", constants="int64 n = {2}")
    found = rewritten(text, PASS, inputs=EITHER)
    assert found.op_types == ["If", "Loop", "Identity", "Exp", "Abs"]


def test_a_condition_that_a_loop_carries_is_not_the_one_outside() -> None:
    body = f"on = Identity(go)  d = Not(e)  w = If(e) {choice('p = Exp(v)', 'q = Neg(v)')}"
    loop = (
        "u, y = Loop(n, , c, x) <body = l (int64 i, bool go, bool e, float[N] v) => (bool on, bool d, float[N] w) "
        f"{{ {body} }}>"
    )
    untouched(around(loop, constants="int64 n = {3}"), PASS)


# Branches that are the same


@pytest.mark.parametrize(
    ("then", "other"),
    [
        ("p = Exp(x)", "q = Exp(x)"),
        ("h = Exp(x)  p = Neg(h)", "k = Exp(x)  q = Neg(k)"),
        (
            "w = Constant<value = float[1] {2.5}>()  p = Mul(x, w)",
            "v = Constant<value = float[1] {2.5}>()  q = Mul(x, v)",
        ),
        ("p = Softmax<axis = 0>(x)", "q = Softmax<axis = 0>(x)"),
    ],
)
def test_branches_that_compute_the_same(then: str, other: str) -> None:
    found = rewritten(around(f"r = If(c) {choice(then, other)} y = Abs(r)"), PASS, inputs=EITHER)
    assert "If" not in found.op_types
    assert found.rules == ["same-branches"]


@pytest.mark.parametrize(
    ("then", "other"),
    [
        pytest.param("p = Exp(x)", "q = Neg(x)", id="another operator"),
        pytest.param("p = Sub(x, k)", "q = Sub(k, x)", id="operands in another order"),
        pytest.param("p = Elu<alpha = 0.5>(x)", "q = Elu<alpha = 0.25>(x)", id="another attribute"),
        pytest.param(
            "w = Constant<value = float[1] {0.0}>()  p = Div(x, w)",
            "v = Constant<value = float[1] {-0.0}>()  q = Div(x, v)",
            id="zeros of two signs",
        ),
        pytest.param("h = Exp(x)  p = Neg(h)", "k2 = Exp(x)  h2 = Neg(k2)  q = Abs(h2)", id="one node more"),
        pytest.param("p = RandomNormalLike(x)", "q = RandomNormalLike(x)", id="two draws"),
        pytest.param("h = Exp(x)  h2 = Neg(h)  p = Add(h, x)", "h = Exp(x)  h2 = Neg(h)  q = Add(h2, x)", id="wiring"),
    ],
)
def test_branches_that_only_look_the_same_stay(then: str, other: str) -> None:
    untouched(around(f"r = If(c) {choice(then, other)} y = Abs(r)", constants="float k = {2.0}"), PASS)


# Branches whose result nothing can take


RNN = "float[1,4,2] w = {1,2,3,4,5,6,7,8}, float[1,4,1] r = {1,2,3,4}"


def test_the_branch_whose_rank_an_lstm_cannot_take_is_not_taken() -> None:
    """The first If decides the rank on which the second decides: only two axes make it to the recurrent layer."""
    constants = f"{RNN}, int64[1] last = {{-1}}, int64[1] zero = {{0}}, int64 two = {{2}}"
    squeeze = choice("p = Squeeze(x, last)", "q = Identity(x)", "float[N,2]").replace("float[M,2] q", "float[N,2,A] q")
    unsqueeze = choice("p = Unsqueeze(s, zero)", "q = Identity(s)", "float[A,B,C]").replace(
        "float[A,B,C] q", "float[A,B] q"
    )
    nodes = (
        f"s = If(c) {squeeze}  h = Shape(s)  k = Size(h)  f = Equal(k, two)  d = Not(f)  t = If(d) {unsqueeze} "
        "u = Unsqueeze(t, zero)  o, y = LSTM<hidden_size = 1>(u, w, r)"
    )
    text = around(nodes, "float[N,2,L] x, bool c", "float[A,B,C] y", constants)
    inputs = Inputs(
        values=REFUSING.values, bindings=[{"N": 1, "L": 1}, {"N": 3, "L": 1}, {"N": 3, "L": 2}], refusals=True
    )
    found = rewritten(text, f"fixpoint<8>(fold-shapes,inline-constant-if,{PASS},remove-noops)", inputs=inputs)
    assert found.op_types == ["Squeeze", "Unsqueeze", "LSTM"]
    assert found.rules.count("branch-that-fails") == 2


def test_the_branch_whose_extent_does_not_fit_is_not_taken() -> None:
    branches = choice("p = Transpose(x)", "q = Identity(x)", "float[3,2]").replace("float[3,2] q", "float[2,3] q")
    nodes = f"r = If(c) {branches}  h = Abs(r)  y = MatMul(h, w)"
    text = around(nodes, "float[2,3] x, bool c", "float[A,B] y", "float[3,1] w = {1, 2, 3}")
    inputs = Inputs(values=REFUSING.values, refusals=True)
    found = rewritten(text, PASS, inputs=inputs)
    assert found.op_types == ["Identity", "Abs", "MatMul"]


TWO_RANKS = choice("p = Unsqueeze(x, zero)", "q = Identity(x)", "float[N,2,3]").replace(
    "float[M,2,3] q", "float[2,3] q"
)


@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        pytest.param("y = ReduceSum<keepdims = 0>(r)", "float", id="a reader that takes any rank"),
        pytest.param("h = MatMul(r, w)  y = ReduceSum<keepdims = 0>(h)", "float", id="a reader that takes both"),
        pytest.param("h = Transpose<perm = [1, 0]>(r)  y = Abs(x)", "float[2,3]", id="no output hangs on the reader"),
        pytest.param(
            "y = If(d) <then_branch = t2 () => (float[A,B] p2) { p2 = Transpose<perm = [1, 0]>(r) }, "
            "else_branch = e2 () => (float[A,B] q2) { q2 = Abs(x) }>",
            "float[A,B]",
            id="a reader that may not run",
        ),
        pytest.param(
            "y = Loop(n, , x) <body = l (int64 i, bool go, float[A,B] v) => (bool on, float[A,B] z) "
            "{ on = Identity(go)  z = Transpose<perm = [1, 0]>(r) }>",
            "float[A,B]",
            id="a reader in a loop that may not run",
        ),
    ],
)
def test_branches_of_two_ranks_that_may_both_be_taken_stay(nodes: str, kind: str) -> None:
    constants = "int64[1] zero = {0}, float[3,1] w = {1, 2, 3}"
    inputs = "float[2,3] x, bool c, bool d, int64 n"
    untouched(around(f"r = If(c) {TWO_RANKS}  {nodes}", inputs, f"{kind} y", constants), PASS)


def test_an_empty_vector_among_the_operands_of_concat() -> None:
    """ONNX Runtime passes over it, so the branch that gives it does not make the model fail."""
    branches = choice("p = Identity(x)", "q = Identity(z)").replace("float[M] q", "float[2,3] q")
    nodes = f"r = If(c) {branches}  y = Concat<axis = 0>(r, z)"
    untouched(around(nodes, "float[N] x, float[2,3] z, bool c", "float[A,B] y"), PASS)


# Conditions


def test_a_not_goes_and_the_branches_change_places() -> None:
    found = rewritten(around(f"n = Not(c)  y = If(n) {choice('p = Exp(x)', 'q = Neg(x)')}"), PASS, inputs=EITHER)
    assert sorted(found.op_types) == ["Exp", "If", "Neg"]


def test_a_not_that_others_read_stays_for_them() -> None:
    text = around(f"n = Not(c)  y = If(n) {choice('p = Exp(x)', 'q = Neg(x)')}", outputs="float[K] y, bool n")
    assert sorted(rewritten(text, PASS, inputs=EITHER).op_types) == ["Exp", "If", "Neg", "Not"]


# Results


def both(then: str, other: str) -> str:
    kinds = ["float[N] {0}", "float[N] {0}2"]
    heads = [", ".join(kind.format(name) for kind in kinds) for name in "pq"]
    return f"<then_branch = t () => ({heads[0]}) {{ {then} }}, else_branch = e () => ({heads[1]}) {{ {other} }}>"


def test_a_result_that_nobody_reads_goes_with_what_only_it_needed() -> None:
    nodes = f"y, z = If(c) {both('p = Exp(x)  p2 = Abs(x)', 'q = Neg(x)  q2 = Sin(x)')}"
    found = rewritten(around(nodes), f"{PASS},remove-dead-nodes", inputs=EITHER)
    assert sorted(found.op_types) == ["Exp", "If", "Neg"]
    other = rewritten(around(nodes.replace("y, z", "z, y")), f"{PASS},remove-dead-nodes", inputs=EITHER)
    assert sorted(other.op_types) == ["Abs", "If", "Sin"]


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(("p2 = Identity(a)", "q2 = Identity(a)"), id="a captured value"),
        pytest.param(("p2 = Identity(x)", "q2 = Identity(x)"), id="an input"),
        pytest.param(("p2 = Identity(w)", "q2 = Identity(w)"), id="an initializer"),
        pytest.param(
            ("p2 = Constant<value = float[1] {2.5}>()", "q2 = Constant<value = float[1] {2.5}>()"), id="a constant"
        ),
    ],
)
@pytest.mark.parametrize("outputs", ["float[K] y", "float[K] y, float[L] z"])
def test_a_result_that_both_branches_give_alike(same: tuple[str, str], outputs: str) -> None:
    nodes = (
        f"a = Cos(x)  r, z = If(c) {both(f'p = Exp(x)  {same[0]}', f'q = Neg(x)  {same[1]}')}  "
        f"s = Add(r, z)  y = Add(s, a)"
    )
    found = rewritten(around(nodes, outputs=outputs, constants="float[1] w = {3.5}"), PASS, inputs=EITHER)
    assert "results" in found.rules
    (branch,) = (node for node in found.after.graph.node if node.op_type == "If")
    assert len(branch.output) == 1


def test_all_results_alike() -> None:
    nodes = f"a = Cos(x)  y, z = If(c) {both('p = Identity(a)  p2 = Identity(x)', 'q = Identity(a)  q2 = Identity(x)')}"
    found = rewritten(around(nodes, outputs="float[K] y, float[L] z"), PASS, inputs=EITHER)
    assert found.op_types == ["Cos", "Identity"]


def test_results_that_are_not_alike_stay() -> None:
    swapped = both("p = Identity(a)  p2 = Identity(x)", "q = Identity(x)  q2 = Identity(a)")
    untouched(around(f"a = Cos(x)  y, z = If(c) {swapped}", outputs="float[K] y, float[L] z"), PASS)
    signs = choice("p = Constant<value = float[1] {0.0}>()", "q = Constant<value = float[1] {-0.0}>()", "float[1]")
    untouched(around(f"r = If(c) {signs}  y = Div(x, r)"), PASS)


def test_results_that_are_made_inside_stay() -> None:
    untouched(
        around(
            f"y, z = If(c) {both('p = Exp(x)  p2 = Abs(x)', 'q = Neg(x)  q2 = Sin(x)')}",
            outputs="float[K] y, float[L] z",
        ),
        PASS,
    )


# Selections


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("shape", ["", "[3]"])
def test_a_choice_between_two_captured_integers(dtype: str, shape: str) -> None:
    kind = dtype + shape
    nodes = f"a = Add(k, k)  b = Mul(k, k)  y = If(c) <{SELECTION.format(kind)}>"
    found = rewritten(around(nodes, f"{kind} k, bool c", f"{kind} y"), PASS, inputs=EITHER)
    assert found.op_types == ["Add", "Mul", "Where"]


@pytest.mark.parametrize(
    ("kind", "condition"),
    [
        pytest.param("float", "bool c", id="floats, whose negative zero would be lost"),
        pytest.param("int64", "bool[1] c", id="a condition that raises the rank"),
        pytest.param("int64[N]", "bool c", id="of unknown size"),
        pytest.param("int64[1000]", "bool c", id="large"),
        pytest.param("bool", "bool c", id="a type that Where has no kernel for"),
    ],
)
def test_other_choices_stay(kind: str, condition: str) -> None:
    op = "And(k, k)  b = Or(k, k)" if kind == "bool" else "Add(k, k)  b = Mul(k, k)"
    nodes = f"a = {op}  y = If(c) <{SELECTION.format(kind)}>"
    untouched(around(nodes, f"{kind} k, {condition}", f"{kind} y"), PASS)


def test_a_branch_that_computes_is_no_selection() -> None:
    text = around(f"y = If(c) {choice('p = Neg(k)', 'q = Identity(k)', 'int64')}", "int64 k, bool c", "int64 y")
    untouched(text, PASS)
