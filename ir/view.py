"""The graph as networkx sees it, for algorithms: dominators, cuts, components, matchings, longest paths."""

from __future__ import annotations

import networkx as nx

from planish.ir.emit_names import reads
from planish.ir.graph import Graph, Node, Value

Vertex = Node | Value
OPERANDS = "operands"


def digraph(graph: Graph, *, nested: bool = True) -> nx.DiGraph[Vertex]:
    """A copy of the graph's structure, with an edge from `a` to `b` where `b` cannot be without `a`. It has no cycles.

    Nodes and values are both vertices, the objects themselves: a value with several readers is one vertex, so that
    dominators name values and a cut through vertices is a set of values to keep. An edge from a value to a node has the
    operand positions under "operands". Inputs and constants have no predecessor; the one sink is `graph.returns`, from
    which post-dominators start (`nx.immediate_dominators(view.reverse(), graph.returns)`). Vertices come in the
    graph's order, so results that depend on order are the same in every run.

    nested: what nested graphs hold is there too. A captured value has its edge to the inner node that reads it; an
    inner input depends on every operand of the node that owns it, and that node on what each inner graph returns.
    Otherwise a node with nested graphs is one vertex that reads what they capture, at no operand position.
    """
    view: nx.DiGraph[Vertex] = nx.DiGraph()
    _add_graph(view, graph, nested)
    return view


def _add_graph(view: nx.DiGraph[Vertex], graph: Graph, nested: bool) -> None:
    view.add_nodes_from(graph.inputs)
    view.add_nodes_from(graph.initializers)
    for node in graph.nodes:
        for inner in node.graphs:
            if nested:
                view.add_edges_from(
                    (operand, value) for operand in node.operands if operand is not None for value in inner.inputs
                )
                _add_graph(view, inner, nested)
                view.add_edge(inner.returns, node)
            else:
                view.add_edges_from(((value, node) for value in reads(inner)), operands=())
        _add_node(view, node)
    _add_node(view, graph.returns)


def _add_node(view: nx.DiGraph[Vertex], node: Node) -> None:
    view.add_node(node)
    for index, operand in enumerate(node.operands):
        if operand is not None:
            before = view.edges[operand, node][OPERANDS] if view.has_edge(operand, node) else ()
            view.add_edge(operand, node, operands=(*before, index))
    view.add_edges_from((node, result) for result in node.results)
