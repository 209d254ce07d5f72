"""The networkx view answers what cuts, dominators, components and matchings are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import networkx as nx
import numpy as np
from onnx import parser

from planish import ir
from planish.ir import Builder, DType
from planish.ir.graph import Node, Value
from planish.ir.tensor import ArrayTensor
from planish.ir.view import OPERANDS, Vertex, digraph


def named(graph: ir.Graph) -> dict[str, Vertex]:
    """Vertices by what stands in the model: nodes by their labels in capitals, values by their names."""
    found: dict[str, Vertex] = {}
    for node in graph.walk():
        found[node.label.upper()] = node
        found |= {result.name: result for result in node.results}
    found |= {value.name: value for value in (*graph.inputs, *graph.initializers)}
    return found


def dominators(view: nx.DiGraph[Vertex], start: Vertex) -> Mapping[Vertex, Vertex]:
    found = nx.immediate_dominators(view, start)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  types
    return cast("Mapping[Vertex, Vertex]", found)


def same_op(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    return a["op"] == b["op"]


def diamond() -> ir.Graph:
    """x -> a, then b and c in parallel, then d = b + c + b."""
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, ("N",))
    w = b.initializer("w", np.ones(1, np.float32))
    a = b.node("Mul", (x, w), name="A", result="a")
    left = b.node("Relu", (a,), name="B", result="b")
    right = b.node("Neg", (a,), name="C", result="c")
    b.output("d", b.node("Sum", (left, right, left), name="D", result="d"))
    return b.graph()


def branching() -> ir.Graph:
    """`y = If(c)` with a branch that reads `outside` and one that loops over it."""
    return ir.load(
        parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (bool c, float[N] x, int64 trips) => (float[N] y) {
                [MAKE] outside = Neg (x)
                [IF] y = If (c) <
                    then_branch = t () => (p) { [READ] p = Relu (outside) },
                    else_branch = e () => (q) {
                        [LOOP] q = Loop (trips, , x) <body = b (int64 i, bool go, float[N] s) => (bool go2, s2) {
                            [KEEP] go2 = Identity (go)
                            [STEP] s2 = Add (s, outside)
                        }>
                    }>
            }"""
        )
    )


def test_edges_carry_operand_positions() -> None:
    graph = diamond()
    view, at = digraph(graph), named(graph)
    assert view.edges[at["b"], at["D"]][OPERANDS] == (0, 2)
    assert view.edges[at["c"], at["D"]][OPERANDS] == (1,)
    assert list(view.successors(at["A"])) == [at["a"]]
    assert list(view.successors(at["d"])) == [graph.returns]
    assert [vertex for vertex in view if not view.pred[vertex]] == [at["x"], at["w"]]
    assert len(view) == 11


def test_vertices_come_in_the_order_of_the_graph() -> None:
    graph = diamond()
    order = [vertex for vertex in digraph(graph) if isinstance(vertex, Node)]
    assert order == [*graph.nodes, graph.returns]
    assert list(nx.topological_sort(digraph(graph))) == list(nx.topological_sort(digraph(graph)))


def test_dominators_name_values() -> None:
    graph = diamond()
    view, at = digraph(graph), named(graph)
    after = dominators(view.reverse(), graph.returns)
    assert after[at["a"]] is at["D"]
    assert after[at["b"]] is at["D"]
    before = dominators(view, at["x"])
    assert before[at["D"]] is at["a"]


def test_a_cut_is_a_set_of_values() -> None:
    graph = diamond()
    view, at = digraph(graph), named(graph)
    flow: nx.DiGraph[tuple[Vertex, str]] = nx.DiGraph()
    for vertex in view:
        weight = 1 if isinstance(vertex, Value) else len(view)
        flow.add_edge((vertex, "in"), (vertex, "out"), capacity=weight)
    flow.add_edges_from((((a, "out"), (b, "in")) for a, b in view.edges), capacity=len(view))
    found = nx.minimum_cut(flow, (at["x"], "in"), (at["D"], "in"))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  types
    size, (side, _) = cast("tuple[int, tuple[set[tuple[Vertex, str]], object]]", found)
    values = [vertex for vertex in view if isinstance(vertex, Value)]
    assert size == 1
    assert {v for v in values if ((v, "in") in side) != ((v, "out") in side)} in ({at["x"]}, {at["a"]})


def test_components_and_matchings() -> None:
    graph = diamond()
    lone = graph.add_initializer("lone", ArrayTensor(np.ones(1, np.float32)))
    components = sorted(map(len, nx.weakly_connected_components(digraph(graph))))
    assert components == [1, 11]
    assert digraph(graph).degree(lone) == 0
    pattern: nx.DiGraph[str] = nx.DiGraph([("relu", "r"), ("r", "sum"), ("neg", "n"), ("n", "sum")])
    for vertex in pattern:
        pattern.nodes[vertex]["op"] = {"relu": "Relu", "neg": "Neg", "sum": "Sum"}.get(vertex, "")
    view = digraph(graph)
    for vertex in view:
        view.nodes[vertex]["op"] = vertex.op if isinstance(vertex, Node) else ""
    matcher = nx.isomorphism.DiGraphMatcher(view, pattern, same_op)
    (match,) = cast("list[dict[Vertex, str]]", list(matcher.subgraph_isomorphisms_iter()))
    assert {name: str(vertex) for vertex, name in match.items() if isinstance(vertex, Value)} == {"r": "%b", "n": "%c"}


def test_nested_graphs_are_seen_through() -> None:
    graph = branching()
    view, at = digraph(graph), named(graph)
    assert nx.is_directed_acyclic_graph(view)
    assert {str(vertex) for vertex in view.successors(at["outside"])} == {str(at["READ"]), str(at["STEP"])}
    assert nx.has_path(view, at["x"], at["STEP"])
    assert nx.has_path(view, at["trips"], at["KEEP"])
    assert nx.has_path(view, at["STEP"], at["IF"])
    assert not nx.has_path(view, at["STEP"], at["READ"])
    assert not nx.has_path(view, at["c"], at["READ"])
    after = dominators(view.reverse(), graph.returns)
    assert after[at["outside"]] is at["IF"]


def test_without_nested_graphs_an_owner_reads_what_they_capture() -> None:
    graph = branching()
    view, at = digraph(graph, nested=False), named(graph)
    assert [v.label for v in view if isinstance(v, Node)] == ["MAKE", "IF", "Return"]
    edges = {str(value): view.edges[value, at["IF"]][OPERANDS] for value in view.predecessors(at["IF"])}
    assert edges == {"%c": (0,), "%outside": (), "%trips": (), "%x": ()}


def test_a_nested_graph_on_its_own() -> None:
    graph = branching()
    body = next(node for node in graph.walk() if node.op == "Loop").subgraph("body")
    view = digraph(body)
    assert {str(vertex) for vertex in view if not view.pred[vertex]} == {"%i", "%go", "%s", "%outside"}
    assert nx.has_path(view, named(graph)["outside"], body.returns)


def test_the_view_is_a_copy() -> None:
    graph = diamond()
    view = digraph(graph)
    view.clear()
    assert len(digraph(graph)) == 11
