"""What a rewrite shows of extents with made-up names is written everywhere."""

import numpy as np

from planish import ir, passes
from planish.ir import DType, TensorType
from planish.ir.dim import fresh_symbol, symbol
from planish.ir.infer import equal_extents
from tests.equivalence import Inputs, model, rewritten

TEXT = """g (float[N,4] x, bool[N,4] c) => (float[A,B] y) <int64 zero = {0}, int64[1] first = {0}, int64[1] one = {1},
    int64[1] both = {-1}> { m = NonZero(c)  r = Slice(m, first, one, first)  q = Squeeze(r, first)  e = Gather(x, q)
    t = ReduceSum<keepdims = 0>(e, one)  s = Shape(x)  n = Gather(s, zero)  u = Unsqueeze(n, first)
    v = Concat<axis = 0>(u, one)  w = Reshape(t, v)  d = Sub(e, w)  y = Relu(d) }"""


def test_a_later_name_is_the_earlier_extent() -> None:
    late, early = fresh_symbol("?7"), fresh_symbol("?3")
    types = [TensorType(DType.FLOAT, (dim, 2)) for dim in (late, early, symbol("N"), 5)]
    assert equal_extents(types[0], types[1]) == equal_extents(types[1], types[0]) == {"?7": early}
    assert equal_extents(types[0], types[2]) == {"?7": symbol("N")}
    assert equal_extents(types[3], types[1]) == {"?3": 5}
    assert equal_extents(types[2], types[3]) == {}
    assert equal_extents(types[0], TensorType(DType.FLOAT, (2,))) == {}
    assert equal_extents(TensorType(DType.FLOAT, (late * 2 + 1,)), TensorType(DType.FLOAT, (late,))) == {}


def test_a_reshape_that_names_an_unknown_extent() -> None:
    """The model reshapes as many sums as rows are picked to N: as many are picked in every run that does not fail."""
    graph = ir.load(model(TEXT))
    passes.run(graph, "simplify")
    (gathered,) = (node.result for node in graph.nodes if node.op == "Gather")
    assert gathered.shape is not None
    assert str(gathered.shape[0]) == "N"


def test_a_second_run_has_nothing_to_add() -> None:
    one_a_row = np.eye(3, 4).astype(np.bool_)
    inputs = Inputs(bindings=({"N": 3},), values={"c": [one_a_row]}, kinds=("ordinary",))
    assert "Reshape" not in rewritten(TEXT, "deploy", inputs=inputs).op_types


def test_what_a_branch_shows_stays_in_it() -> None:
    """Where the branch does not run, the extents may differ."""
    text = """g (float[N] x, bool[N] c, bool b) => (float[A,B] y) <int64[1] first = {0}, int64[1] one = {1}> {
        m = NonZero(c)  r = Slice(m, first, one, first)  q = Squeeze(r, first)  e = Gather(x, q)  s = Shape(x)
        v = Concat<axis = 0>(s, one)
        y = If(b) <then_branch = t () => (float[C,D] p) { w = Reshape(e, v)  p = Neg(w) },
        else_branch = f () => (float[E,F] o) { u = Unsqueeze(e, one)  o = Neg(u) }> }"""
    graph = ir.load(model(text))
    passes.run(graph, "simplify")
    (gathered,) = (node.result for node in graph.nodes if node.op == "Gather")
    assert gathered.shape is not None
    assert str(gathered.shape[0]) != "N"
