"""A nested graph that could not run stays as it is, for runtimes would refuse the model once they saw it."""

import numpy as np
import pytest

from planish import ir
from tests.equivalence import Inputs, model, rewritten, untouched

NEVER = Inputs(values={"c": [np.array(False)]})
CONSTANTS = (
    "float[1] f = {5.0}, float[2] g = {2.0, 4.0}, float[7] seven = {1}, float[8] eight = {1}, int64[1] six = {6},"
    " int64[1] zero = {0}"
)
BROKEN = {
    "broadcast": "s = Cast<to = 7>(f)  z = ConstantOfShape(s)  a = Add(z, seven)",
    "matrices": "s = Cast<to = 7>(g)  z = Reshape(eight, s)  m = MatMul(x, z)  a = Reshape(m, six)",
    "squeeze": "s = Cast<to = 7>(g)  z = Reshape(eight, s)  a = Squeeze(z, zero)",
    "sizes": "s = Cast<to = 7>(g)  a, r = Split(seven, s)",
}


def branch(nodes: str, before: str = "") -> str:
    constants = CONSTANTS.replace("{1}", "{1,1,1,1,1,1,1}", 1).replace("{1}", "{1,1,1,1,1,1,1,1}")
    return (
        f"g (bool c, float[2,3] x) => (float[P] y) <{constants}> {{ {before} y = If(c)<"
        f"then_branch = t () => (float[A] a) {{ {nodes} }},"
        " else_branch = e () => (float[B] b) { b = Reshape(x, six) }> }"
    )


@pytest.mark.parametrize("nodes", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("pipeline", ["fold-constants", "fold-shapes", "simplify", "deploy"])
def test_what_shows_that_a_branch_cannot_run_stays(nodes: str, pipeline: str) -> None:
    found = rewritten(branch(nodes), pipeline, inputs=NEVER)
    assert {"If", "Cast"} <= set(found.op_types)


def test_what_a_branch_reads_of_the_graph_around_it() -> None:
    before = "s = Cast<to = 7>(g)  z = Reshape(eight, s)"
    untouched(branch("a = Squeeze(z, zero)", before), "fold-constants")


def test_a_constant_that_a_branch_gives_back() -> None:
    found = rewritten(
        branch("s = Cast<to = 7>(f)  z = ConstantOfShape(s)  q = Add(z, seven)  a = Neg(f)"),
        "fold-constants",
        inputs=NEVER,
    )
    (node,) = found.after.graph.node
    assert all(len(attribute.g.initializer) < 2 for attribute in node.attribute)


def test_a_branch_that_can_run_is_folded() -> None:
    found = rewritten(branch("s = Cast<to = 7>(f)  a = ConstantOfShape(s)"), "simplify", inputs=NEVER)
    assert "Cast" not in found.op_types


def test_what_leads_to_no_such_node_is_rewritten() -> None:
    text = branch(BROKEN["broadcast"], "i = Identity(x)").replace("b = Reshape(x, six)", "b = Reshape(i, six)")
    assert rewritten(text, "remove-noops", inputs=NEVER).rules == ["identity"]


def test_a_model_with_such_a_branch_is_loaded() -> None:
    nodes = "s = Shape(seven)  a = Reshape(x, s)"
    graph = ir.load(model(branch(nodes)))
    assert [node.op for node in graph.refused] == ["Reshape"]
    rewritten(branch(nodes), "simplify", inputs=NEVER)
