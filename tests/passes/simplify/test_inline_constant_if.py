"""The branch that a constant condition takes stands in the graph, and everything that it gives back keeps its name."""

import numpy as np
import pytest

from tests.equivalence import model, rewritten, untouched

PASS = "inline-constant-if"
BOTH = [pytest.param(True, id="then"), pytest.param(False, id="else")]
INNER = "then_branch = t2 () => (float[N] p) { p = Mul(x, a) }, else_branch = e2 () => (float[N] q) { q = Neg(b) }"


def branches(then: str, other: str, taken: bool, before: str = "", after: str = "", *, constants: str = "") -> str:
    """`y` is given by an If whose branches are those; it stands between other nodes."""
    held = f"bool c = {{{int(taken)}}}" + (f", {constants}" if constants else "")
    return (
        f"g (float[N] x) => (float[N] y) <{held}> {{ {before} r = If(c) <"
        f"then_branch = t () => (float[N] p) {{ {then} }}, else_branch = e () => (float[N] q) {{ {other} }}>"
        f"  {after or 'y = Neg(r)'} }}"
    )


def test_text() -> None:
    found = rewritten(branches("p = Exp(x)", "q = Abs(x)", True), PASS)
    assert found.nodes == ["p = Exp (x)", "y = Neg (p)"]
    other = rewritten(branches("p = Exp(x)", "q = Abs(x)", False), PASS)
    assert other.nodes == ["q = Abs (x)", "y = Neg (q)"]


def test_a_condition_that_the_caller_gives_stays() -> None:
    branch = "then_branch = t () => (float[N] p) { p = Exp(x) }, else_branch = e () => (float[N] q) { q = Abs(x) }"
    untouched(f"g (float[N] x, bool c) => (float[N] y) {{ y = If(c) <{branch}> }}", PASS)
    untouched(f"g (float[N] x, bool c = {{1}}) => (float[N] y) {{ y = If(c) <{branch}> }}", PASS)


@pytest.mark.parametrize("taken", BOTH)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param("v = Identity(a)", id="a captured value"),
        pytest.param("v = Identity(x)", id="an input"),
        pytest.param("v = Identity(w)", id="an initializer of the graph around"),
        pytest.param("v = Constant<value = float[1] {2.5}>()", id="a constant"),
    ],
)
def test_what_a_branch_may_give_back(body: str, taken: bool) -> None:
    """An Identity that a branch ends with goes with the other passes; here it moves out with the rest."""
    then, other = body.replace("v =", "p ="), body.replace("v =", "q =")
    constants = "float[1] w = {3.0}"
    for pipeline in (PASS, "simplify"):
        text = branches(then, other, taken, "a = Abs(x) ", "y = Add(x, r)", constants=constants)
        assert "If" not in rewritten(text, pipeline).op_types


@pytest.mark.parametrize("pipeline", [PASS, "simplify,fuse"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param("y = Identity(x)", id="an input"),
        pytest.param("y = Identity(a)", id="a captured value"),
        pytest.param("y = Identity(z)", id="another output"),
        pytest.param("y = Constant<value = float[1] {2.5}>()", id="a constant"),
        pytest.param("y = Exp(x)", id="a node's result"),
    ],
)
def test_the_result_is_an_output_of_the_model(body: str, pipeline: str) -> None:
    branch = f"then_branch = t () => (float[K] y) {{ {body} }}, else_branch = e () => (float[L] q) {{ q = Neg(x) }}"
    nodes = f"a = Abs(x)  z = Neg(a)  v = If(c) <{branch.replace('y', 'p')}>"
    text = f"g (float[N] x) => (float[M] v, float[N] z) <bool c = {{1}}> {{ {nodes} }}".replace("Identitp", "Identity")
    found = rewritten(text, pipeline)
    assert "If" not in found.op_types
    assert [info.name for info in found.after.graph.output] == ["v", "z"]


def test_one_value_given_back_twice() -> None:
    text = """g (float[N] x) => (float[N] y, float[N] z) <bool c = {1}> {
        y, z = If(c) <then_branch = t () => (float[N] p, float[N] p2) { p = Exp(x)  p2 = Identity(p) },
                      else_branch = e () => (float[N] q, float[N] q2) { q = Neg(x)  q2 = Abs(x) }>
    }"""
    for pipeline in (PASS, "simplify"):
        assert sorted(rewritten(text, pipeline).op_types) == ["Exp", "Identity"]


def test_a_branch_gives_back_an_initializer_of_the_branch_that_it_takes() -> None:
    """It belongs to another graph, and a branch can give back only what it makes."""
    text = """g (float[1] x, bool q) => (float[1] y) <bool c = {1}> {
        y = If(q) <
            then_branch = t () => (float[1] p) {
                p = If(c) <then_branch = t2 () => (float[1] w) <float[1] w = {2.5}> { },
                           else_branch = e2 () => (float[1] v) { v = Neg(x) }>
            },
            else_branch = e () => (float[1] r) { r = Neg(x) }
        >
    }"""
    for pipeline in (PASS, "simplify"):
        found = rewritten(model(text), pipeline)
        assert found.op_types.count("If") == 1


def test_captures_from_two_levels_up_and_shadowed_names() -> None:
    """`v` is made outside, and again in a branch that cannot see it; `p` and `q` are made on every level."""
    then = f"b = Exp(a)  p = If(c) <{INNER.replace('p = Mul(x, a)', 'v = Mul(x, a)  p = Add(v, b)')}>"
    text = branches(then, "v = Sqrt(a)  q = Neg(v)", True, "a = Abs(x) ", "v = Neg(r)  y = Exp(v)")
    found = rewritten(text, PASS)
    assert found.op_types == ["Abs", "Exp", "Mul", "Add", "Neg", "Exp"]


def test_only_the_outer_if_is_constant() -> None:
    text = branches(f"b = Exp(a)  p = If(d) <{INNER}>", "q = Neg(a)", True, "a = Abs(x) ").replace(
        "(float[N] x)", "(float[N] x, bool d)"
    )
    found = rewritten(text, PASS)
    assert found.op_types == ["Abs", "Exp", "If", "Mul", "Neg", "Neg"]


def test_only_the_inner_if_is_constant() -> None:
    text = branches(f"b = Exp(a)  p = If(c) <{INNER}>", "q = Neg(a)", True, "a = Abs(x) ")
    text = text.replace("(float[N] x)", "(float[N] x, bool d)").replace("r = If(c)", "r = If(d)")
    found = rewritten(text, PASS)
    assert found.op_types == ["Abs", "If", "Mul", "Neg", "Neg"], "what only the branch that went read goes as well"


def test_an_if_inside_the_branch_that_goes() -> None:
    found = rewritten(branches(f"b = Exp(a)  p = If(c) <{INNER}>", "q = Neg(a)", False, "a = Abs(x) "), PASS)
    assert found.op_types == ["Abs", "Neg", "Neg"]


def test_a_condition_is_folded_first() -> None:
    text = branches(
        "p = Exp(x)",
        "q = Abs(x)",
        True,
        "k = Shape(w)  n = Size(k)  d = Equal(n, one) ",
        constants="float[3] w = {1, 2, 3}, int64 one = {1}",
    )
    found = rewritten(text.replace("If(c)", "If(d)"), "simplify")
    assert found.op_types == ["Exp", "Neg"]


def test_a_branch_of_another_shape_is_taken() -> None:
    """The rank of the result is known only once the branch is chosen."""
    text = """g (float[N] x) => (float[A,B] y) <bool c = {0}, int64[1] one = {1}> {
        r = If(c) <then_branch = t () => (float[N] p) { p = Exp(x) },
                   else_branch = e () => (float[N,1] q) { q = Unsqueeze(x, one) }>
        s = Shape(r)  y = Expand(r, s)
    }"""
    found = rewritten(text, "simplify")
    assert found.op_types == ["Unsqueeze"]


def test_what_is_random_stays_random() -> None:
    text = branches(
        "p = RandomNormalLike(x)",
        "q = Abs(x)",
        True,
        after="k = Mul(r, zero)  y = Add(x, k)",
        constants="float zero = {0.0}",
    )
    found = rewritten(text, PASS)
    assert found.op_types == ["RandomNormalLike", "Mul", "Add"]


def test_weights_of_branches_merge_after_they_met() -> None:
    """Two branches hold the same weight: apart while they are nested, one when both have moved out."""
    weight = "<float[3] w = {1.5, -2.5, 3.5}>"
    other = "else_branch = e () => (float[3] q) { q = Neg(x) }"
    text = f"""g (float[3] x) => (float[3] y) <bool c = {{1}}> {{
        r = If(c) <then_branch = t () => (float[3] p) {weight} {{ p = Mul(x, w) }}, {other}>
        y = If(c) <then_branch = t () => (float[3] p) {weight} {{ p = Sub(r, w) }}, {other}>
    }}"""
    found = rewritten(text, "simplify")
    assert found.op_types == ["Mul", "Sub"]
    assert len(found.initializers) == 1


def test_loops_inside_a_branch_move_with_it() -> None:
    loop = (
        "n = Constant<value = int64 {3}>()  p = Loop(n, c, x) <"
        "body = l (int64 i, bool go, float[N] v) => (bool on, float[N] w) { on = Identity(go)  w = Mul(v, a) }>"
    )
    found = rewritten(branches(loop, "q = Neg(a)", True, "a = Abs(x) "), PASS)
    assert found.op_types == ["Abs", "Constant", "Loop", "Identity", "Mul", "Neg"]


def test_a_condition_of_one_element() -> None:
    text = branches("p = Exp(x)", "q = Abs(x)", False).replace("bool c = {0}", "bool[1] c = {0}")
    assert rewritten(text, PASS).op_types == ["Abs", "Neg"]


def test_optional_results_that_nobody_reads() -> None:
    text = """g (float[N] x) => (float[N] y) <bool c = {1}> {
        y, z = If(c) <then_branch = t () => (float[N] p, float[N] p2) { p = Exp(x)  p2 = Abs(x) },
                      else_branch = e () => (float[N] q, float[N] q2) { q = Neg(x)  q2 = Abs(x) }>
    }"""
    assert rewritten(text, "simplify").op_types == ["Exp"]


def test_constants_come_out_the_same() -> None:
    found = rewritten(
        branches("p = Constant<value = float[1] {2.5}>()", "q = Neg(x)", True, after="y = Add(x, r)"), PASS
    )
    (constant,) = (node for node in found.after.graph.node if node.op_type == "Constant")
    assert np.frombuffer(constant.attribute[0].t.raw_data or b"", np.float32).tolist() in ([2.5], [])


def test_names_that_the_branch_shares_with_another() -> None:
    """As many nodes move out as go: the model is no less another one, in which both cannot be of one name."""
    text = """g (float[N] x, bool c) => (float[N] y, float[N] z) {
        k = Constant<value = bool {1}>()
        y = If(k) <then_branch = t () => (float[N] p) { a = Abs(x)  p = Neg(x) },
                   else_branch = e () => (float[N] q) { q = Abs(x) }>
        z = If(c) <then_branch = u () => (float[N] r) { a = Abs(x)  r = Exp(a) },
                   else_branch = v () => (float[N] s) { s = Abs(x) }>
    }"""
    assert len(rewritten(text, PASS).nodes) == 3
