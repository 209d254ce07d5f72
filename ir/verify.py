"""The verifier: edges agree both ways, values are made before they are read, types agree with the operators' rules."""

from __future__ import annotations

from collections.abc import Iterable

from planish.ir.errors import GraphError
from planish.ir.graph import Graph, Node, Value
from planish.ir.infer import check


def verify(graph: Graph, *, types: bool = True) -> None:
    """Raise GraphError, naming the node, at the first thing that is wrong in a graph or one nested in it.

    types: also infer every node's types afresh from its operands and hold them against those recorded.
    """
    _Verifier(types).graph(graph, set())
    if types and graph.owner is None:
        graph.verified = graph.version


def verify_nodes(nodes: Iterable[Node]) -> None:
    """Check edges and types of the given nodes alone, those that are still in a graph."""
    for node in nodes:
        if node.graph is not None:
            _check_edges(node)
            if node is not node.graph.returns:
                check(node)


class _Verifier:
    def __init__(self, types: bool) -> None:
        self.types = types

    def graph(self, graph: Graph, defined: set[Value]) -> None:
        """`defined` holds what the graphs around it have made so far, and again when it is done."""
        defined.update(graph.inputs)
        inner: list[Value] = list(graph.inputs)
        for node in graph.nodes:
            self.node(node, graph, defined)
            defined.update(node.results)
            inner.extend(node.results)
        self.node(graph.returns, graph, defined)
        if len(graph.returns.operands) != len(graph.output_names):
            raise GraphError(
                f"graph {graph.name!r} returns other than its {len(graph.output_names)} outputs", graph.returns
            )
        if graph.owner is not None:
            defined.difference_update(inner)

    def node(self, node: Node, graph: Graph, defined: set[Value]) -> None:
        if node.graph is not graph:
            raise GraphError("a node stands in a graph that it does not belong to", node)
        for operand in node.operands:
            if operand is None or operand in defined:
                continue
            if operand.constant is None or operand.producer is not None:
                raise GraphError(f"{operand} is read before it is made, or from another graph", node)
        _check_edges(node)
        for result in node.results:
            if result in defined:
                raise GraphError(f"{result} is made twice", node)
        for nested in node.graphs:
            if nested.owner is not node:
                raise GraphError("a nested graph does not know its owner", node)
            self.graph(nested, defined)
        if self.types and node is not graph.returns:
            check(node)


def _check_edges(node: Node) -> None:
    operands = node.operands
    for operand in operands:
        if operand is not None and operand.readers.get(node) != operands.count(operand):
            raise GraphError(f"{operand} does not count the uses that a node makes of it", node)
    for index, result in enumerate(node.results):
        if result.producer is not node or result.index != index:
            raise GraphError(f"{result} does not know its producer", node)
        for user in result.readers:
            if user.graph is None or result not in user.operands:
                raise GraphError(f"{result} counts a reader that does not read it", node)
