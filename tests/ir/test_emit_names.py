"""However graphs nest and whatever their values are called, each name means one value where it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planish import ir
from planish.ir import Builder, DType, Graph, Node, Value, constant
from planish.ir.infer import infer
from planish.ir.types import Array
from planish.runtime.session import Feed

Run = Callable[[Graph | onnx.ModelProto, Mapping[str, Feed]], list[Array]]

HINTS = st.sampled_from(["", "a", "a_1", "b", "b_1", "x", "c", "y", "constant", "Neg_out"])
FEEDS = np.array([3, -2], np.float32)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Float vectors through Neg, Add and Identity; Ifs three deep that read anything in sight; few names for all."""
    b = Builder("main", opset=17)
    x = b.input("x", DType.FLOAT, (2,))
    c = b.input("c", DType.BOOL, ())
    held = b.initializer(draw(HINTS.filter(bool)), np.array([10, 20], np.float32))
    last = _fill(draw, b, [x, held], c, depth=0)
    b.output("y", last)
    b.output("again", draw(st.sampled_from([last, x, held])))
    return b.graph()


def _fill(draw: st.DrawFn, b: Builder, values: list[Value], c: Value, depth: int) -> Value:
    values = list(values)
    for number in range(draw(st.integers(1, 4))):
        kinds = ["Neg", "Add", "Identity", "loose"] + ["If"] * (depth < 3)
        kind = draw(st.sampled_from(kinds))
        picked = draw(st.sampled_from(values))
        hint = draw(HINTS)
        if kind == "If":
            bodies = (b.body("then"), b.body("else"))
            for body in bodies:
                body.output(draw(HINTS.filter(bool)), _fill(draw, body, values, c, depth + 1))
            branches = {"then_branch": bodies[0].graph(), "else_branch": bodies[1].graph()}
            values.append(b.node("If", (c,), branches, result=hint))
        elif kind == "loose":
            loose = b.constant(np.array([number, depth], np.float32), draw(HINTS))
            values.append(b.node("Add", (picked, loose), result=hint))
        else:
            operands = (picked, draw(st.sampled_from(values))) if kind == "Add" else (picked,)
            values.append(b.node(kind, operands, result=hint))
    return draw(st.sampled_from(values))


def interpret(graph: Graph, known: dict[Value, Array], condition: bool) -> list[Array]:
    """What the graph computes by identity of its values, whatever they are called."""
    known = dict(known)

    def read(value: Value | None) -> Array:
        assert value is not None
        return value.constant.array() if value.constant is not None else known[value]

    for node in graph.nodes:
        if node.op == "If":
            branch = node.subgraph("then_branch" if condition else "else_branch")
            known[node.result] = interpret(branch, known, condition)[0]
            continue
        arrays = [np.asarray(read(operand), np.float32) for operand in node.operands]
        known[node.result] = arrays[0] + arrays[1] if node.op == "Add" else arrays[0] * (-1 if node.op == "Neg" else 1)
    return [read(value) for value in graph.outputs]


def hoist(graph: Graph, node: Node) -> None:
    """Move a node out of the branch that it stands in, where its operands allow it."""
    home = node.graph
    if home is None or home.owner is None or home.owner.graph is None or node.graphs:
        return
    if all(o is None or o.constant is not None or o.graph is not home for o in node.operands):
        home.owner.graph.insert(node, before=home.owner)


def drop(graph: Graph, node: Node) -> None:
    if node.op == "Identity" and node.operands[0] is not None and node.graph is not None:
        graph.replace_all_uses_with(node.result, node.operands[0])
        node.graph.erase(node)


def rename(graph: Graph, node: Node) -> None:
    """A new node in the place of an old one, under another's name."""
    if node.op == "Neg" and node.graph is not None:
        again = Node("Mul", (node.operands[0], constant(np.full(2, -1, np.float32), "a")), results=("a",))
        node.graph.insert(again, before=node)
        infer(again)
        graph.replace_all_uses_with(node.result, again.result)
        node.graph.erase(node)


def interpret_all(graph: Graph, condition: bool) -> list[Array]:
    x, c = graph.inputs
    return interpret(graph, {x: FEEDS, c: np.array(condition)}, condition)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs(), data=st.data())
def test_names_mean_what_they_meant(graph: Graph, data: st.DataObject, run: Run) -> None:
    expected = {condition: interpret_all(graph, condition) for condition in (True, False)}
    graph = ir.load(ir.emit(graph)) if data.draw(st.booleans(), "loaded") else graph
    for change in data.draw(st.lists(st.sampled_from([hoist, drop, rename]), max_size=3), "changes"):
        for node in list(graph.walk()):
            change(graph, node)
    model = ir.emit(graph)
    for condition, results in expected.items():
        for one, other in zip(run(model, {"x": FEEDS, "c": np.array(condition)}), results, strict=True):
            np.testing.assert_array_equal(one, other)
