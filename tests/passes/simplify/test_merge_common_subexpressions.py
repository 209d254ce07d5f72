"""Nodes that compute the same become one; those that only look alike stay two."""

import numpy as np
import onnx
import pytest

from planish import ir, passes
from tests.equivalence import Inputs, model, rewritten, untouched

PASS = "merge-common-subexpressions"


def twice(node: str, constants: str = "") -> str:
    """A model that computes a node two times over, as `a` and as `b`."""
    held = f"<{constants}>" if constants else ""
    one, other = node.replace("r =", "a ="), node.replace("r =", "b =")
    return f"g (float[N] x) => (float[N] y) {held} {{ {one}  {other}  c = Neg(a)  d = Abs(b)  y = Add(c, d) }}"


def test_text() -> None:
    found = rewritten("g (float[N] x) => (float[N] y) { a = Exp(x)  b = Exp(x)  y = Sub(a, b) }", PASS)
    assert found.nodes == ["a = Exp (x)", "y = Sub (a, a)"]
    assert found.rules == ["merge"]


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        ("r = Exp(x)", ""),
        ("r = Softmax<axis = -1>(x)", ""),
        ("r = LeakyRelu<alpha = 0.5>(x)", ""),
        ("r = Mul(x, w)", "float[1] w = {2}"),
        ("r = Clip(x, , w)", "float w = {2}"),
        ("r = Dropout(x)", ""),
        ("r = Cast<to = 1>(x)", ""),
    ],
)
def test_nodes_that_are_the_same(node: str, constants: str) -> None:
    assert rewritten(twice(node, constants), PASS).rules == ["merge"]


def test_an_attribute_with_its_default_is_as_good_as_none() -> None:
    found = rewritten(
        "g (float[N,M] x) => (float[N,M] y) { a = Softmax(x)  b = Softmax<axis = -1>(x)  y = Sub(a, b) }", PASS
    )
    assert found.rules == ["merge"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("a = Exp(x)  b = Neg(x)", id="two operators"),
        pytest.param("a = LeakyRelu<alpha = 0.5>(x)  b = LeakyRelu<alpha = 0.25>(x)", id="two attributes"),
        pytest.param("a = Sub(x, z)  b = Sub(z, x)", id="operands in another order"),
        pytest.param("a = Clip(x, k)  b = Clip(x, , k)", id="operands in other places"),
        pytest.param("a = Shrink<bias = 0.0>(x)  b = Shrink<bias = -0.0>(x)", id="zeros of both signs"),
        pytest.param("a, m = Dropout(x)  b = Dropout(x)", id="another number of results"),
    ],
)
def test_nodes_that_only_look_alike(body: str) -> None:
    untouched(f"g (float[N] x, float[N] z, float k) => (float[N] y) {{ {body}  y = Add(a, b) }}", PASS)


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        ("r = RandomNormalLike(x)", ""),
        ("r = RandomUniformLike<seed = 1.0>(x)", ""),
        ("r = Bernoulli(p)", "float[3] p = {0.5, 0.5, 0.5}"),
        ("r, m_r = Dropout(x, h, t)", "float h = {0.5}, bool t = {1}"),
    ],
)
def test_what_is_random_is_never_merged(node: str, constants: str) -> None:
    body = node.replace("r =", "a =").replace("m_r", "m_a").replace("r,", "a,")
    other = node.replace("r =", "b =").replace("m_r", "m_b").replace("r,", "b,")
    held = f"<{constants}>" if constants else ""
    untouched(f"g (float[3] x) => (float[3] y) {held} {{ {body}  {other}  y = Sub(a, b) }}", PASS)


def test_samples_are_never_merged() -> None:
    sample = "Multinomial<sample_size = 4>(x)"
    untouched(f"g (float[1,2] x) => (int32[1,4] y) {{ a = {sample}  b = {sample}  y = Sub(a, b) }}", PASS)


def test_other_domains() -> None:
    body = "g (float[N] x) => (float[N] y) { a = vendor.Strange(x)  b = vendor.Strange(x)  y = Add(a, b) }"
    untouched(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "vendor" : 1]> {body}'), PASS)
    function = '<opset_import: ["" : 17], domain: "mine"> Twice (v) => (w) { w = RandomNormalLike(v) }'
    local = f"g (float[N] x) => (float[N] y) {{ a = mine.Twice(x)  b = mine.Twice(x)  y = Add(a, b) }} {function}"
    untouched(model(local, imports=', "mine" : 1'), PASS)


def test_two_outputs_stay_two() -> None:
    untouched("g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x)  z = Exp(x) }", PASS)


def test_an_output_and_a_value_inside() -> None:
    found = rewritten("g (float[N] x) => (float[N] y, float[N] z) { a = Exp(x)  y = Exp(x)  z = Neg(a) }", PASS)
    assert found.nodes == ["y = Exp (x)", "z = Neg (y)"]
    found = rewritten("g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x)  a = Exp(x)  z = Neg(a) }", PASS)
    assert found.nodes == ["y = Exp (x)", "z = Neg (y)"]


def test_nodes_with_several_results() -> None:
    found = rewritten(
        "g (float[4] x) => (float[2] y) {"
        " a, b = Split<axis = 0>(x)  c, d = Split<axis = 0>(x)  e = Add(a, d)  y = Add(c, e) }",
        PASS,
    )
    assert found.op_types == ["Split", "Add", "Add"]


def test_a_chain_merges_in_one_turn() -> None:
    found = rewritten(
        "g (float[N] x) => (float[N] y) {"
        " a = Exp(x)  b = Exp(x)  c = Neg(a)  d = Neg(b)  e = Abs(c)  f = Abs(d)  y = Sub(e, f) }",
        PASS,
    )
    assert found.op_types == ["Exp", "Neg", "Abs", "Sub"]
    assert len(found.rules) == 3


def test_a_nested_graph_uses_what_lies_around_it() -> None:
    found = rewritten(
        """g (float[N] x, bool c) => (float[N] y) {
            a = Exp(x)
            r = If(c) <then_branch = t () => (float[N] p) { b = Exp(x)  p = Neg(b) },
                       else_branch = e () => (float[N] q) { b = Exp(x)  q = Abs(b) }>
            y = Add(a, r)
        }""",
        PASS,
    )
    assert found.op_types == ["Exp", "If", "Neg", "Abs", "Add"]


def test_what_one_branch_computes_stays_there() -> None:
    text = """g (float[N] x, bool c) => (float[N] y) {
        r = If(c) <then_branch = t () => (float[N] p) { b = Exp(x)  p = Neg(b) },
                   else_branch = e () => (float[N] q) { b = Sin(x)  q = Abs(b) }>
        a = Exp(x)  y = Add(a, r)
    }"""
    untouched(text, PASS)
    found = rewritten(text.replace("Sin", "Exp"), PASS)
    assert sorted(found.op_types) == ["Abs", "Add", "Exp", "If", "Neg"]


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("dtype", ["float", "int64"])
def test_operands_that_changed_places(op: str, dtype: str) -> None:
    text = f"g ({dtype}[N] x, {dtype}[N] z) => ({dtype}[N] y) {{ a = {op}(x, z)  b = {op}(z, x)  y = Sub(a, b) }}"
    assert rewritten(text, PASS).rules == ["merge"]


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_booleans_that_changed_places(op: str) -> None:
    text = f"g (bool[N] x, bool[N] z) => (bool[N] y) {{ a = {op}(x, z)  b = {op}(z, x)  c = Not(b)  y = Or(a, c) }}"
    assert rewritten(text, PASS).rules == ["merge"]


def test_extremes_that_changed_places() -> None:
    """Which zero of two signs is the larger one depends on their order."""
    text = "g (int64[N] x, int64[N] z) => (int64[N] y) { a = Max(x, z)  b = Max(z, x)  y = Sub(a, b) }"
    assert rewritten(text, PASS).rules == ["merge"]
    untouched(text.replace("int64", "float"), PASS)
    untouched(text.replace("Max", "Sub"), PASS)
    untouched(text.replace("Max", "Div"), PASS)


def branches(then: str, other: str) -> str:
    return (
        "g (float[N] x, bool c) => (float[N] y) { "
        f"r = If(c) <then_branch = t () => (float[N] p) {{ {then} }}, else_branch = e () => (float[N] q) {{ {other} }}>"
        "  y = Abs(r) }"
    )


def test_what_both_branches_compute_moves_before_the_if() -> None:
    chosen = Inputs(values={"c": [np.array(True), np.array(False)]})
    chain = "a = Exp(x)  b = Neg(a)  d = Softplus(b)"
    found = rewritten(branches(f"{chain}  p = Sin(d)", f"{chain}  q = Cos(d)"), PASS, inputs=chosen)
    assert found.op_types[:3] == ["Exp", "Neg", "Softplus"]
    assert len(found.op_types) == 7
    twice_over = rewritten(
        branches("a = Exp(x)  p = Sin(a)", "a = Exp(x)  b = Exp(x)  q = Sub(a, b)"), PASS, inputs=chosen
    )
    assert twice_over.op_types.count("Exp") == 1


@pytest.mark.parametrize(
    ("then", "other"),
    [
        pytest.param("p = Exp(x)", "q = Exp(x)", id="what they give back"),
        pytest.param("a = Exp(x)  p = Neg(a)", "q = Exp(x)", id="what one gives back"),
        pytest.param("a = Exp(x)  p = Neg(a)", "a = Sin(x)  q = Neg(a)", id="of other operands"),
        pytest.param("a = RandomNormalLike(x)  p = Neg(a)", "a = RandomNormalLike(x)  q = Abs(a)", id="what is random"),
    ],
)
def test_what_must_stay_inside(then: str, other: str) -> None:
    untouched(branches(then, other), PASS)


def test_what_a_loop_computes_stays_inside() -> None:
    """It may not run at all."""
    loops = [
        f"Loop(n, , x) <body = b{i} (int64 i, bool go, float[N] v) => (bool on, float[N] w) "
        "{ on = Identity(go)  a = Sqrt(x)  w = Add(v, a) }>"
        for i in range(2)
    ]
    untouched(f"g (float[N] x, int64 n) => (float[M] y) {{ s = {loops[0]}  t = {loops[1]}  y = Sub(s, t) }}", PASS)


def test_what_a_branch_gives_back_it_must_make() -> None:
    untouched(
        """g (float[N] x, bool c) => (float[N] y) {
            a = Exp(x)
            r = If(c) <then_branch = t () => (float[N] p) { p = Exp(x) },
                       else_branch = e () => (float[N] q) { q = Abs(x) }>
            y = Add(a, r)
        }""",
        PASS,
    )


def test_control_flow_is_not_compared() -> None:
    branches = "then_branch = t () => (float[N] p) { p = Exp(x) }, else_branch = e () => (float[N] q) { q = Abs(x) }"
    untouched(
        f"g (float[N] x, bool c) => (float[N] y) {{ a = If(c) <{branches}>  b = If(c) <{branches}>  y = Add(a, b) }}",
        PASS,
    )


def test_attributes_that_are_tensors() -> None:
    def shape(value: str) -> str:
        return f"ConstantOfShape<value = {value}>(s)"

    same = f"a = {shape('float[1] {0.0}')}  b = {shape('float[1] {0.0}')}"
    other = f"a = {shape('float[1] {0.0}')}  b = {shape('float[1] {-0.0}')}"
    text = "g (int64[1] s) => (float[N] y) { BODY  c = Neg(b)  y = Sub(a, c) }"
    for body, merged in ((same, True), (other, False)):
        graph = ir.load(model(text.replace("BODY", body)))
        assert bool(passes.run(graph, PASS)[0].rewrites) == merged


@pytest.mark.parametrize(
    ("nodes", "casts"),
    [
        pytest.param(
            "r = Relu(x)  s = Shape<start=1, end=2>(x)  t = Shape<start=1, end=2>(r)", 1, id="of tensors of one shape"
        ),
        pytest.param(
            "k = Constant<value_int=1>()  z = Constant<value_ints=[0]>()  r = Relu(x)  p = Shape(x)"
            "  g = Gather(p, k)  s = Unsqueeze(g, z)  t = Shape<start=1, end=2>(r)",
            1,
            id="by another way",
        ),
        pytest.param("s = Shape<start=0, end=1>(x)  t = Shape<start=1, end=2>(x)", 2, id="other dims"),
        pytest.param("s = Shape<start=1, end=2>(x)  q = Cast<to=6>(s)  t = Cast<to=7>(q)", 1, id="cast and back"),
        pytest.param(
            "z = Constant<value_ints=[0]>()  s = Shape<start=1, end=2>(x)  t = Squeeze(s, z)", 2, id="other ranks"
        ),
        pytest.param("s = Shape<start=1, end=2>(x)  t = Cast<to=6>(s)", 3, id="other types"),
    ],
)
def test_the_same_dims_worked_out_twice(nodes: str, casts: int) -> None:
    text = (
        f"g (float[N,M] x) => (float[N,M] y) {{ {nodes}"
        "  u = Cast<to=1>(s)  v = Cast<to=1>(t)  w = Add(x, u)  y = Mul(w, v) }"
    )
    found = rewritten(text, f"{PASS},remove-dead-nodes", inputs=Inputs(({"N": 3, "M": 3}, {"N": 1, "M": 4})))
    assert found.op_types.count("Cast") == casts


def test_dims_that_only_one_branch_knows_stay_in_it() -> None:
    text = """g (float[N,M] x, bool c) => (int64[1] y) {
        y = If(c) <
            then_branch = t () => (int64[1] a) { s = Shape<start=0, end=1>(x)  a = Neg(s) },
            else_branch = e () => (int64[1] b) { r = Relu(x)  t = Shape<start=0, end=1>(r)  b = Abs(t) }
        > }"""
    rewritten(text, PASS)


def test_a_node_that_went_is_not_found_again() -> None:
    text = """g (float[N,M] x) => (float[N,M] y) {
        r = Relu(x)  s = Shape(x)  t = Shape(r)  u = Shape(r)
        a = Expand(r, s)  b = Expand(a, t)  y = Expand(b, u) }"""
    assert rewritten(text, PASS).op_types.count("Shape") == 1


def test_axes_as_an_attribute_and_axes_that_a_pass_made() -> None:
    found = rewritten(
        """g (float[2,4] x) => (float[2,1] a, float[2,1] c) <int64[1] last = {1}> {
            a = ReduceMax<axes = [1], keepdims = 1>(x)
            b = ReduceMax<axes = [1], keepdims = 0>(x)  k = Unsqueeze(b, last)  c = Neg(k)
        }""",
        f"merge-reductions,{PASS}",
    )
    assert found.rules == ["reduce-reshape", "merge"]
    assert found.op_types == ["ReduceMax", "Neg"]


def test_nodes_that_went_with_what_they_were_read_by_are_not_found_again() -> None:
    text = """g (float[N,M] x) => (float[N,M] y) <int64 k = {1}, int64[1] z = {0}> {
        s = Shape<start=1, end=2>(x)  a = Expand(x, s)
        p = Shape(x)  g = Gather(p, k)  u = Unsqueeze(g, z)  b = Expand(a, u)
        q = Shape(x)  h = Gather(q, k)  w = Cast<to=1>(h)  c = Mul(b, w)
        r = Shape(x)  y = Expand(c, r) }"""
    found = rewritten(text, PASS, inputs=Inputs(({"N": 3, "M": 1}, {"N": 2, "M": 4})))
    assert found.op_types.count("Shape") == 2
