"""Names that two nodes define: each reader meant the definition before it."""

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser

from planish import ir
from planish.ir import GraphError
from tests.equivalence import Feeds, run

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def results(graph: ir.Graph, feeds: Feeds) -> list[NDArray[np.float64]]:
    return [result.astype(np.float64) for result in run(ir.emit(graph), feeds) if isinstance(result, np.ndarray)]


def test_a_name_that_two_nodes_define() -> None:
    text = "g (float[2] x) => (float[2] t) { [one] t = Neg (x) a = Exp (t) [two] t = Add (a, t) }"
    graph = ir.load(parser.parse_model(f"{HEAD} {text}"))
    assert graph.notes == ("value 't' was defined 2 times; the last definition, by two, keeps the name",)
    x = np.array([1, 2], np.float32)
    np.testing.assert_allclose(results(graph, {"x": x})[0], np.exp(-x) - x, rtol=1e-6)


def test_three_times_and_a_name_that_is_taken() -> None:
    text = """g (float[2] x) => (float[2] y, float[2] t_1)
        { t = Neg (x) t_1 = Exp (t) t = Abs (t_1) t = Sqrt (t) y = Add (t, t) }"""
    graph = ir.load(parser.parse_model(f"{HEAD} {text}"))
    x = np.array([1, 2], np.float32)
    y, t_1 = results(graph, {"x": x})
    np.testing.assert_allclose(t_1, np.exp(-x), rtol=1e-6)
    np.testing.assert_allclose(y, 2 * np.sqrt(np.exp(-x)), rtol=1e-6)


def test_nested_graphs_read_the_definition_before_them() -> None:
    branch = "<then_branch = a () => (float[2] p) {{ p = Neg ({0}) }}, else_branch = b () => (float[2] q) {{ {1} }}>"
    text = f"""g (float[2] x, bool c) => (float[2] y) {{ t = Exp (x)
        u = If (c) {branch.format("t", "r = Abs (x) q = Neg (r)")} t = Sqrt (t) y = Add (u, t) }}"""
    graph = ir.load(parser.parse_model(f"{HEAD} {text}"))
    assert len(graph.notes) == 1
    x = np.array([1, 2], np.float32)
    for condition, expected in ((True, -np.exp(x)), (False, -x)):
        found = results(graph, {"x": x, "c": np.array(condition)})[0]
        np.testing.assert_allclose(found, expected + np.sqrt(np.exp(x)), rtol=1e-6)


DOUBTS = {
    "read first": "(float[2] x) => (float[2] y) { a = Relu (t) t = Neg (x) t = Exp (x) y = Add (a, t) }",
    "by one node": "(float[4] x) => (float[2] y) { y, y = Split (x) }",
    "an input": "(float[2] x) => (float[2] y) { x = Relu (x) y = Neg (x) }",
    "a constant": "(float[2] x) => (float[2] y) <float[2] w = {1,2}> { w = Relu (x) w = Neg (x) y = Neg (w) }",
}


@pytest.mark.parametrize("body", DOUBTS.values(), ids=DOUBTS)
def test_what_leaves_a_doubt_is_refused(body: str) -> None:
    with pytest.raises(GraphError, match="is defined twice"):
        ir.load(parser.parse_model(f"{HEAD} g {body}"))


def test_strict() -> None:
    proto = parser.parse_model(f"{HEAD} g (float[2] x) => (float[2] t) {{ t = Neg (x) a = Exp (t) t = Add (a, t) }}")
    before = proto.SerializeToString()
    with pytest.raises(GraphError, match=r"'t' is defined twice.*export the model again"):
        ir.load(proto, strict=True)
    ir.load(proto)
    assert proto.SerializeToString() == before
